"""One group of rollouts a log step, as JSON that other programs can read."""

import json

import jax
import numpy as np
import pytest

from cooper_jax.rl import rollout_log, scoring
from cooper_jax.rollouts import generate
from cooper_jax.training import telemetry
from tests.rl.toy import CONFIG, ITEMS, POLICY, asked, codecs, fresh, make_step

FIELDS = {"text", "maps", "rewards", "total", "advantage", "truncated"}


@pytest.fixture(scope="module")
def step():
  return make_step()


def make_log(folder, *, every=2, steps=5):
  return rollout_log.RolloutLog(
    folder,
    policy=POLICY,
    rewards=[*scoring.weights_of(CONFIG.grpo.rl)],
    every=every,
    steps=steps,
  )


def run(step, folder, numbers, **when):
  """Steps with a log of their own, as after a start or a resume."""
  log, state = make_log(folder, **when), fresh()
  advantages = rollout_log.logged(step.keywords["advantages"], log)
  for number in numbers:
    state, _ = step(state, asked(number), advantages=advantages)
  return log


def strict(path):
  """Its objects; NaN and the like are no JSON."""
  lines = path.read_text(encoding="utf-8").splitlines()
  return [json.loads(line, parse_constant=pytest.fail) for line in lines]


@pytest.mark.ci
def test_a_log_step_leaves_a_group_and_a_resume_no_step_twice(step, tmp_path):
  run(step, tmp_path, range(5))
  path = tmp_path / rollout_log.NAME
  rows = strict(path)
  assert [row["step"] for row in rows] == [2, 4, 5]
  for row in rows:
    assert row["id"] == "one" and row["answer"] == "yes"
    assert row["question"] in ("Is it near ?", "Is it far ?")
    assert len(row["rollouts"]) == CONFIG.grpo.rl.group_size
    for made in row["rollouts"]:
      assert set(made) == FIELDS
      assert set(made["rewards"]) == set(scoring.weights_of(CONFIG.grpo.rl))
      assert made["rewards"]["segmentation"] is None  # there is no such truth
      assert set(made["maps"]) <= set(CONFIG.modalities)
      assert made["text"].count("<depth>") == made["maps"].count("depth")
      weighted = sum(
        weight * (made["rewards"][name] or 0)
        for name, weight in scoring.weights_of(CONFIG.grpo.rl).items()
      )
      assert made["total"] == pytest.approx(weighted, abs=1e-5)
  assert telemetry.read_metrics(path) == rows
  # Stopped after step 3 and gone on from there: as if nothing had been.
  run(step, tmp_path, range(3, 5))
  assert [row["step"] for row in strict(path)] == [2, 4, 5]
  # Another interval: lines of the old one past the checkpoint go, too.
  run(step, tmp_path, range(1, 5), every=3)
  assert [row["step"] for row in strict(path)] == [3, 5]
  # From the start, no checkpoint having been saved.
  run(step, tmp_path, range(1), every=1)
  assert [row["step"] for row in strict(path)] == [1]


@pytest.mark.ci
def test_the_last_group_is_a_picture(step, tmp_path):
  log = make_log(tmp_path, every=1, steps=1)
  assert log.pictures(generate.decoder(codecs())) == {}
  log = run(step, tmp_path, range(1), every=1)
  (picture,) = log.pictures(generate.decoder(codecs())).values()
  assert picture.dtype == np.uint8 and picture.shape[2] == 3
  # Rows of 16 pixels and gaps of 2, of those that drew; the image alone else.
  drew = sum(map(bool, log.last[1].maps))
  assert picture.shape[0] == 18 * max(1, drew) - 2
  assert picture.shape[1] == (16 + 2 + 16 if drew else 16)
  np.testing.assert_array_equal(picture[:16, :16], ITEMS[0].sample.image)


def test_a_group_with_an_advantage_is_logged_rather_than_one_without():
  groups = np.repeat([0, 1, 2], 2)
  advantage = np.array([0, 0, 0, 0, 1.0, -1.0])
  assert rollout_log.first_informative(advantage, groups) == 2
  assert rollout_log.first_informative(0 * advantage, groups) == 0


def test_a_line_cut_off_by_a_crash_is_dropped_alone(tmp_path):
  path = tmp_path / rollout_log.NAME
  good = [json.dumps({"step": n, "rollouts": []}) for n in (2, 4, 6)]
  bad = [b'{"step": 2, "rol', b"\xff\x00", b"[1]", b'{"step": null}']
  lines = [good[0].encode(), *bad, *(each.encode() for each in good[1:])]
  path.write_bytes(b"\n".join(lines))
  assert [row["step"] for row in telemetry.read_metrics(path)] == [2, 4, 6]
  make_log(tmp_path, every=2, steps=9).rewind(4)
  assert [row["step"] for row in strict(path)] == [2, 4]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_null(value):
  assert rollout_log.number(np.float32(value)) is None
  assert rollout_log.number(jax.numpy.float32(0.25)) == 0.25


def test_a_stage_without_a_log_makes_none(step, tmp_path):
  step(fresh(), asked())
  assert not list(tmp_path.iterdir())
