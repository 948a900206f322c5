"""Where the objects of a rendered room stand, and what they are."""
