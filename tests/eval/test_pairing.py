"""Differences are of the same questions, and few changes prove nothing."""

import json

import numpy as np
import pytest

from cooper_jax.eval import pairing
from cooper_jax.grading import intervals
from tests.report import fake_run

# The published gain: 94 gained and 60 lost of 1,024, 71.4 % right at first.
PUBLISHED = fake_run.hits(1024, gained=94, lost=60, right=731)
FAMILIES = [fake_run.FAMILIES[k % 6] for k in range(1024)]


def both(one):
  return one, one


@pytest.mark.parametrize(
  ("gained", "lost", "p"),
  [
    (0, 0, 1.0),
    (5, 0, 2 / 2**5),
    (0, 5, 2 / 2**5),
    # 2 (1 + 10 + 45) / 1024
    (8, 2, 112 / 1024),
    (3, 3, 1.0),
  ],
)
def test_the_sign_test_is_exact(gained, lost, p):
  assert intervals.sign_test(gained, lost) == pytest.approx(p)


def test_the_sign_test_holds_for_many():
  assert intervals.sign_test(40_000, 40_000) == 1.0
  assert intervals.sign_test(41_000, 39_000) < 1e-9


def test_a_gain_is_told_from_the_questions_that_changed():
  before, after = PUBLISHED
  found = pairing.difference("gain", after, before)
  assert found["gain"] == pytest.approx(34 / 1024)
  assert (found["gain/gained"], found["gain/lost"]) == (94, 60)
  low, high = found["gain/ci95"]
  # README: +3.3 (+0.9 to +5.8).
  assert low == pytest.approx(0.009, abs=2e-3)
  assert high == pytest.approx(0.058, abs=3e-3)
  assert pairing.sure(found, "gain")
  # As if of other questions: 1.96 (2 x .73 x .27 / 1024) ** .5 = .038.
  assert found["gain"] < 0.038


@pytest.mark.parametrize("gained", [1, 3, 5])
def test_a_few_questions_are_sure_of_nothing(gained):
  before, after = fake_run.hits(gained, gained=gained)
  found = pairing.difference("gain", after, before)
  assert found["gain/ci95"] == [1.0, 1.0]  # what a bootstrap makes of it
  assert pairing.sure(found, "gain") is False


def test_nothing_is_known_where_nothing_was_paired():
  assert pairing.sure({"gain": 0.1}, "gain") is None
  assert pairing.sure({"gain": 0.1, "gain/ci95": [0.1, 0.2]}, "gain") is None


def test_what_decides_is_free_after_less_a_fixed_way_before():
  before, after = PUBLISHED
  depth = np.zeros(1024)
  depth[:776] = 1  # 75.8 %
  hits = {
    "sft": {"adaptive": before, "depth": depth, "text": before},
    "grpo": {"adaptive": after, "depth": depth, "text": before},
  }
  found = pairing.scores(hits, FAMILIES)
  assert found["qa/gain/adaptive"] == pytest.approx(34 / 1024)
  assert found["qa/gain/depth"] == 0
  assert found["qa/beyond/depth"] == pytest.approx((765 - 776) / 1024)
  assert "qa/beyond/adaptive" not in found
  assert found["qa/drawing/text/sft"] == pytest.approx((776 - 731) / 1024)
  assert "qa/drawing/direct/sft" not in found
  families = [found[f"qa/drawing/text/{f}/grpo/n"] for f in fake_run.FAMILIES]
  assert sum(families) == 1024
  # Which of them is the best is read from their accuracies.
  known = {f"qa/accuracy/{m}/sft": hits["sft"][m].mean() for m in hits["sft"]}
  assert pairing.best_fixed(found | known) == "depth"
  assert pairing.best_fixed(known) is None


def test_a_run_without_grpo_is_judged_by_its_ways_alone():
  before, _ = PUBLISHED
  found = pairing.scores({"sft": {"depth": before, "text": before}}, FAMILIES)
  assert {key.split("/")[1] for key in found} == {"drawing"}


def test_an_old_run_is_judged_by_its_answers(tmp_path):
  ways = {"adaptive": PUBLISHED, "depth": both(PUBLISHED[0])}
  fake_run.write_answers(tmp_path, ways)
  found = pairing.complete({"kept": 1}, tmp_path)
  hits = {
    s: {m: ways[m][i] for m in ways} for i, s in enumerate(("sft", "grpo"))
  }
  assert found == {"kept": 1} | pairing.scores(hits, FAMILIES)
  # What an evaluation has written is not computed again.
  known = {"qa/beyond/depth": 0.5}
  assert pairing.complete(known, tmp_path) == known


def test_a_question_asked_twice_counts_twice(tmp_path):
  ways = {"adaptive": fake_run.hits(8, gained=3), "text": both(np.zeros(8))}
  fake_run.write_answers(tmp_path, ways, question="the same")
  assert pairing.of_workdir(tmp_path)["qa/gain/adaptive/n"] == 8


def cut(path):
  path.write_text(path.read_text()[:-9])


def garble(path):
  path.write_bytes(b"\xff" + path.read_bytes())


def other_questions(path):
  path.write_text(path.read_text().replace("? 1", "? 2"))


def fewer(path):
  path.write_text("".join(path.read_text().splitlines(True)[:-1]))


def no_hits(path):
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  for line in lines:
    del line["hit"]
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
  "damage", [cut, garble, other_questions, fewer, no_hits]
)
def test_answers_that_can_not_be_paired_give_no_verdict(tmp_path, damage):
  ways = {"adaptive": PUBLISHED, "depth": both(PUBLISHED[0])}
  fake_run.write_answers(tmp_path, ways)
  damage(tmp_path / "evaluate" / "grpo.jsonl")
  assert pairing.of_workdir(tmp_path) == {}


def test_no_answers_give_no_verdict(tmp_path):
  assert pairing.of_workdir(tmp_path) == {}
