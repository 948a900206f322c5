"""Lists of some of the things an image shows: all that are red, all balls.

The list of all things (a grounding request of the sample) says what is there.
Asked for a part of it, a policy must look for a property: this is what counting
and "is there a" are made of, and it is rare among the questions.
"""

import re

from cooper_jax.data.sample import Question
from cooper_jax.data.scenes import config as worlds
from cooper_jax.data.scenes import phrasing

NONE = "none"
ABSENT = 0.3  # share of the requests for what is not there
_THING = re.compile(r"(\w+) (\w+) (<at [^<>]*>)")


def parts(listed: Question, rng, number: int) -> list[Question]:
  """Returns up to `number` requests for a part of what `listed` names.

  By colour, by shape or by both; a thing that is not there may have its colour
  and its shape on different things. Empty where the list does not speak of the
  world's colours and shapes.

  In: "red ball <at .4 .7> 2.4 m ; red box <at .5 .2> 3.0 m"
  Out: "List the red things ." "red ball <at .4 .7> ; red box <at .5 .2>"
    "List the blue balls ." "none"
  """
  things = [
    found.groups()
    for found in _THING.finditer(listed.reasoning)
    if found[1] in worlds.COLOURS and found[2] in worlds.SHAPES
  ]
  if not things:
    return []
  asked = {}
  for _ in range(number):
    colour, shape = _wanted(things, rng)
    if (colour, shape) not in asked:
      asked[colour, shape] = _request(things, colour, shape)
  return list(asked.values())


def _wanted(things, rng):
  """A colour or None, and a shape or None, of a thing or of none."""

  def some(values):
    return values[rng.integers(len(values))]

  colour, shape, _ = some(things)
  kind = rng.integers(3)
  if rng.random() < ABSENT:
    if kind == 2:  # each is there, together they may not be
      shape = some(things)[1]
    else:
      colour, shape = some(worlds.COLOURS), some(worlds.SHAPES)
  return (None if kind == 0 else colour), (None if kind == 1 else shape)


def _request(things, colour, shape) -> Question:
  nouns = phrasing.PLURALS[shape] if shape else "things"
  answer = " ; ".join(
    " ".join(thing)
    for thing in things
    if colour in (None, thing[0]) and shape in (None, thing[1])
  )
  return Question(
    family="list",
    text=f"List the {colour + ' ' if colour else ''}{nouns} .",
    answer=answer or NONE,
    answer_type="text",
    reasoning=answer or NONE,
  )
