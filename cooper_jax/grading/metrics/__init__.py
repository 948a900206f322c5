"""Benchmark-grade metrics, one subject per file; numpy only."""
