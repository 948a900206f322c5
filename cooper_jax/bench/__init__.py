"""Timing of the sampler and the trainer: python -m cooper_jax.bench."""
