"""The report of a run: one page, its tables, figures and gallery."""
