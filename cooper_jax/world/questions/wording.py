"""Wording that question families share: names, articles, places, counts."""

from __future__ import annotations

import functools
from collections.abc import Sequence

PLURALS = {
  "box": "boxes",
  "ball": "balls",
  "can": "cans",
  "cone": "cones",
  "dome": "domes",
  "pillar": "pillars",
  "disc": "discs",
  "plank": "planks",
  "table": "tables",
  "shelf": "shelves",
}


def with_article(name: str) -> str:
  """In: "orange box"   Out: "an orange box"."""
  return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def counted(places: Sequence[str]) -> str:
  """A trace that points at all there is, with a running number.

  The place comes before any word: where to point next, and whether there is
  another place at all, is then one choice.

  In: ["<at .4 .7>", "<at .5 .2>"]   Out: "<at .4 .7> 1 <at .5 .2> 2"
  In: []   Out: "none"
  """
  return " ".join(f"{at} {i}" for i, at in enumerate(places, 1)) or "none"


@functools.lru_cache(maxsize=1 << 17)
def location(flat: int, size: int) -> str:
  """Names a pixel by the fractions of image height and width."""
  row, column = divmod(flat, size)
  return f"<at {(row + 0.5) / size:.3f} {(column + 0.5) / size:.3f}>"
