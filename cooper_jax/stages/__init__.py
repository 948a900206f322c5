"""One file is one thing a user can run: `run(config, workdir)`."""
