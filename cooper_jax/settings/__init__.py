"""Settings of a config: what they may be, each and together."""
