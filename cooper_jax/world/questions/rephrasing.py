"""Rephrasing: a question of the world in another phrasing of its family.

The last phrasing of a family is kept for the held-out split. To ask a scene of
another split in these words, its question is read by its own template and
written in the last: names, answer and trace stay the same.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable

from cooper_jax.sample import Question
from cooper_jax.world.questions import families

HELDOUT_PHRASING = families.PHRASINGS - 1  # the phrasing of the held-out split
_HOLE = re.compile(r"\\\{(\w+)\\\}")  # {a} after re.escape


def rephrase(
  question: Question, template: int = HELDOUT_PHRASING
) -> Question | None:
  """The question in another phrasing; None where it is in none of a family.

  In: closer, "Which is closer to the camera , the can or the box ?", 1
  Out: "Is the can or the box nearer to us ?"
  """
  if question.family not in families.names():
    return None
  patterns = _patterns(question.family)
  found = patterns[question.template].fullmatch(question.text)
  if found is None:
    return None
  written = families.find(question.family).TEMPLATES[template]
  return dataclasses.replace(
    question, text=written.format(**found.groupdict()), template=template
  )


def rephrased(questions: Iterable[Question]) -> tuple[Question, ...]:
  """Those of some questions that have the held-out split's words, in these."""
  asked = map(rephrase, questions)
  return tuple(question for question in asked if question is not None)


@functools.cache
def _patterns(name: str) -> tuple[re.Pattern, ...]:
  """What reads the names in each phrasing of a family."""
  family = families.find(name)
  sides = "|".join(map(re.escape, getattr(family, "SIDES", ())))

  def pattern(template):
    seen = set()

    def hole(found):
      each = found[1]
      if each in seen:
        return f"(?P={each})"
      seen.add(each)
      # A side follows a name without a word between: it is one of its sides.
      words = sides if each == "side" and sides else ".+?"
      return f"(?P<{each}>{words})"

    return re.compile(_HOLE.sub(hole, re.escape(template)))

  return tuple(map(pattern, family.TEMPLATES))
