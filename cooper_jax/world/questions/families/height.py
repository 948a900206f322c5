"""Question family "height": how tall an object is."""

from cooper_jax.world.questions import fitting, written
from cooper_jax.world.questions.candidates import single

TEMPLATES = (
  "How tall is the {a} ?",
  "What is the height of the {a} ?",
  "How high is the {a} from bottom to top ?",
  "How many metres tall is the {a} ?",
)
ANSWER_TYPE = "number"
NEEDS = ("depth", "segmentation")
MEASURES = "size"
SIZE = "height"  # of `labels.Words`: what `extra_sizes` asks of any object
RANGE = (0.11, 3.6)  # metres of the answers that are kept
ALLOTTED = (626, 5)
# Measured by tools/calibrate.py.
# fmt: off
RATES = (
{'lengths': [0.82, 0.283, 0.197, 0.135, 0.11, 0.125, 0.108, 0.108, 0.123,
             0.174, 0.314, 1.0],
 'keep': 1.0}
)
# fmt: on


def candidates(scenes, draws):
  """Objects, as often of each height in RANGE."""
  del draws
  return single(RATES, RANGE, scenes, scenes.facts.height)


def write(words, b, picked, side) -> written.Written:
  """The height of one object, from its ends and its depth."""
  del side
  reasoning = words.upright(b, picked["items"][0])
  return written.length(words, b, picked, reasoning, RANGE)


def derive(words, b, picked, text) -> written.Written:
  """With its extent in the image before the answer."""
  return written.going_on(
    text, words.extent(b, picked["items"][0], picked["value"])
  )


def fit(rates, seen, power):
  """How frequent each length is."""
  return fitting.length(rates, seen, RANGE, power)
