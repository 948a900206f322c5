"""Process-wide matters: signals, compiled code, freed memory."""
