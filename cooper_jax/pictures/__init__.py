"""Maps as pictures: colours, strips, plots."""
