"""Memory and time that a run would need on a slice, found without the slice."""
