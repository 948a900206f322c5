"""Weights: released models in and out, as folders of safetensors files."""
