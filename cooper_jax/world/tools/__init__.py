"""Commands that look at the rendered world, time it and try to cheat."""
