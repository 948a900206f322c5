"""Sampling: one compiled function for interleaved text and maps."""
