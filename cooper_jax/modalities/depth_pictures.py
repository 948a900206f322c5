"""Colours of depth: metres on a log scale, and the relative error.

A colour means the same metre or error in the report, the notebooks and the
TensorBoard images. Plain numpy, u8 [H, W, 3] out.
"""

import functools
import math

import numpy as np

from cooper_jax.modalities import Scale

NO_READING = (128, 128, 128)
ERROR_LIMIT = 0.5  # relative error at which the error colours end
NICE_METRES = tuple(
  m * 10.0**k for k in range(-2, 3) for m in (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
)


@functools.cache
def colours(name):
  """The 256 RGB rows of a matplotlib colour map, u8 [256,3]."""
  import matplotlib

  rows = matplotlib.colormaps[name](np.arange(256))[:, :3]
  return (255 * rows + 0.5).astype(np.uint8)


def depth_colours():
  """Near is bright, far is dark."""
  return colours("viridis")[::-1]


def error_colours():
  """None is pale, large is dark red."""
  return colours("OrRd")


def depth_range(*depths):
  """(nearest, farthest) metres over all readings, (1, 10) if there are none."""
  readings = [d[np.isfinite(d) & (d > 0)] for d in depths if d is not None]
  readings = [r for r in readings if r.size]
  if not readings:
    return 1.0, 10.0
  low = min(float(r.min()) for r in readings)
  high = max(float(r.max()) for r in readings)
  return low, max(high, low * 1.01)


def depth_picture(depth_HW, low=None, high=None):
  """Depth in metres as colour on a log scale from `low` to `high`.

  Pixels without a reading (0, negative or not finite) are grey. Give the same
  range to two maps that are to be compared.
  """
  depth_HW = np.asarray(depth_HW, np.float32)
  if low is None or high is None:
    low, high = depth_range(depth_HW)
  valid_HW = np.isfinite(depth_HW) & (depth_HW > 0)
  logs_HW = np.log(np.where(valid_HW, depth_HW, low))
  share_HW = (logs_HW - math.log(low)) / (math.log(high) - math.log(low))
  return _lookup(share_HW, valid_HW, depth_colours())


def relative_error(drawn_HW, true_HW):
  """|drawn - true| / true, NaN where the truth has no reading."""
  true_HW = np.asarray(true_HW, np.float32)
  valid_HW = np.isfinite(true_HW) & (true_HW > 0)
  safe_HW = np.where(valid_HW, true_HW, 1.0)
  error_HW = np.abs(np.asarray(drawn_HW, np.float32) - safe_HW) / safe_HW
  return np.where(valid_HW, error_HW, np.nan)


def error_picture(drawn_HW, true_HW, limit=ERROR_LIMIT):
  """Relative depth error as colour from 0 to `limit`, grey without truth."""
  error_HW = relative_error(drawn_HW, true_HW)
  valid_HW = np.isfinite(error_HW)
  return _lookup(
    np.where(valid_HW, error_HW, 0) / limit, valid_HW, error_colours()
  )


def metre_ticks(low, high, most=5):
  """(metres, share of the bar) of round depths inside a log colour bar."""
  inside = [m for m in NICE_METRES if low * 1.02 <= m <= high * 0.98]
  while len(inside) > most:
    inside = inside[::2]
  span = math.log(high / low)
  return [(m, math.log(m / low) / span) for m in inside]


def _lookup(share_HW, valid_HW, table):
  index_HW = np.clip(share_HW * 255 + 0.5, 0, 255).astype(np.uint8)
  picture_HWC = table[index_HW].copy()
  picture_HWC[~valid_HW] = NO_READING
  return picture_HWC


def panels(true, drawn):
  """The true and the drawn map in one scale, and the error, as captioned."""
  low, high = depth_range(true, drawn)
  both = true is not None and drawn is not None
  found = [
    (f"{kind} depth", None if d is None else depth_picture(d, low, high))
    for kind, d in (("true", true), ("drawn", drawn))
  ]
  return [*found, ("error", error_picture(drawn, true) if both else None)]


def scale(maps):
  """A bar of metres for all these maps, None where there is none."""
  if all(each is None for each in maps):
    return None
  low, high = depth_range(*maps)
  ticks = [(f"{metres:g}", share) for metres, share in metre_ticks(low, high)]
  return Scale("depth", depth_colours(), low, high, "m", ticks)


def scales():
  """(name, colours, words) of each colour scale in use."""
  limit = f"{100 * ERROR_LIMIT:.0f} %"
  return [
    ("depth", depth_colours(), "depth: near to far, each row its own metres"),
    ("error", error_colours(), f"error: 0 to {limit} of the true depth"),
  ]
