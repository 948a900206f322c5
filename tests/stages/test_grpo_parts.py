"""Parts of a GRPO step that are pure."""

import types

import numpy as np
import pytest

from configs import base
from cooper_jax.errors import NumericsError, UserError
from cooper_jax.rl import update
from cooper_jax.rl.step import behaviour
from cooper_jax.rollouts.response import DrawnMap, Responses
from cooper_jax.settings import checks
from cooper_jax.stages import grpo
from cooper_jax.training import health


def test_the_overlong_filter_leaves_out_what_was_cut_off():
  live = np.array([[True, True], [True, False]])
  cut = np.array([False, True])
  np.testing.assert_array_equal(update.loss_mask(live, cut, False), live)
  kept = update.loss_mask(live, cut, True)
  np.testing.assert_array_equal(kept, [[True, True], [False, False]])


def test_behaviour_is_counted_by_kind_flag_and_use():
  code = np.zeros(4, int)
  depth = DrawnMap("depth", code, np.ones((2, 2)))
  classes = DrawnMap("segmentation", code, np.ones((2, 2)))
  maps = [(depth, classes), (), (depth,), ()]
  view = Responses.from_texts(["a b c"] * 4, maps=maps)
  items = [
    types.SimpleNamespace(question=types.SimpleNamespace(flag=flag))
    for flag in ("positive", "negative")
  ]
  found = behaviour(view, items, 2, np.array([1.0, 0.0, np.nan, 1.0]))
  assert found["maps/depth"] == 0.5 and found["maps/segmentation"] == 0.25
  assert found["maps/each"] == 0.75 and found["length/text"] == 3
  assert found["maps/positive"] == (1, 2) and found["maps/negative"] == (1, 2)
  assert found["answer/positive"] == (1, 2)
  assert found["answer/negative"] == (1, 1)  # one abstained
  assert found["answer/drew"] == (1, 1) and found["answer/text"] == (1, 2)


class Asked:
  """Samples that ask of the families given for each."""

  def __init__(self, *families):
    self.samples = [
      types.SimpleNamespace(
        questions=[types.SimpleNamespace(family=name) for name in names]
      )
      for names in families
    ]

  def __len__(self):
    return len(self.samples)

  def __getitem__(self, i):
    return self.samples[i]


def test_only_the_families_that_are_named_are_reinforced():
  source = Asked(("count", "closer"), (), ("closer",), ("exists", "closer"))
  some = grpo.Questions(source, batch=40, seed=0, families=("count", "exists"))
  asked = [item.question.family for item in next(some)["items"]]
  assert set(asked) == {"count", "exists"}
  every = grpo.Questions(source, batch=40, seed=0)
  asked = [item.question.family for item in next(every)["items"]]
  assert set(asked) == {"count", "closer", "exists"}
  with pytest.raises(UserError, match=r"families names counts; .* closer, cou"):
    grpo.Questions(source, batch=4, seed=0, families=("counts",))
  with pytest.raises(UserError, match="no questions to reinforce"):
    grpo.Questions([], batch=4, seed=0)


def test_the_metrics_of_all_updates_are_said_and_a_skipped_one_is_seen():
  first = {
    "skipped": 1.0, "grad_norm": np.nan, "clip_high/text": (1.0, 10.0),
    "mismatch_abs/text": (0.2, 10.0),
  }  # fmt: skip
  second = {
    "skipped": 0.0, "grad_norm": 2.0, "clip_high/text": (3.0, 10.0),
    "mismatch_abs/text": (5.0, 10.0),
  }  # fmt: skip
  assert update.together([first]) is first
  made = update.together([first, second])
  assert made["skipped"] == 0.5  # the loop counts what is above 0
  assert made["clip_high/text"] == (4.0, 20.0)
  assert made["mismatch_abs/text"] == (0.2, 10.0)
  assert made["grad_norm"] == made["update2/grad_norm"] == 2.0
  assert made["update1/skipped"] == 1.0 and made["update2/skipped"] == 0.0
  assert "update2/mismatch_abs/text" not in made
  # A move that goes far off is not hidden by another that was skipped.
  moves = [{"update_norm": x, "skipped": 0.0} for x in (np.nan, 1e6, 0.1)]
  assert update.together(moves)["update_norm"] == 1e6
  patient = health.Health("grpo", "runs/grpo", norm=1.0)
  with pytest.raises(NumericsError):
    for step in range(1, 9):
      patient.step(made, step, 0)


@pytest.mark.parametrize("name", ["temperature", "code_temperature"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_rollouts_that_can_not_differ_are_refused(name, value):
  config = base.get_base("smoke", ("grpo",)).copy_and_resolve_references()
  config.sampling[name] = value
  with pytest.raises(UserError, match=rf"config\.sampling\.{name} is"):
    checks.validate(config)
  if value == 0.0:
    config.pipeline = ("sft",)  # which rolls nothing out
    checks.validate(config)
    config.pipeline = ("grpo",)
  config.sampling[name] = 0.1
  checks.validate(config)
