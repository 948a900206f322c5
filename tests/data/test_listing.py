"""Parts of a list name what has the property, in order, and nothing else."""

import re

import numpy as np
import pytest

from cooper_jax.data import listing
from cooper_jax.data.sample import Question
from cooper_jax.data.scenes import config as worlds
from cooper_jax.data.scenes import phrasing
from cooper_jax.data.scenes.world import generate

SAMPLES = generate(worlds.WorldConfig(), split="train", start=0, count=48)
LISTS = [q for s in SAMPLES for q in s.grounding if q.family == "list"]


def requests():
  rng = np.random.default_rng(0)
  return [(q, part) for q in LISTS for part in listing.parts(q, rng, 3)]


def wanted(part):
  """In: "List the red balls ."   Out: ("red", "ball"), None where free."""
  words = part.text.removeprefix("List the ").removesuffix(" .").split()
  singular = {plural: shape for shape, plural in phrasing.PLURALS.items()}
  colour = words[0] if words[0] in worlds.COLOURS else None
  return colour, singular.get(words[-1])


def test_a_part_names_all_that_fit_in_order_and_no_other():
  for whole, part in requests():
    colour, shape = wanted(part)
    assert colour or shape
    expected = [
      found
      for found in re.findall(r"\w+ \w+ <at \S+ \S+>", whole.reasoning)
      if colour in (None, found.split()[0])
      and shape in (None, found.split()[1])
    ]
    assert part.reasoning == (" ; ".join(expected) or "none")


def test_all_kinds_are_asked_for_and_absent_things_too():
  made = [part for _, part in requests()]
  kinds = [(bool(c), bool(s)) for c, s in map(wanted, made)]
  for kind in ((True, False), (False, True), (True, True)):
    assert 0.2 < kinds.count(kind) / len(kinds) < 0.47
  none = [part.reasoning == "none" for part in made]
  assert 0.1 < np.mean(none) < 0.4
  several = [part.reasoning.count(";") > 0 for part in made]
  assert np.mean(several) > 0.1
  # Not there, though its colour and its shape are.
  near = [
    part
    for whole, part in requests()
    if part.reasoning == "none"
    and all(wanted(part))
    and all(f" {word} " in f" {whole.reasoning} " for word in wanted(part))
  ]
  assert near


@pytest.mark.parametrize("said", ["an old chair <at .1 .2>", "none", ""])
def test_lists_of_other_sources_are_left_alone(said):
  other = Question("list", "List the objects .", said, "text", reasoning=said)
  assert listing.parts(other, np.random.default_rng(0), 3) == []
