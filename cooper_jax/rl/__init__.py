"""Reinforcement: rewards, advantages and policy losses over text and maps."""
