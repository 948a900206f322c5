"""Counting questions: how many there are, and whether there is one.

To look for a property, to go through all that has it and to stop is a skill of
its own, and a scene comes with about one question that asks for it. More are
made from the list of all things, a grounding request of the sample.
"""

import re

import numpy as np

from cooper_jax.sample import Question
from cooper_jax.world import config
from cooper_jax.world.questions import families, wording

EXISTS = 0.3  # share of the questions that ask for a colour and a shape at once
# How often a number is asked for, once a scene has it: nothing and one are
# frequent, and easy.
_CHANCE = (0.1, 0.3, 1.0)
_SHAPES = frozenset(wording.PLURALS.values())  # colours need no map
_THING = re.compile(r"(\w+) (\w+) (<at [^<>]*>)")


def questions(
  listed: Question, rng, number: int, *, never=config.HELD_OUT
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
    if rng.random() < EXISTS:
      colour, shape = _sought(things, rng, never)
      name = wording.with_article(f"{colour} {shape}")
      places = [at for c, s, at in things if (c, s) == (colour, shape)]
      answer, family = ("yes" if places else "no"), "exists"
    else:
      name, places = _counted(things, rng)
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


def _sought(things, rng, never):
  """Colour and shape of a thing, or of two things and of none at once."""
  there = [thing[:2] for thing in things]
  absent = sorted(
    {(one[0], other[1]) for one in there for other in there} - {*there, *never}
  )
  pairs = absent if absent and rng.random() < 0.5 else there
  return pairs[rng.integers(len(pairs))]


def _counted(things, rng):
  """A property in the plural, and the places of what has it."""
  found = [
    (f"{colour} things", [at for c, _, at in things if c == colour])
    for colour in config.COLOURS
  ]
  found += [
    (wording.PLURALS[shape], [at for _, s, at in things if s == shape])
    for shape in config.SHAPES
  ]
  chance = np.array([_CHANCE[min(len(places), 2)] for _, places in found])
  return found[rng.choice(len(found), p=chance / chance.sum())]
