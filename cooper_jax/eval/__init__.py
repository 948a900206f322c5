"""Evaluation: questions, baselines, use of maps, held-out, comparisons."""
