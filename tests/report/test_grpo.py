"""No sentence about GRPO stands without the best fixed way before it."""

import numpy as np
import pytest

from cooper_jax.eval import pairing
from cooper_jax.report import claims, grpo
from tests.report import fake_run

COUNT = 1024
FAMILIES = [fake_run.FAMILIES[k % 6] for k in range(COUNT)]


def right(count):
  found = np.zeros(COUNT)
  found[:count] = 1
  return found


def summary(ways, *, paired=True):
  """The entries of mode -> (hits before, hits after)."""
  found = {}
  hits = {
    stage: {mode: each[place] for mode, each in ways.items()}
    for place, stage in enumerate(("sft", "grpo"))
  }
  for stage, answers in hits.items():
    for mode, values in answers.items():
      fake_run.rate(found, f"qa/accuracy/{mode}/{stage}", values.mean(), COUNT)
    free = answers["adaptive"].mean()
    fake_run.rate(found, f"qa/accuracy/{stage}", free, COUNT)
  return found | pairing.scores(hits, FAMILIES) if paired else found


def published(**options):
  """The default run's shape: free gains, every fixed way loses a little."""
  return summary(
    {
      "adaptive": fake_run.hits(COUNT, gained=94, lost=60, right=731),
      "text": (right(735), right(715)),
      "depth": (right(776), right(768)),
    },
    **options,
  )


def test_the_default_run_is_told_in_full():
  free, beyond, each, *rest = grpo.lines(published())
  assert not rest
  assert "71.4\u00a0% before GRPO and in 74.7\u00a0% after" in free
  assert "+3.3 points (paired 95\u00a0% interval +" in free
  assert "94 gained, 60 lost), more than chance explains." in free
  assert "(always draws depth) is right in 75.8\u00a0%" in beyond
  assert "-1.1 points from that" in beyond
  assert each.startswith("Held to one way of answering it lost in each")
  assert (
    "reasons in text -2.0 (" in each and "always draws depth -0.8 (" in each
  )
  assert each.endswith("the gain is a change of the way of answering.")


@pytest.mark.parametrize("paired", [True, False])
def test_the_best_fixed_way_stands_wherever_grpo_does(paired):
  told = claims.claims(published(paired=paired))
  gains = [i for i, line in enumerate(told) if "after it" in line]
  assert len(gains) == 1
  assert "best fixed way before GRPO" in told[gains[0] + 1]


def test_without_pairs_there_is_no_verdict():
  told = " ".join(claims.claims(published(paired=False)))
  assert "+3.3 points (not paired: no verdict)" in told
  assert "chance" not in told and "fixed rule" not in told


def test_without_fixed_ways_the_gain_may_be_a_change_of_way():
  found = {"qa/accuracy/sft": 0.7, "qa/accuracy/grpo": 0.8}
  assert "were not measured" in grpo.lines(found)[1]


def test_no_grpo_no_sentence():
  assert grpo.lines({"qa/accuracy/sft": 0.7}) == []


@pytest.mark.parametrize(
  ("fixed", "after", "end"),
  [
    (776, 773, "A fixed rule before it does as well, as far as is known."),
    (400, 800, "No fixed rule before it does as well."),
    (900, 800, "A fixed rule before it does better."),
  ],
)
def test_what_decides_is_said_in_words(fixed, after, end):
  found = summary(
    {"adaptive": (right(300), right(after)), "depth": both(right(fixed))}
  )
  assert grpo.lines(found)[1].endswith(end)


def both(one):
  return one, one


def test_a_way_that_gained_is_no_mere_change_of_way():
  found = summary(
    {
      "adaptive": (right(700), right(800)),
      "text": (right(700), right(690)),
      "depth": (right(700), right(790)),
    }
  )
  line = grpo.lines(found)[2]
  assert "change of the way" not in line and "lost in" not in line
  assert "always draws depth +8.8 (" in line


def test_losing_freely_too_is_no_gain():
  found = summary(
    {"adaptive": (right(700), right(650)), "text": (right(700), right(690))}
  )
  assert "the gain" not in grpo.lines(found)[2]


def test_a_gain_that_chance_explains_is_not_told_as_one():
  found = summary(
    {"adaptive": (right(700), right(702)), "text": (right(700), right(690))}
  )
  line = grpo.lines(found)[2]
  assert "lost in each" in line and "the gain" not in line


def test_drawing_is_told_beside_what_it_is_worth():
  found = published()
  for stage, rate in (("sft", 0.04), ("grpo", 0.67)):
    fake_run.rate(found, f"map_rate/{stage}", rate, COUNT)
    for family in fake_run.FAMILIES:
      fake_run.rate(found, f"qa/accuracy/{family}/{stage}", 0.5, 100)
      here = 0.9 if family == "closer" else 0.5
      fake_run.rate(found, f"map_rate/{family}/{stage}", here, 100)
      key = f"qa/drawing/text/{family}/{stage}"
      gain = fake_run.hits(100, gained=30 if family == "closer" else 2)
      found |= pairing.difference(key, gain[1], gain[0])
  line = grpo.lines(found)[-1]
  assert "in 67\u00a0% of its free answers, before GRPO in 4\u00a0%" in line
  assert "in closer: there it draws in 90\u00a0%" in line
  assert "in the other families in 50\u00a0%" in line


def test_modes_are_judged_on_the_same_questions():
  # 3 points of unpaired samples of 1,024 would be chance; all 31 gained.
  found = summary({
    "adaptive": both(right(500)),
    "depth": both(right(531)),
    "text": both(right(500)),
  })  # fmt: skip
  (line,) = claims.mode_lines(found)
  assert "+3.0 points" in line and "31 gained, 0 lost" in line
  assert line.endswith("), more than chance explains.")


def test_maps_are_read_and_the_unseen_is_told():
  found = fake_run.summary()
  (line,) = grpo.reading(found)
  assert "(difference +8.3 (+4.1 to +12.5) points, paired" in line
  assert grpo.reading({}) == grpo.unseen({}) == []
  (line,) = grpo.unseen(found)
  assert "51.0\u00a0% of 512" in line and "no verdict" in line
  one, other = fake_run.hits(512, gained=40, lost=3, right=261)
  found |= pairing.difference("heldout/gain", other, one)
  assert "+7.2 points (paired" in grpo.unseen(found)[0]


def test_no_zero_has_a_sign():
  found = {"d": -0.0002, "d/ci95": [-0.0004, 0.0004]}
  assert grpo.points(found, "d") == "0.0 (0.0 to 0.0)"
