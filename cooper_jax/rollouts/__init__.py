"""Rollouts: question -> prompt -> rollout -> response -> training document."""
