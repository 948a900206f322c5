"""Room -> image, depth, classes and instances."""
