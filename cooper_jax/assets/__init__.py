"""Small files that the package ships with."""
