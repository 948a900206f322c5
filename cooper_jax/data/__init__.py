"""Everything that turns images and questions into training examples."""
