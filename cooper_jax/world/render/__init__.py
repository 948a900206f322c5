"""Renderer of the world: room -> image, depth, classes and instances."""
