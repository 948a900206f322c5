"""The test split of the rendered world, in words that no training scene has.

Each family keeps its last phrasing for the held-out split. Here the questions
of the benchmark `embedded` are put in it: scenes, pairs of colour and shape and
answers are the same, the words are new, in every mode of use.
"""

from cooper_jax.data import mixture, modes, selection
from cooper_jax.data.sources import DataConfig
from cooper_jax.eval import questions
from cooper_jax.eval.benchmarks import embedded
from cooper_jax.rollouts import lengths
from cooper_jax.rollouts.prompts import Item

TITLE = "Test split in held-out words"
MODES = modes.every()
training = embedded.training


def items(config) -> list[Item]:
  """The questions of `embedded`, drawn with `config.seed`, rephrased."""
  test = mixture.open_tolerant(DataConfig.from_config(config), "test")
  asked = selection.phrased(test, selection.HELDOUT_WORDS)
  asked = lengths.fitting(config, asked)
  return questions.items_of(asked, config.evaluate.questions, seed=config.seed)
