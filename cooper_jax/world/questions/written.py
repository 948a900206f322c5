"""A question in words, as a family's `write` returns it.

Reasoning names each object, points at it and gives the number read there:
"red ball <at 0.412 0.730> 2.4 m ; blue table <at 0.550 0.200> 3.3 m ; closer".
In families with a RELATION it ends with how the question's first object stands
to its second, which is the same whatever way the question is put. What is
counted or looked for is pointed at, with a running number (`wording.counted`).
Lengths are written to the E24 series: each is one token.
"""

from __future__ import annotations

import dataclasses
from types import ModuleType

from cooper_jax.sample import Question
from cooper_jax.tokenizers.lengths import metres
from cooper_jax.world.questions.labels import Words

YES_NO = ("yes", "no")
LEFT_RIGHT = ("left", "right")
ORDER = ("closer", "farther")  # how far one thing is, beside another


@dataclasses.dataclass(frozen=True)
class Written:
  """A question but for its phrasing; `names` fill the template."""

  names: dict[str, str]
  answer: str
  reasoning: str
  evidence: dict
  options: tuple[str, ...] = ()  # () of a yes_no family: yes and no
  flag: str = "boundary"  # does seeing help: "positive" "negative" "boundary"
  unit: str = ""
  value: float | None = None
  needs: tuple[str, ...] | None = None  # None = the family's NEEDS

  def question(self, name: str, family: ModuleType, template: int) -> Question:
    """The question of the family `name` in one of its phrasings."""
    options = self.options
    if family.ANSWER_TYPE == "yes_no":
      options = YES_NO
    return Question(
      family=name,
      text=family.TEMPLATES[template].format(**self.names),
      answer=self.answer,
      answer_type=family.ANSWER_TYPE,
      options=options,
      unit=self.unit,
      value=self.value,
      needs=family.NEEDS if self.needs is None else self.needs,
      flag=self.flag,
      reasoning=self.reasoning,
      template=template,
      evidence=self.evidence,
    )


def named(words: Words, b: int, items) -> dict[str, str]:
  """Names of the objects as a, b, c of the template."""
  return dict(zip("abc", (words.name[b][i] for i in items), strict=False))


def stands(relation: tuple[str, str], first_is_it: bool) -> str:
  """How the first of two objects stands to the second, to end a trace with."""
  return " ; " + relation[0 if first_is_it else 1]


def going_on(text: Written, *steps: str) -> Written:
  """With more steps at the end of its trace."""
  reasoning = " ; ".join([text.reasoning, *steps])
  return dataclasses.replace(text, reasoning=reasoning)


def evidence_of(items, **values) -> dict:
  """Instance ids of slots, as in the instance map, and what was measured."""
  return {"ids": [i + 1 for i in items], **values}


def flag_of(fooled: bool) -> str:
  """Seeing helps where a shortcut in the picture is fooled."""
  return "positive" if fooled else "boundary"


def length(words: Words, b: int, picked, reasoning: str, span) -> Written:
  """A length in metres of one or two objects; `span` is the family's RANGE."""
  items, value = picked["items"], picked["value"]
  usual = (span[0] * span[1]) ** 0.5
  return Written(
    names=named(words, b, items),
    answer=f"{metres(value)} m",
    reasoning=reasoning,
    evidence=evidence_of(items, value=value),
    unit="m",
    value=value,
    # A guess of the usual size is off by more than two: seeing pays.
    flag=flag_of(not 0.5 < value / usual < 2),
  )
