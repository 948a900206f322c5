"""What is counted is pointed at in any order, where a stage asks for it."""

import dataclasses
import re

import numpy as np
import pytest

from configs import base
from cooper_jax.data import tasks
from cooper_jax.stages import pretrain, sft
from tests.data.test_tasks import CODES, POLICY, SAMPLES, task, words

TWO = dict(
  family="count",
  text="How many red balls are there ?",
  answer="2",
  answer_type="number",
  options=(),
  needs=(),
  reasoning="<at 0.562 0.062> 1 <at 0.562 0.812> 2",
)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("kind", [tasks.MapTask, tasks.ReasoningTask])
def test_what_is_counted_may_come_in_any_order(kind, own):
  """Of the sample's own questions, and of those that are made up."""
  more = {
    tasks.MapTask: {"titles": (), "single_object": 0.0},
    tasks.ReasoningTask: {"shares": (("text", 1.0),), "corrupted": 0.0},
  }[kind]
  built = [
    task(kind, extra_counting=0 if own else 3, any_order=mixed, **more)
    for mixed in (False, True)
  ]
  assert not kind.any_order
  orders = [set(), set()]
  for found, build in zip(orders, built, strict=True):
    for sample in SAMPLES:
      asked = (dataclasses.replace(sample.questions[0], **TWO),) if own else ()
      sample = dataclasses.replace(sample, questions=asked)
      for seed in range(6):
        row = build(sample, np.random.default_rng(seed))
        said = " ".join(words(row["text_target"][row["text_weight"] > 0]))
        for counted in re.findall(r"(?:<at \d+> \d )+", said):
          columns = [int(x) % 8 for x in re.findall(r"<at (\d+)>", counted)]
          found.add(columns == sorted(columns))
  assert orders == [{True}, {True, False}]


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_stages_count_in_the_order_that_their_setting_says(stage):
  config = base.get_base("long", ("pretrain", "sft"))
  config = config.copy_and_resolve_references()
  config[stage].any_order = True
  for name, module in (("pretrain", pretrain), ("sft", sft)):
    assert module.task(config, POLICY, CODES).any_order == (name == stage)
