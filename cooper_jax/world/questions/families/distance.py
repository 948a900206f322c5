"""Question family "distance": how far an object is from the camera."""

from cooper_jax.world.questions import fitting, written
from cooper_jax.world.questions.candidates import single

TEMPLATES = (
  "How far is the {a} from the camera ?",
  "What is the distance to the {a} ?",
  "How far away is the {a} ?",
  "How many metres away is the {a} ?",
)
ANSWER_TYPE = "number"
NEEDS = ("depth",)
MEASURES = "distance"
RANGE = (0.46, 11.0)  # metres of the answers that are kept
MOVES = "each"
ALLOTTED = (619, 2)
# Measured by tools/calibrate.py.
# fmt: off
RATES = (
{'lengths': [0.28, 0.165, 0.133, 0.125, 0.069, 0.103, 0.093, 0.092, 0.101,
             0.16, 0.282, 1.0],
 'keep': 1.0}
)
# fmt: on


def candidates(scenes, draws):
  """Objects, as often of each distance in RANGE."""
  del draws
  return single(RATES, RANGE, scenes, scenes.facts.depth)


def write(words, b, picked, side) -> written.Written:
  """The depth of one object."""
  del side
  reasoning = words.measured(b, picked["items"][0])
  return written.length(words, b, picked, reasoning, RANGE)


def fit(rates, seen, power):
  """How frequent each length is."""
  return fitting.length(rates, seen, RANGE, power)
