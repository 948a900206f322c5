"""What every training stage stands on: state, checkpoints, loop, logs."""
