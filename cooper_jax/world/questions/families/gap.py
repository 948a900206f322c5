"""Question family "gap": how much free space is between two objects."""

from cooper_jax.world.questions import debias, fitting, written
from cooper_jax.world.questions.candidates import Candidates
from cooper_jax.world.questions.surface_distance import NOT_A_PRISM, gaps

TEMPLATES = (
  "How wide is the gap between the {a} and the {b} ?",
  "What is the free space between the {a} and the {b} ?",
  "How large is the gap from the {a} to the {b} ?",
  "How much room is there between the {a} and the {b} ?",
)
ANSWER_TYPE = "number"
NEEDS = ("depth", "segmentation")
MEASURES = "distance"
RANGE = (0.12, 4.5)  # metres of the answers that are kept
ALLOTTED = (677, 4)
# Measured by tools/calibrate.py.
# fmt: off
RATES = (
{'lengths': [1.0, 0.422, 0.246, 0.145, 0.096, 0.075, 0.063, 0.053, 0.054,
             0.049, 0.049, 0.072],
 'keep': 1.0}
)
# fmt: on


def candidates(scenes, draws):
  """Pairs of convex objects, as often of each gap in RANGE."""
  del draws
  gap = gaps(scenes.layout, scenes.facts)
  solid = scenes.facts.shape != NOT_A_PRISM
  accept = (
    scenes.pair & solid[:, :, None] & solid[:, None, :]
  ) * debias.accept_length(RATES, RANGE, gap)
  return Candidates(accept, {"value": gap}, objects=2)


def write(words, b, picked, side) -> written.Written:
  """The gap between the surfaces of two objects."""
  del side
  reasoning = " ; ".join(words.measured(b, n) for n in picked["items"])
  return written.length(words, b, picked, reasoning, RANGE)


def fit(rates, seen, power):
  """How frequent each length is."""
  return fitting.length(rates, seen, RANGE, power)
