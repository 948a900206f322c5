"""Assembly of questions: what was picked for each scene, put into words."""

from __future__ import annotations

from cooper_jax.sample import Question
from cooper_jax.world.questions import families
from cooper_jax.world.questions.families import PHRASINGS
from cooper_jax.world.questions.labels import Words
from cooper_jax.world.questions.written import evidence_of

FEWEST = 8  # questions of a scene, where it has that many to ask


def questions(
  picks: dict, words: Words, *, most, split: str, derive: tuple[str, ...] = ()
):
  """Writes the picked questions of each scene: a list of tuples.

  A scene with few wanted questions gets others, up to FEWEST; none gets more
  than `most`. derive: families whose traces derive the answer.
  """
  columns = {
    family: {name: array.tolist() for name, array in picks[family].items()}
    for family in picks
  }
  files = {family: families.find(family) for family in picks}
  written = []
  for b in range(len(words.named)):
    asked = [
      (not own["kept"][b], own["order"][b], k, family)
      for k, (family, own) in enumerate(columns.items())
      if own["asked"][b]
    ]
    asked.sort()
    wanted = sum(not spare for spare, *_ in asked)
    out = []
    for _, _, _, family in asked[: min(max(wanted, FEWEST), most)]:
      picked = {name: values[b] for name, values in columns[family].items()}
      template = int(picked["phrasing"] * (PHRASINGS - 1))
      if split == "heldout" and picked["novel"]:
        template = PHRASINGS - 1
      text = files[family].write(words, b, picked, picked["side"])
      if family in derive:
        text = files[family].derive(words, b, picked, text)
      out.append(text.question(family, files[family], template))
    written.append(tuple(out))
  return written


def grounding(words: Words, b: int, derive: tuple[str, ...] = ()):
  """Requests that make words point: list, where and mark; and spare questions.

  Of the families of `derive` that can ask it of any object, each asks it of
  every object: for `extra_sizes`.
  """
  spare = [(name, families.find(name)) for name in derive]
  spare = [(name, family) for name, family in spare if hasattr(family, "SIZE")]
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
    for number, (family, file) in enumerate(spare):
      text = _spare(file, words, b, i)
      if text is not None:
        template = (b + i + number) % (PHRASINGS - 1)
        out.append(text.question(family, file, template))
  return tuple(out)


def _spare(file, words: Words, b: int, i: int):
  """A derived question of one object's size; None where it is out of RANGE."""
  value = getattr(words, file.SIZE)[b][i]
  if not file.RANGE[0] <= value <= file.RANGE[1]:
    return None
  picked = {"items": (i,), "value": value}
  return file.derive(words, b, picked, file.write(words, b, picked, None))


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
