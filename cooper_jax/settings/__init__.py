"""What the settings of a config may be, each and together."""
