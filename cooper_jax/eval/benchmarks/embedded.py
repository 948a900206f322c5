"""The test split of a run's own data: the embedded world's, by default.

`config.evaluate.questions` of its questions, spread over its samples. The blind
baselines learn from the training split. The evaluation asks this benchmark in
every mode of use, scores the maps of its samples and shows its answers.
"""

from collections.abc import Iterator

from cooper_jax.data import mixture
from cooper_jax.data.sources import DataConfig
from cooper_jax.eval import questions
from cooper_jax.rollouts import lengths
from cooper_jax.rollouts.prompts import Item
from cooper_jax.sample import Question

TITLE = "Test split"
KEY = "qa"


def items(config) -> list[Item]:
  """Questions of the test split, drawn with `config.seed`."""
  test = mixture.open_tolerant(DataConfig.from_config(config), "test")
  test = lengths.fitting(config, test)
  return questions.items_of(test, config.evaluate.questions, seed=config.seed)


def training(config) -> Iterator[Question]:
  """Yields what the first `config.evaluate.blind_scenes` samples ask.

  Of several sources those of each: families of one that was not read would have
  baselines that know nothing of them, and any score would be above these.
  """
  train = mixture.open_tolerant(DataConfig.from_config(config), "train")
  for source in mixture.parts_of(train):
    for index in range(min(config.evaluate.blind_scenes, len(source))):
      yield from mixture.questions_of(source, index)
