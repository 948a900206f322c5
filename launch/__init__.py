"""Starts training elsewhere: Cloud TPUs, GPU nodes, containers."""
