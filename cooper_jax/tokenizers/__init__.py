"""Turning text and maps into tokens and back."""
