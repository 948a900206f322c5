"""Tokenizers: text and maps to tokens and back."""
