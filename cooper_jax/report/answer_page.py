"""An answer as one picture: question, photograph, maps over it, trace, answer.

The photograph keeps its aspect and its pixels (up to MAX_SIDE a side), and the
maps, which the model draws of a small square, are stretched back over it. Text
and marks are set with Pillow, because a plot would resample the photograph.
"""

import functools
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MAX_SIDE, SMALLEST = 2048, 448  # pixels of the longer side of a panel
OVER = 0.6  # of a map's colour over the grey photograph
_INK, SOFT, _PAPER = (20, 20, 20), (95, 95, 95), (255, 255, 255)


def page(photo, maps, places, question: str, lines, *, over: bool):
  """The picture, u8 [H, W, 3].

  Args:
    photo: u8 [H, W, 3].
    maps: (modality module, target) in the order drawn.
    places: (y, x) as fractions of the height and width, numbered from 1.
    question: set above.
    lines: (text, whether it is an answer) set below.
    over: lay the maps over the photograph, rather than beside it alone.
  """
  base = panel(photo)
  wide, high = base.size
  columns = 1 if wide > 2.2 * high else 1 + len(maps)
  gap = max(8, round(0.02 * max(wide, high)))
  width = columns * (wide + gap) + gap
  size = int(min(max(width / 60, 0.026 * max(wide, high), 15), 60))
  parts = [words(question, width - 2 * gap, size, bold=True)]
  panels = [titled(marked(base, places, size), "input", None, size)]
  for module, target in maps:
    shown = stretched(module.picture(target), target, base, over)
    under = legend(module, target, wide, size)
    panels.append(titled(shown, module.TITLE, under, size))
  for start in range(0, len(panels), columns):
    parts.append(beside(panels[start : start + columns], gap))
  for text, strong in lines:
    parts.append(words(text, width - 2 * gap, size, bold=strong))
  return np.asarray(below(parts, gap, width))


def panel(photo) -> Image.Image:
  """The photograph at its own size: smaller if huge, whole pixels if tiny."""
  picture = Image.fromarray(np.asarray(photo))
  longer = max(picture.size)
  if longer > MAX_SIDE:
    scale = MAX_SIDE / longer
    shape = [max(1, round(side * scale)) for side in picture.size]
    return picture.resize(shape, Image.Resampling.LANCZOS)
  factor = -(-SMALLEST // longer) if longer < SMALLEST else 1
  shape = [side * factor for side in picture.size]
  return picture.resize(shape, Image.Resampling.NEAREST)


def stretched(shown, target, base: Image.Image, over: bool) -> Image.Image:
  """A map in its colours, as large as the photograph, and over it."""
  target = np.asarray(target)
  picture = Image.fromarray(shown)
  smooth = target.ndim == 3 or np.issubdtype(target.dtype, np.floating)
  way = Image.Resampling.BILINEAR if over and smooth else None
  picture = picture.resize(base.size, way or Image.Resampling.NEAREST)
  if not over:
    return picture
  return Image.blend(base.convert("L").convert("RGB"), picture, OVER)


def marked(base: Image.Image, places, size: int) -> Image.Image:
  """The photograph with numbered places; no number hides a place or number."""
  picture = base.copy()
  draw = ImageDraw.Draw(picture)
  wide, high = picture.size
  ring, radius = max(3, round(0.3 * size)), round(0.75 * size)
  spots = [(x * wide, y * high) for y, x in places]
  labels = set_apart(spots, (wide, high), ring, radius)
  line = max(2, size // 8)
  for (x, y), (a, b) in zip(spots, labels, strict=True):
    draw.line([x, y, a, b], fill=_PAPER, width=line + 2)
    draw.line([x, y, a, b], fill=_INK, width=line)
  for number, ((x, y), (a, b)) in enumerate(zip(spots, labels, strict=True), 1):
    for r, colour in ((ring, _INK), (ring - 1, _PAPER)):
      draw.ellipse([x - r, y - r, x + r, y + r], outline=colour, width=line)
    box = [a - radius, b - radius, a + radius, b + radius]
    draw.ellipse(box, fill=_INK, outline=_PAPER, width=max(1, line // 2))
    draw.text((a, b), str(number), _PAPER, font(size, True), anchor="mm")
  return picture


def set_apart(spots, shape, ring: int, radius: int) -> list:
  """Where the numbers of spots stand: near, inside, and on nothing else.

  Where all is full, the number stands where it hides least.
  """
  wide, high = shape
  taken = []

  def hidden(x, y):
    over = sum(
      max(0.0, 2 * radius + 2 - math.dist((x, y), each)) for each in taken
    )
    for each in spots:
      over += max(0.0, radius + ring + 2 - math.dist((x, y), each))
    inside = radius <= x <= wide - radius and radius <= y <= high - radius
    return over if inside else over + wide + high

  for x, y in spots:
    tried = [
      (x + d * math.cos(angle), y + d * math.sin(angle))
      for d in (2 * radius * np.arange(1, 6)).tolist()
      for angle in (np.arange(12) * math.pi / 6 - math.pi / 4).tolist()
    ]
    taken.append(min(tried, key=lambda spot: hidden(*spot)))
  return taken


def legend(module, target, width: int, size: int) -> Image.Image | None:
  """What the colours of a map mean: a scale, or names."""
  if found := module.scale([target]):
    return bar(found, width, size)
  named = module.legend([target])
  return names(named, width, size) if named else None


def bar(scale, width: int, size: int) -> Image.Image:
  """A colour bar with its ticks, as many as have room."""
  picture = Image.new("RGB", (width, 2 * size + size // 2), _PAPER)
  rows = scale.colours
  shown = np.broadcast_to(rows, (max(4, size // 2), *rows.shape))
  edge = round(1.4 * size)
  long = max(8, width - 2 * edge)
  shown = Image.fromarray(np.ascontiguousarray(shown)).resize(
    (long, max(4, size // 2))
  )
  picture.paste(shown, (edge, 0))
  draw, free = ImageDraw.Draw(picture), -1e9
  for tick, share in scale.ticks:
    text, x = f"{tick} {scale.unit}", edge + share * long
    half = font(size).getlength(text) / 2
    draw.line([x, size // 2, x, size * 3 // 4], fill=_INK, width=2)
    if x - half > free:
      draw.text((x, 0.8 * size), text, _INK, font(size), anchor="ma")
      free = x + half + size / 2
  return picture


def names(shown, width: int, size: int) -> Image.Image:
  """Names beside their colours, in as many lines as they need."""
  spots, x, y = [], 0, 0
  for colour, name in shown:
    need = round(font(size).getlength(name) + 2.4 * size)
    if x and x + need > width:
      x, y = 0, y + round(1.4 * size)
    spots.append((x, y, name, colour))
    x += need
  picture = Image.new("RGB", (width, y + round(1.4 * size)), _PAPER)
  draw = ImageDraw.Draw(picture)
  for x, y, name, colour in spots:
    draw.rectangle([x, y, x + size, y + size], fill=colour)
    draw.text((x + 1.3 * size, y), name, _INK, font(size))
  return picture


def titled(picture, title: str, under, size: int) -> Image.Image:
  """A panel with its title above and its legend below."""
  head = words(title, picture.width, size)
  return below([p for p in (head, picture, under) if p], 4, picture.width, 0)


def words(text: str, width: int, size: int, *, bold=False) -> Image.Image:
  """Text as a picture of a width, in as many lines as it needs."""
  letters, lines = font(size, bold), [""]
  for word in text.split():
    longer = f"{lines[-1]} {word}".strip()
    while letters.getlength(longer) > width and len(longer) > 1:
      if lines[-1]:
        lines.append("")
        longer = word
        continue
      fits = max(1, int(len(longer) * width / letters.getlength(longer)) - 1)
      lines[-1], longer = longer[:fits], longer[fits:]
      lines.append("")
    lines[-1] = longer
  step = round(1.35 * size)
  picture = Image.new("RGB", (width, step * len(lines)), _PAPER)
  draw = ImageDraw.Draw(picture)
  for i, line in enumerate(lines):
    draw.text((0, i * step), line, _INK if bold else SOFT, letters)
  return picture


def beside(pictures, gap: int) -> Image.Image:
  """Pictures in a row, their tops on one line."""
  width = sum(p.width for p in pictures) + gap * (len(pictures) - 1)
  row = Image.new("RGB", (width, max(p.height for p in pictures)), _PAPER)
  x = 0
  for picture in pictures:
    row.paste(picture, (x, 0))
    x += picture.width + gap
  return row


def below(pictures, gap: int, width: int, edge: int | None = None):
  """Pictures under each other on paper of a width."""
  edge = gap if edge is None else edge
  high = sum(p.height for p in pictures) + gap * (len(pictures) - 1) + 2 * edge
  sheet, y = Image.new("RGB", (width, high), _PAPER), edge
  for picture in pictures:
    sheet.paste(picture, (edge, y))
    y += picture.height + gap
  return sheet


@functools.cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
  """DejaVu Sans, which comes with matplotlib and has most alphabets."""
  import matplotlib

  name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
  folder = Path(matplotlib.get_data_path()) / "fonts/ttf"
  return ImageFont.truetype(str(folder / name), size)
