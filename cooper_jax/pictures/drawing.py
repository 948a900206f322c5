"""Pictures as strips, rows, PNG files and plots; maps come in their colours.

What a map looks like is said by its modality (`modalities/<name>.py`). Plain
numpy, u8 [H, W, 3] out.
"""

import base64
import io
import math

import numpy as np
from PIL import Image

from cooper_jax import modalities


def enlarge(picture_HWC, size):
  """Repeats pixels until the picture is at least `size` high; never blurs."""
  factor = max(1, -(-size // picture_HWC.shape[0]))
  return picture_HWC.repeat(factor, axis=0).repeat(factor, axis=1)


def strip(pictures, gap=2):
  """Pictures side by side on white, None leaves a hole as large as the last."""
  last = next(p for p in pictures[::-1] if p is not None)
  blank = np.full(last.shape, 255, np.uint8)
  return _joined([blank if p is None else p for p in pictures], gap, axis=1)


def rows(strips, gap=2):
  """Strips under each other on white."""
  return _joined(strips, gap, axis=0)


def _joined(pictures, gap, axis):
  """Along an axis; along the other they are filled up to the longest."""
  longest, parts = max(p.shape[1 - axis] for p in pictures), []
  for number, one in enumerate(pictures):
    room = [(0, 0)] * 3
    room[axis] = (gap if number else 0, 0)
    room[1 - axis] = (0, longest - one.shape[1 - axis])
    parts.append(np.pad(one, room, constant_values=255))
  return np.concatenate(parts, axis=axis)


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


def plot_maps(image, maps, title="", places=(), modules=None):
  """A matplotlib figure of an image and its maps, with scales and names.

  maps: {modality: target}, shown in this order; what no modality draws is left
  out. places: (y, x) as fractions, numbered on the image in their order.
  modules: the modalities as a run set them up; None = as they stand.
  """
  import matplotlib.pyplot as plt

  known = modules or modalities.found()
  maps = {name: np.asarray(m) for name, m in maps.items() if name in known}
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
    module = known[name]
    axis.set_title(module.NOUN, fontsize=9)
    axis.imshow(module.picture(target))
    if scale := module.scale([target]):
      _plot_scale(figure, axis, scale)
    if named := module.legend([target]):
      _plot_names(axis, named)
  return figure


def _plot_scale(figure, axis, scale):
  from matplotlib import cm, colors

  colours = colors.ListedColormap(scale.colours / 255.0)
  bar = figure.colorbar(
    cm.ScalarMappable(colors.Normalize(0, 1), colours), ax=axis
  )
  texts, shares = zip(*scale.ticks) if scale.ticks else ((), ())
  bar.set_ticks(shares, labels=[f"{text} {scale.unit}" for text in texts])
  bar.minorticks_off()


def _plot_names(axis, named):
  from matplotlib import patches

  axis.legend(
    handles=[
      patches.Patch(color=[part / 255 for part in colour], label=name)
      for colour, name in named
    ],
    fontsize=8,
    frameon=False,
    loc="center left",
    bbox_to_anchor=(1, 0.5),
  )
