"""Evaluation: reading answers, metrics, benchmarks and the report."""
