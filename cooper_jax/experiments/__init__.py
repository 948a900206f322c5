"""Experiments: rows of one config, their shared stages, and the results."""
