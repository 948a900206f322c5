"""What is counted is pointed at in any order, where a stage asks for it."""

import re

import numpy as np
import pytest

from configs import base
from cooper_jax.data import tasks
from cooper_jax.stages import pretrain, sft
from tests.data.test_tasks import CODES, POLICY, SAMPLES, task, words


@pytest.mark.parametrize("kind", [tasks.MapTask, tasks.ReasoningTask])
def test_what_is_counted_may_come_in_any_order(kind):
  """Of the sample's own questions and of those that are made up."""
  more = {
    tasks.MapTask: {"titles": (), "single_object": 0.0},
    tasks.ReasoningTask: {"shares": (("text", 1.0),), "corrupted": 0.0},
  }[kind]
  built = [
    task(kind, extra_counting=3, any_order=mixed, **more)
    for mixed in (False, True)
  ]
  assert not kind.any_order
  orders = [set(), set()]
  for found, build in zip(orders, built, strict=True):
    for sample in SAMPLES:
      for seed in range(3):
        row = build(sample, np.random.default_rng(seed))
        said = " ".join(words(row["text_target"][row["text_weight"] > 0]))
        for counted in re.findall(r"(?:<at \d+> \d )+", said):
          columns = [int(x) % 8 for x in re.findall(r"<at (\d+)>", counted)]
          found.add(columns == sorted(columns))
  assert orders == [{True}, {True, False}]


def test_stages_count_in_the_order_that_their_setting_says():
  config = base.get_base("long", ("pretrain", "sft"))
  config = config.copy_and_resolve_references()
  config.sft.any_order = True
  assert not pretrain.task(config, POLICY, CODES).any_order
  assert sft.task(config, POLICY, CODES).any_order
