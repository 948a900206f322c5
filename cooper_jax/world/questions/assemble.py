"""Puts what was picked for each scene into questions and requests."""

from __future__ import annotations

from cooper_jax.sample import Question
from cooper_jax.world.questions import templates
from cooper_jax.world.questions.families import WRITERS, evidence_of
from cooper_jax.world.questions.labels import Words
from cooper_jax.world.questions.templates import PHRASINGS

FEWEST = 8  # questions of a scene, where it has that many to ask


def questions(picks: dict, words: Words, *, most, split: str):
  """Writes the picked questions of each scene: a list of tuples.

  A scene with few wanted questions gets others, up to FEWEST; none gets more
  than `most`.
  """
  sides = picks["sides"].tolist()
  phrase = picks["phrasing"].tolist()
  order = picks["order"].tolist()
  novel = picks["novel"].tolist()
  columns = {
    family: {name: array.tolist() for name, array in picks[family].items()}
    for family in templates.FAMILIES
  }
  written = []
  for b in range(len(sides)):
    asked = [
      (not columns[family]["kept"][b], order[b][k], k, family)
      for k, family in enumerate(templates.FAMILIES)
      if columns[family]["asked"][b]
    ]
    asked.sort()
    wanted = sum(not spare for spare, *_ in asked)
    out = []
    for _, _, k, family in asked[: min(max(wanted, FEWEST), most)]:
      picked = {name: values[b] for name, values in columns[family].items()}
      template = int(phrase[b][k] * (PHRASINGS - 1))
      if split == "heldout" and novel[b][k]:
        template = PHRASINGS - 1
      side = 0 if sides[b][k] else 1
      out.append(WRITERS[family](words, b, family, picked, template, side))
    written.append(tuple(out))
  return written


def grounding(words: Words, b: int):
  """Requests that teach words to point: list, where and mark."""
  shown = [i for i in words.left_first[b] if words.named[b][i]]
  out = []
  if shown:
    out.append(
      _request(
        "list",
        "List the objects .",
        " ; ".join(words.measured(b, i) for i in shown),
        shown,
        ("depth",),
      )
    )
  for i in shown:
    name = words.name[b][i]
    answer = f"{words.at[b][i]} {words.depth[b][i]} m"
    out.append(
      _request("where", f"Where is the {name} ?", answer, (i,), ("depth",))
    )
    answer = f"<segmentation id={i + 1}>"
    out.append(
      _request("mark", f"Mark the {name} .", answer, (i,), ("segmentation",))
    )
  return tuple(out)


def _request(family, text, response, items, needs):
  return Question(
    family=family,
    text=text,
    answer=response,
    answer_type="text",
    needs=needs,
    reasoning=response,
    evidence=evidence_of(items),
  )
