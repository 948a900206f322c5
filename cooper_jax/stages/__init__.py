"""Stages: one file is one thing that a user can run, `run(config, workdir)`."""
