"""A few rows of the gallery as one picture, for a README or a slide.

Every report writes it beside the page, as report/gallery.png.
"""

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cooper_jax.data import modes
from cooper_jax.report import gallery

TILE, GAP, MARGIN, HEAD, TEXT = 176, 8, 20, 34, 74
INK, QUIET, PAPER = (35, 38, 43), (110, 114, 122), (252, 251, 248)
RIGHT, WRONG = (44, 122, 75), (176, 58, 58)


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
  width = 2 * MARGIN + len(titles) * (TILE + GAP) - GAP
  height = HEAD + len(rows) * (TILE + TEXT) + MARGIN // 2
  sheet = Image.new("RGB", (width, height), PAPER)
  pen = ImageDraw.Draw(sheet)
  small, normal = (ImageFont.load_default(size) for size in (14, 17))
  for column, title in enumerate(titles):
    x = MARGIN + column * (TILE + GAP)
    pen.text((x, 10), title, fill=QUIET, font=small)
  for index, row in enumerate(rows):
    top = HEAD + index * (TILE + TEXT)
    for column, (_, one) in enumerate(gallery.panels(row)):
      if one is not None:
        tile = Image.fromarray(one).resize(
          (TILE, TILE), Image.Resampling.NEAREST
        )
        sheet.paste(tile, (MARGIN + column * (TILE + GAP), top))
    _words(pen, row, top + TILE + 6, normal, small)
  return np.asarray(sheet)


def _words(pen, row, y, normal, small):
  question = gallery.prose(row["question"])
  said = str(row["predicted"]) or "(nothing)"
  verdict = "right" if row["hit"] else f"wrong, it is {row['answer']}"
  pen.text((MARGIN, y), question, fill=INK, font=normal)
  x = MARGIN + pen.textlength(question + "   ", font=normal)
  colour = RIGHT if row["hit"] else WRONG
  pen.text((x, y), f"{said}  ({verdict})", fill=colour, font=normal)
  lines = textwrap.wrap(row["trace"], 168)[:2]
  pen.text((MARGIN, y + 23), "\n".join(lines), fill=QUIET, font=small)
