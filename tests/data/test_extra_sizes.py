"""Questions of sizes that a stage adds to those that a scene comes with."""

import dataclasses

import numpy as np

from configs import base
from cooper_jax import world
from cooper_jax.data import tasks
from cooper_jax.stages import pretrain, sft
from tests.data.test_tasks import CODES, POLICY, task


def test_sizes_are_added_where_the_world_derives_them():
  derived = world.WorldConfig(derive=("height", "width"))
  sample = world.generate(derived, split="train", start=0, count=1)[0]
  bare = dataclasses.replace(sample, questions=())
  build = task(
    tasks.ReasoningTask, shares=(("depth", 1.0),), corrupted=0.0, extra_sizes=2
  )
  asked = {q.text for q in sample.grounding if q.family in ("height", "width")}
  found = set()
  for seed in range(4):
    some = build.sized(bare, np.random.default_rng(seed))
    assert len(some) == 2 and {q.text for q in some} <= asked
    found |= {q.text for q in some}
    row = build(bare, np.random.default_rng(seed))
    maps = (row["code_weight"] > 0).sum() / 64
    assert maps == 2 and row["left_out"] == 0  # a trace a question
  assert len(found) > 2
  assert not task(tasks.MapTask, titles=(), single_object=0.0).sized(
    sample, np.random.default_rng(0)
  )  # 0 by default


def test_each_stage_adds_as_many_as_its_setting_says():
  config = base.get_base("long", ("pretrain", "sft"))
  config = config.copy_and_resolve_references()
  config.pretrain.extra_sizes, config.sft.extra_sizes = 3, 1
  assert pretrain.task(config, POLICY, CODES).extra_sizes == 3
  assert sft.task(config, POLICY, CODES).extra_sizes == 1
