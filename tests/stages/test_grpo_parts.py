"""Parts of a GRPO step that are pure."""

import types

import numpy as np
import pytest

from configs import base
from cooper_jax.errors import NumericsError, UserError
from cooper_jax.models.token_kinds import CODE, PAD, TEXT
from cooper_jax.rl import targets, update
from cooper_jax.rl.behaviour import behaviour
from cooper_jax.rl.questions import QuestionStream
from cooper_jax.sampling.grammar import EOS, LENGTH
from cooper_jax.settings import checks
from cooper_jax.training import health


def test_the_overlong_filter_leaves_out_what_was_cut_off():
  live = np.array([[True, True], [True, False]])
  cut = np.array([False, True])
  np.testing.assert_array_equal(targets.loss_mask(live, cut, False), live)
  kept = targets.loss_mask(live, cut, True)
  np.testing.assert_array_equal(kept, [[True, True], [False, False]])


def test_behaviour_is_counted_by_kind_flag_and_use():
  rollout = types.SimpleNamespace(
    # Rollout 0 drew depth and classes, rollout 2 depth.
    map_modality=np.array([[0, 1], [-1, -1], [0, -1], [-1, -1]]),
    state=np.array([[TEXT] * 3 + [CODE], [TEXT] * 3 + [PAD]] * 2),
    stop=np.array([EOS, LENGTH, EOS, EOS]),
  )
  flag_R = ["positive", "positive", "negative", "negative"]
  hits_R = np.array([1.0, 0.0, np.nan, 1.0])
  names = {0: "depth", 1: "segmentation"}
  found = behaviour(rollout, flag_R, names=names, hits_R=hits_R)
  assert found["maps/depth"] == 0.5 and found["maps/segmentation"] == 0.25
  assert found["maps/each"] == 0.75 and found["maps/drew"] == 0.5
  assert found["length/text"] == 3 and found["length/codes"] == 0.5
  assert found["truncated"] == 0.25
  assert found["maps/positive"] == (1, 2) and found["maps/negative"] == (1, 2)
  assert found["answer/positive"] == (1, 2)
  assert found["answer/negative"] == (1, 1)  # one abstained
  assert found["answer/drew"] == (1, 1) and found["answer/text"] == (1, 2)


def test_the_questions_of_a_step_and_a_turn_are_the_same_whenever_drawn():
  source = Asked(*(("count", "closer", "exists"),) * 40)
  stream = QuestionStream(source, batch=8, seed=3)
  first = next(stream)
  assert (first.number, first.turn, stream.state()) == (0, 0, {"step": 1})
  coming, other = stream.draw(1), stream.draw(0, 2)
  assert stream.draw(0) == first and next(stream) == coming
  assert (other.number, other.turn) == (0, 2)
  assert len({str(each.items) for each in (first, coming, other)}) == 3
  stream.restore({"step": 0})
  assert next(stream) == first


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
  some = QuestionStream(source, batch=40, seed=0, families=("count", "exists"))
  asked = [item.question.family for item in next(some).items]
  assert set(asked) == {"count", "exists"}
  every = QuestionStream(source, batch=40, seed=0)
  asked = [item.question.family for item in next(every).items]
  assert set(asked) == {"count", "closer", "exists"}
  with pytest.raises(UserError, match=r"families names counts; .* closer, cou"):
    QuestionStream(source, batch=4, seed=0, families=("counts",))
  with pytest.raises(UserError, match="no questions to reinforce"):
    QuestionStream([], batch=4, seed=0)


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
