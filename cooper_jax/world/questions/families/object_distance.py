"""Question family "object_distance": how far two objects are apart."""

from cooper_jax.world.questions import debias, fitting, written
from cooper_jax.world.questions.candidates import Candidates

TEMPLATES = (
  "How far is the {a} from the {b} ?",
  "What is the distance between the {a} and the {b} ?",
  "How far apart are the {a} and the {b} ?",
  "How many metres lie between the {a} and the {b} ?",
)
ANSWER_TYPE = "number"
NEEDS = ("depth",)
MEASURES = "distance"
RANGE = (0.3, 7.8)  # metres of the answers that are kept
ALLOTTED = (640, 3)
# Measured by tools/calibrate.py.
# fmt: off
RATES = (
{'lengths': [1.0, 0.294, 0.148, 0.084, 0.053, 0.041, 0.035, 0.028, 0.029,
             0.036, 0.047, 0.101],
 'keep': 1.0}
)
# fmt: on


def candidates(scenes, draws):
  """Pairs, as often of each distance in RANGE."""
  del draws
  distance = scenes.distance
  accept = scenes.pair * debias.accept_length(RATES, RANGE, distance)
  return Candidates(accept, {"value": distance}, objects=2)


def write(words, b, picked, side) -> written.Written:
  """The distance between the centres of two objects."""
  del side
  reasoning = " ; ".join(words.measured(b, n) for n in picked["items"])
  return written.length(words, b, picked, reasoning, RANGE)


def fit(rates, seen, power):
  """How frequent each length is."""
  return fitting.length(rates, seen, RANGE, power)
