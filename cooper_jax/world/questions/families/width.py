"""Question family "width": how wide an object is, seen from the camera."""

from cooper_jax.world.questions import fitting, written
from cooper_jax.world.questions.candidates import single

TEMPLATES = (
  "How wide is the {a} ?",
  "What is the width of the {a} ?",
  "How wide is the {a} from left to right ?",
  "How many metres wide is the {a} ?",
)
ANSWER_TYPE = "number"
NEEDS = ("depth", "segmentation")
MEASURES = "size"
SIZE = "width"  # of `labels.Words`: what `extra_sizes` asks of any object
RANGE = (0.1, 3.4)  # metres of the answers that are kept
ALLOTTED = (633, 6)
# Measured by tools/calibrate.py.
# fmt: off
RATES = (
{'lengths': [0.893, 0.434, 0.316, 0.189, 0.174, 0.146, 0.15, 0.167, 0.184,
             0.247, 0.42, 1.0],
 'keep': 1.0}
)
# fmt: on


def candidates(scenes, draws):
  """Objects, as often of each width in RANGE."""
  del draws
  return single(RATES, RANGE, scenes, scenes.facts.width)


def write(words, b, picked, side) -> written.Written:
  """The width of one object, from its depth."""
  del side
  reasoning = words.measured(b, picked["items"][0])
  return written.length(words, b, picked, reasoning, RANGE)


def derive(words, b, picked, text) -> written.Written:
  """With its extent in the image before the answer."""
  return written.going_on(
    text, words.extent(b, picked["items"][0], picked["value"])
  )


def fit(rates, seen, power):
  """How frequent each length is."""
  return fitting.length(rates, seen, RANGE, power)
