"""The words of the world: how questions are put and how numbers are written.

The last phrasing of each family is kept for the held-out split.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

TEMPLATES = {
  "closer": (
    "Which is closer to the camera , the {a} or the {b} ?",
    "Is the {a} or the {b} nearer to us ?",
    "Of the {a} and the {b} , which is closer ?",
    "Which has less distance to the viewer , the {a} or the {b} ?",
  ),
  "nearer_to": (
    "Which is nearer to the {c} , the {a} or the {b} ?",
    "Is the {a} or the {b} closer to the {c} ?",
    "What is nearer to the {c} : the {a} or the {b} ?",
    "Which has less distance to the {c} , the {a} or the {b} ?",
  ),
  "distance": (
    "How far is the {a} from the camera ?",
    "What is the distance to the {a} ?",
    "How far away is the {a} ?",
    "How many metres away is the {a} ?",
  ),
  "object_distance": (
    "How far is the {a} from the {b} ?",
    "What is the distance between the {a} and the {b} ?",
    "How far apart are the {a} and the {b} ?",
    "How many metres lie between the {a} and the {b} ?",
  ),
  "gap": (
    "How wide is the gap between the {a} and the {b} ?",
    "What is the free space between the {a} and the {b} ?",
    "How large is the gap from the {a} to the {b} ?",
    "How much room is there between the {a} and the {b} ?",
  ),
  "height": (
    "How tall is the {a} ?",
    "What is the height of the {a} ?",
    "How high is the {a} from bottom to top ?",
    "How many metres tall is the {a} ?",
  ),
  "width": (
    "How wide is the {a} ?",
    "What is the width of the {a} ?",
    "How wide is the {a} from left to right ?",
    "How many metres wide is the {a} ?",
  ),
  "left_right": (
    "Which is further {side} , the {a} or the {b} ?",
    "Is the {a} or the {b} more to the {side} ?",
    "Of the {a} and the {b} , which is on the {side} ?",
    "What stands further to the {side} , the {a} or the {b} ?",
  ),
  "above_below": (
    "Is the {a} {side} the {b} ?",
    "In the image , is the {a} {side} the {b} ?",
    "Is the {a} seen {side} the {b} ?",
    "Does the {a} appear {side} the {b} ?",
  ),
  "front_behind": (
    "Is the {a} {side} the {b} ?",
    "Is the {a} placed {side} the {b} ?",
    "Seen from the camera , is the {a} {side} the {b} ?",
    "Does the {a} stand {side} the {b} ?",
  ),
  "occlusion": (
    "Is the {a} partly hidden by the {b} ?",
    "Does the {b} cover part of the {a} ?",
    "Does the {b} hide a part of the {a} ?",
    "Is a part of the {a} behind the {b} ?",
  ),
  "count": (
    "How many {a} are there ?",
    "Count the {a} .",
    "What is the number of {a} ?",
    "How many {a} can you see ?",
  ),
  "exists": (
    "Is there {a} ?",
    "Is {a} in the room ?",
    "Does the image show {a} ?",
    "Can you see {a} ?",
  ),
  "taller": (
    "Which is taller , the {a} or the {b} ?",
    "Is the {a} or the {b} taller ?",
    "Of the {a} and the {b} , which has more height ?",
    "Which is higher from bottom to top , the {a} or the {b} ?",
  ),
  "reach": (
    "Is the {a} within {t} m of the {b} ?",
    "Can an arm of {t} m reach from the {b} to the {a} ?",
    "Are the {a} and the {b} less than {t} m apart ?",
    "Is it less than {t} m from the {a} to the {b} ?",
  ),
  "viewpoint": (
    "From the {a} facing the {b} , is the {c} left or right ?",
    "Standing at the {a} looking at the {b} , is the {c} left or right ?",
    "At the {a} facing the {b} , is the {c} on your left or right ?",
    "Seen from the {a} towards the {b} , is the {c} left or right ?",
  ),
}
FAMILIES = tuple(TEMPLATES)
PHRASINGS = 4

ANSWER_TYPES = {
  "closer": "choice",
  "nearer_to": "choice",
  "distance": "number",
  "object_distance": "number",
  "gap": "number",
  "height": "number",
  "width": "number",
  "left_right": "choice",
  "above_below": "yes_no",
  "front_behind": "yes_no",
  "occlusion": "yes_no",
  "count": "number",
  "exists": "yes_no",
  "taller": "choice",
  "reach": "yes_no",
  "viewpoint": "choice",
}
# What is asked of how far things are, as a number or in comparison.
DISTANCES = (
  "closer",
  "nearer_to",
  "distance",
  "object_distance",
  "gap",
  "front_behind",
  "reach",
)
SIZES = ("height", "width", "taller")
LENGTHS = ("distance", "object_distance", "gap", "height", "width")

# The maps that the program of a family reads.
NEEDS = {
  "closer": ("depth",),
  "nearer_to": ("depth",),
  "distance": ("depth",),
  "object_distance": ("depth",),
  "gap": ("depth", "segmentation"),
  "height": ("depth", "segmentation"),
  "width": ("depth", "segmentation"),
  "left_right": (),
  "above_below": (),
  "front_behind": ("depth",),
  "occlusion": ("segmentation",),
  "count": ("segmentation",),
  "exists": (),
  "taller": ("depth", "segmentation"),
  "reach": ("depth",),
  "viewpoint": ("depth",),
}

# How the first object of a comparison stands to the second, in its trace.
RELATIONS = {
  "closer": ("closer", "farther"),
  "nearer_to": ("closer", "farther"),
  "left_right": ("left", "right"),
  "above_below": ("above", "below"),
  "front_behind": ("closer", "farther"),
  "taller": ("taller", "shorter"),
}

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
