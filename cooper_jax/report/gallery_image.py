"""A few rows of the gallery as one picture, for a README or a slide.

Every report writes it beside the page, as report/gallery.png.
"""

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cooper_jax.pictures import drawing
from cooper_jax.report import gallery

TILE, GAP, MARGIN, HEAD, TEXT = 176, 8, 20, 34, 74
TITLES = (
  "input",
  "true depth",
  "drawn depth",
  "error",
  "true classes",
  "drawn classes",
)
INK, QUIET, PAPER = (35, 38, 43), (110, 114, 122), (252, 251, 248)
RIGHT, WRONG = (44, 122, 75), (176, 58, 58)


def choose(rows, count=6):
  """The first rows that were held to draw both maps: nothing is picked.

  Where no policy is held to both, the first that drew any.
  """
  both = [row for row in rows if row["mode"] == "both"]
  drew = [
    row
    for row in rows
    if row["depth_drawn"] is not None or row["segmentation_drawn"] is not None
  ]
  return (both or drew)[:count]


def gallery_picture(rows):
  """A picture u8 [H,W,3] of a few gallery rows under each other."""
  width = 2 * MARGIN + 6 * TILE + 5 * GAP
  height = HEAD + len(rows) * (TILE + TEXT) + MARGIN // 2
  sheet = Image.new("RGB", (width, height), PAPER)
  pen = ImageDraw.Draw(sheet)
  small, normal = (ImageFont.load_default(size) for size in (14, 17))
  for column, title in enumerate(TITLES):
    x = MARGIN + column * (TILE + GAP)
    pen.text((x, 10), title, fill=QUIET, font=small)
  for index, row in enumerate(rows):
    top = HEAD + index * (TILE + TEXT)
    for column, one in enumerate(_pictures(row)):
      if one is not None:
        tile = Image.fromarray(one).resize(
          (TILE, TILE), Image.Resampling.NEAREST
        )
        sheet.paste(tile, (MARGIN + column * (TILE + GAP), top))
    _words(pen, row, top + TILE + 6, normal, small)
  return np.asarray(sheet)


def _pictures(row):
  depth = row["depth_true"], row["depth_drawn"]
  low, high = drawing.depth_range(*depth)
  both = all(one is not None for one in depth)
  return [
    np.asarray(row["image"]),
    *(d if d is None else drawing.depth_picture(d, low, high) for d in depth),
    drawing.error_picture(depth[1], depth[0]) if both else None,
    *(
      s if s is None else drawing.segmentation_picture(s)
      for s in (row["segmentation_true"], row["segmentation_drawn"])
    ),
  ]


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
