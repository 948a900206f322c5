"""Grading: reads what a response answers, and measures answers and maps."""
