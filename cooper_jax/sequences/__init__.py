"""Sequences: segments <-> rows of tokens, and the one token distribution."""
