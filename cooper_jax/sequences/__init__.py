"""Segments <-> rows of tokens, and the one token distribution."""
