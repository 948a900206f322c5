"""Inference: a trained model is loaded, asked about images, and draws them."""
