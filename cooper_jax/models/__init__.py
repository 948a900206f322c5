"""The unified transformer: vision in, text and map codes out."""
