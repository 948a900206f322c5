"""Layout of a rendered room: its objects, their shapes and their places."""
