"""Training: state, optimiser, checkpoints, loop and logs of every stage."""
