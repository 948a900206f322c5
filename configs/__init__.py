"""Settings: one file per thing to run, all built from `base.py`."""
