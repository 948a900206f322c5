"""Question -> prompt -> rollout -> response -> training document."""
