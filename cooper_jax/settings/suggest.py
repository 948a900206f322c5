"""The setting that is meant by a name that is none.

A misspelt name is near in its letters, a moved one keeps a word of its last
part, and an older word often stands in the new one's meaning.
"""

import difflib
import re
from collections.abc import Mapping

LEAST_SCORE = 0.7  # of a score: below it nothing is suggested
WORD_PATTERN = re.compile(r"[a-z0-9]+")


def suggest(name: str, meanings: Mapping[str, str]) -> str:
  """The end of an error that names the nearest setting, or nothing.

  In: "rl.group"   Out: '; did you mean "--config.grpo.rl.group_size"?'

  meanings: name -> meaning of all settings there are.
  """
  sections = {each.rpartition(".")[0] for each in meanings}
  scores = {
    each: nearness(name, each, said)
    for each, said in meanings.items()
    if each not in sections
  }
  best = max(scores, key=scores.get, default="")
  if not best or scores[best] < LEAST_SCORE:
    return ""
  return f'; did you mean "--config.{best}"?'


def nearness(asked: str, name: str, meaning: str) -> float:
  """How near a name is to what was asked, 0 to 1.2."""
  *sections, last = asked.split(".")
  *where, own = name.split(".")
  letters = difflib.SequenceMatcher(None, last, own).ratio()
  # Its words: in the name, or also in what is said of it.
  named = max(0.9 * shared_words(last, own), shared_words(last, name))
  told = shared_words(last, f"{own} {meaning}")
  if sections and where:
    same = difflib.SequenceMatcher(None, sections, where).ratio()
    spelt = difflib.SequenceMatcher(None, ".".join(sections), ".".join(where))
    place = max(same, 0.9 * spelt.ratio())
  else:
    place = float(sections == where)
  return max(letters, named, 0.8 * told) + 0.3 * place - 0.1


def shared_words(asked: str, text: str) -> float:
  """Share of the words of a name that a text has.

  In: "map_steps", "codes of a map"   Out: 0.5
  """
  words, there = (
    WORD_PATTERN.findall(asked.lower()),
    WORD_PATTERN.findall(text.lower()),
  )
  found = [any(is_alike(word, each) for each in there) for word in words]
  return sum(found) / max(1, len(found))


def is_alike(one: str, other: str) -> bool:
  """Whether two words are the same but for their ending, as count, counting."""
  alike = next(
    (i for i, (a, b) in enumerate(zip(one, other)) if a != b),
    min(len(one), len(other)),
  )
  short, long = sorted((len(one), len(other)))
  return one == other or (alike >= max(4, short - 1) and long - alike <= 4)
