"""Pictures of maps: the one place that gives depth, classes and errors colours.

The report, the notebook and the TensorBoard images all draw through here, so
a colour means the same metre, class or error wherever it is seen. Everything
is plain numpy, u8 [H,W,3] out.
"""

import base64
import functools
import io
import math

import numpy as np
from PIL import Image

from cooper_jax.modalities import segmentation

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


def segmentation_picture(segmentation_HW):
  """Class ids as palette colours; 255 (ignore) is grey."""
  ids_HW = np.asarray(segmentation_HW).astype(np.int64)
  picture_HWC = segmentation.PALETTE[ids_HW % len(segmentation.PALETTE)].copy()
  picture_HWC[ids_HW == segmentation.IGNORE] = NO_READING
  return picture_HWC


def picture(target_HW, low=None, high=None):
  """The right picture for a map by its type: float depth, integer classes,
  three channels as a direction (surface normals)."""
  target_HW = np.asarray(target_HW)
  if target_HW.ndim == 3:
    return np.clip((target_HW + 1) * 127.5, 0, 255).astype(np.uint8)
  if np.issubdtype(target_HW.dtype, np.floating):
    return depth_picture(target_HW, low, high)
  return segmentation_picture(target_HW)


def metre_ticks(low, high, most=5):
  """(metres, share of the bar) of round depths inside a log colour bar."""
  inside = [m for m in NICE_METRES if low * 1.02 <= m <= high * 0.98]
  while len(inside) > most:
    inside = inside[::2]
  span = math.log(high / low)
  return [(m, math.log(m / low) / span) for m in inside]


def enlarge(picture_HWC, size):
  """Repeats pixels until the picture is at least `size` high; never blurs."""
  factor = max(1, -(-size // picture_HWC.shape[0]))
  return picture_HWC.repeat(factor, axis=0).repeat(factor, axis=1)


def strip(pictures, gap=2):
  """Pictures of one size side by side on white, None leaves a hole."""
  shape = next(p.shape for p in pictures if p is not None)
  blank = np.full(shape, 255, np.uint8)
  bar = np.full((shape[0], gap, 3), 255, np.uint8)
  parts = []
  for one in pictures:
    parts += [blank if one is None else one, bar]
  return np.concatenate(parts[:-1], axis=1)


def map_strip(
  image,
  depth_true=None,
  depth_drawn=None,
  segmentation_true=None,
  segmentation_drawn=None,
):
  """Input, true and drawn depth, error, true and drawn classes in one row.

  For TensorBoard and quick looks; holes where something is missing.
  """
  low, high = depth_range(depth_true, depth_drawn)
  both = depth_true is not None and depth_drawn is not None
  return strip(
    [
      np.asarray(image),
      None if depth_true is None else depth_picture(depth_true, low, high),
      None if depth_drawn is None else depth_picture(depth_drawn, low, high),
      error_picture(depth_drawn, depth_true) if both else None,
      _or_none(segmentation_picture, segmentation_true),
      _or_none(segmentation_picture, segmentation_drawn),
    ]
  )


def rows(strips, gap=2):
  """Strips of one size under each other."""
  bar = np.full((gap, *strips[0].shape[1:]), 255, np.uint8)
  parts = [part for one in strips for part in (one, bar)]
  return np.concatenate(parts[:-1], axis=0)


def png(picture_HWC):
  """PNG bytes; up to 256 colours are stored as a palette, which is smaller."""
  packed_HW = picture_HWC.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1])
  found, index_HW = np.unique(packed_HW, return_inverse=True)
  if len(found) <= 256:
    table = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=-1)
    codes_HW = index_HW.reshape(packed_HW.shape).astype(np.uint8)
    image = Image.fromarray(codes_HW).convert("P")
    image.putpalette(table.astype(np.uint8).tobytes())
  else:
    image = Image.fromarray(np.ascontiguousarray(picture_HWC))
  buffer = io.BytesIO()
  image.save(buffer, "PNG", optimize=True)
  return buffer.getvalue()


def data_uri(picture_HWC):
  """The picture as a `data:` address, for pages that load nothing."""
  coded = base64.b64encode(png(picture_HWC)).decode("ascii")
  return f"data:image/png;base64,{coded}"


def _lookup(share_HW, valid_HW, table):
  index_HW = np.clip(share_HW * 255 + 0.5, 0, 255).astype(np.uint8)
  picture_HWC = table[index_HW].copy()
  picture_HWC[~valid_HW] = NO_READING
  return picture_HWC


def _or_none(draw, target):
  return None if target is None else draw(target)


def plot_curves(curves, columns=4):
  """A matplotlib figure with one small plot per {name: (steps, values)}."""
  import matplotlib.pyplot as plt

  lines = max(1, math.ceil(len(curves) / columns))
  figure, axes = plt.subplots(
    lines,
    columns,
    figsize=(3 * columns, 2.1 * lines),
    squeeze=False,
    layout="constrained",
  )
  for axis in axes.flat[len(curves) :]:
    axis.axis("off")
  for axis, (name, (steps, values)) in zip(axes.flat, curves.items()):
    axis.plot(steps, values, marker="." if len(steps) < 20 else None)
    axis.set_title(name, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
  return figure


def plot_maps(image, maps, title="", places=()):
  """A matplotlib figure of an image and its maps, with metres and names.

  maps: {title: target} in the order shown; depth f32 [H,W] in metres gets a
  colour bar, classes [H,W] their names. places: (y, x) as fractions, numbered
  on the image in their order.
  """
  import matplotlib.pyplot as plt

  figure, axes = plt.subplots(
    1,
    1 + len(maps),
    figsize=(3.4 * (1 + len(maps)), 3.2),
    squeeze=False,
    layout="constrained",
  )
  for axis in axes[0]:
    axis.axis("off")
  axes[0, 0].imshow(image)
  axes[0, 0].set_title(title or "input", fontsize=9)
  height, width = np.asarray(image).shape[:2]
  for number, (y, x) in enumerate(places, 1):
    axes[0, 0].text(
      x * width,
      y * height,
      str(number),
      fontsize=8,
      color="white",
      ha="center",
      va="center",
      bbox={"boxstyle": "circle,pad=0.15", "facecolor": "black", "alpha": 0.6},
    )
  for axis, (name, target) in zip(axes[0, 1:], maps.items(), strict=True):
    target = np.asarray(target)
    axis.set_title(name, fontsize=9)
    if target.ndim == 2 and np.issubdtype(target.dtype, np.floating):
      low, high = depth_range(target)
      axis.imshow(depth_picture(target, low, high))
      _plot_metres(figure, axis, low, high)
      continue
    axis.imshow(picture(target))
    if target.ndim == 2:
      _plot_names(axis, target)
  return figure


def _plot_metres(figure, axis, low, high):
  from matplotlib import cm, colors

  scale = cm.ScalarMappable(
    colors.LogNorm(low, high), colors.ListedColormap(depth_colours() / 255.0)
  )
  bar = figure.colorbar(scale, ax=axis)
  metres = [m for m, _ in metre_ticks(low, high)]
  bar.set_ticks(metres, labels=[f"{m:g} m" for m in metres])
  bar.minorticks_off()


def _plot_names(axis, segmentation_map):
  from matplotlib import patches

  shown = [
    patches.Patch(color=segmentation.PALETTE[i] / 255, label=name)
    for i, name in enumerate(segmentation.CLASSES)
    if (segmentation_map == i).any()
  ]
  axis.legend(
    handles=shown,
    fontsize=8,
    frameon=False,
    loc="center left",
    bbox_to_anchor=(1, 0.5),
  )
