"""Spatial questions about a rendered room, with answers and traces."""
