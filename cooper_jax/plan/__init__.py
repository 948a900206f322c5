"""What a run on a slice would need, found out without the slice."""
