"""Cooperative perception and reasoning: one model that draws what it sees."""

__version__ = "0.1.0"
