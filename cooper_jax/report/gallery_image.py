"""A few rows of the gallery as one picture, for a README or a slide.

Every report writes it beside the page, as report/gallery.png.
"""

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cooper_jax.data import modes
from cooper_jax.report import gallery

_TILE, _GAP, _MARGIN, HEAD, _TEXT = 176, 8, 20, 34, 74
INK, QUIET, PAPER = (35, 38, 43), (110, 114, 122), (252, 251, 248)
_RIGHT, WRONG = (44, 122, 75), (176, 58, 58)


def choose(rows, count=6):
  """The first rows that were held to draw both maps: nothing is picked.

  Where no policy is held to both, the first that drew any.
  """
  both = [row for row in rows if row["mode"] == modes.BOTH]
  drew = [
    row
    for row in rows
    if any(made is not None for _, made in row["maps"].values())
  ]
  return (both or drew)[:count]


def gallery_picture(rows):
  """A picture u8 [H,W,3] of a few gallery rows under each other."""
  titles = [title for title, _ in gallery.panels(rows[0])]
  width = 2 * _MARGIN + len(titles) * (_TILE + _GAP) - _GAP
  height = HEAD + len(rows) * (_TILE + _TEXT) + _MARGIN // 2
  sheet = Image.new("RGB", (width, height), PAPER)
  pen = ImageDraw.Draw(sheet)
  small, normal = (ImageFont.load_default(size) for size in (14, 17))
  for column, title in enumerate(titles):
    x = _MARGIN + column * (_TILE + _GAP)
    pen.text((x, 10), title, fill=QUIET, font=small)
  for index, row in enumerate(rows):
    top = HEAD + index * (_TILE + _TEXT)
    for column, (_, one) in enumerate(gallery.panels(row)):
      if one is not None:
        tile = Image.fromarray(one).resize(
          (_TILE, _TILE), Image.Resampling.NEAREST
        )
        sheet.paste(tile, (_MARGIN + column * (_TILE + _GAP), top))
    _words(pen, row, top + _TILE + 6, normal, small)
  return np.asarray(sheet)


def _words(pen, row, y, normal, small):
  question = gallery.prose(row["question"])
  said = str(row["predicted"]) or "(nothing)"
  verdict = "right" if row["hit"] else f"wrong, it is {row['answer']}"
  pen.text((_MARGIN, y), question, fill=INK, font=normal)
  x = _MARGIN + pen.textlength(question + "   ", font=normal)
  colour = _RIGHT if row["hit"] else WRONG
  pen.text((x, y), f"{said}  ({verdict})", fill=colour, font=normal)
  lines = textwrap.wrap(row["trace"], 168)[:2]
  pen.text((_MARGIN, y + 23), "\n".join(lines), fill=QUIET, font=small)
