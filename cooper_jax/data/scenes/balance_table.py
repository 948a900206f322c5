"""Measured acceptance numbers; written by `calibrate.py`."""

TABLE = {
  "weights": {},
  "lengths": {},
  "counts": {},
  "keep": {},
  "bias": {},
  "slope": {},
  "limit": {},
}
