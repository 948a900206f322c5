"""Counting questions: how many there are, and whether there is one.

To look for a property, to go through all that has it and to stop is a skill of
its own, and a scene comes with about one question that asks for it. More are
made from the list of all things, a grounding request of the sample.
"""

import dataclasses
import re

import numpy as np

from cooper_jax.sample import Question
from cooper_jax.world import config
from cooper_jax.world.questions import families, wording

EXISTS = 0.3  # share of the questions that ask for a colour and a shape at once
# How often a number is asked for, once a scene has it: nothing and one are
# frequent, and easy.
_CHANCE = (0.1, 0.3, 1.0)
_CHANCE_BESIDE = (0.02, 0.3, 1.0)  # where all but nothing need a near miss
_SHAPES = frozenset(wording.PLURALS.values())  # colours need no map
_PLACE = re.compile(r"<at [^<>]*>")
_THING = re.compile(r"(\w+) (\w+) (<at [^<>]*>)")


def questions(
  listed: Question,
  rng,
  number: int,
  *,
  never=config.HELD_OUT,
  near_misses: bool = False,
) -> list[Question]:
  """Returns up to `number` questions about the things that `listed` names.

  How many have a colour or a shape; or whether there is a thing with both, and
  if not, its colour and its shape are there on different things. Empty where
  the list does not speak of the world's colours and shapes. A thing too small
  to be named is not in the list, and counts as not there.

  Args:
    listed: the request for all things, by its response in `reasoning`.
    rng, number: draws so many, and drops what it drew before.
    never: colours with shapes that are not asked for.
    near_misses: as `config.world.near_misses`.

  In: "red ball <at .4 .7> 2.4 m ; red box <at .5 .2> 3.0 m"
  Out: "How many red things are there ?" "<at .4 .7> 1 <at .5 .2> 2", "2";
    "Is there a red box ?" "<at .5 .2> 1", "yes"
  """
  things = [
    found.groups()
    for found in _THING.finditer(listed.reasoning)
    if found[1] in config.COLOURS and found[2] in config.SHAPES
  ]
  if not things:
    return []
  asked = {}
  for _ in range(number):
    sought = None
    if rng.random() < EXISTS:
      seek = _sought_matched if near_misses else _sought
      sought = seek(things, rng, never)
    if sought:
      colour, shape = sought
      name = wording.with_article(f"{colour} {shape}")
      places = [at for c, s, at in things if (c, s) == (colour, shape)]
      answer, family = ("yes" if places else "no"), "exists"
    else:
      name, places = _counted(things, rng, near_misses)
      answer, family = str(len(places)), "count"
    # The last phrasing is of the held-out split.
    template = int(rng.integers(families.PHRASINGS - 1))
    own = families.find(family)
    asked[name] = Question(
      family=family,
      text=own.TEMPLATES[template].format(a=name),
      answer=answer,
      answer_type=own.ANSWER_TYPE,
      needs=own.NEEDS if name in _SHAPES else (),
      reasoning=wording.counted(places),
      template=template,
    )
  return list(asked.values())


def in_any_order(question: Question, rng) -> Question:
  """A question of what is counted, its places in a random order.

  From left to right a place that was missed can't be named any more, so that
  one thing that is hard to see is a wrong count. In any order the surest come
  first and nothing is passed by (Pix2Seq, arXiv 2109.10852, section 4.3).
  Other questions stay as they are, and draw nothing of `rng`: those whose trace
  is another, and those whose answer is no number of the places, yes or no.

  In: "<at .4 .7> 1 <at .5 .2> 2"   Out: that, or "<at .5 .2> 1 <at .4 .7> 2"
  """
  places = _PLACE.findall(question.reasoning)
  if len(places) < 2 or question.reasoning != wording.counted(places):
    return question
  if question.answer not in (str(len(places)), "yes", "no"):
    return question  # it may be about the order
  mixed = [places[i] for i in rng.permutation(len(places))]
  return dataclasses.replace(question, reasoning=wording.counted(mixed))


def _sought(things, rng, never):
  """Colour and shape of a thing, or of two things and of none at once."""
  there, absent = _pairs(things, never)
  pairs = absent if absent and rng.random() < 0.5 else there
  return pairs[rng.integers(len(pairs))]


def _sought_matched(things, rng, never):
  """The same, and no matter of how many have the colour, how many the shape.

  None where these numbers differ for all that is there and all that is not.
  """
  there, absent = _pairs(things, never)

  def kind(pair):
    return tuple(sum(t[i] == pair[i] for t in there) for i in (0, 1))

  kinds = sorted({*map(kind, there)} & {*map(kind, absent)})
  if not kinds:
    return None
  chosen = kinds[rng.integers(len(kinds))]
  pairs = absent if rng.random() < 0.5 else there
  pairs = [pair for pair in pairs if kind(pair) == chosen]
  return pairs[rng.integers(len(pairs))]


def _pairs(things, never):
  """Colours and shapes of things, and of two things where none has both."""
  there = [thing[:2] for thing in things]
  both = {(one[0], other[1]) for one in there for other in there}
  return there, sorted(both - {*there, *never})


def _counted(things, rng, near_misses):
  """A property in the plural, and the places of what has it."""
  found = [
    (f"{colour} things", [t for t in things if t[0] == colour], 1)
    for colour in config.COLOURS
  ]
  found += [
    (wording.PLURALS[shape], [t for t in things if t[1] == shape], 0)
    for shape in config.SHAPES
  ]
  found = [
    (name, [at for *_, at in own])
    for name, own, other in found
    if not (near_misses and own) or _has_near_miss(things, own, other)
  ]
  rates = _CHANCE_BESIDE if near_misses else _CHANCE
  chance = np.array([rates[min(len(places), 2)] for _, places in found])
  return found[rng.choice(len(found), p=chance / chance.sum())]


def _has_near_miss(things, counted, other: int) -> bool:
  """Whether a thing is as a counted one in what is not asked for alone."""
  alike = {thing[other] for thing in counted}
  return any(t[other] in alike for t in things if t not in counted)
