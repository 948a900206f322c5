"""Multiple choice: which option a text chooses, by marking all and striking.

Every option or letter in a text is replaced by one character, its mark. What
is not chosen loses it: what is refused, denied, compared with, asked or said
by the way. Of what is left the first of these that names one option decides:

1. the whole text, or its opening: "B", "(B) the ball, because ..";
2. the last plain statement of the answer: "the answer is B";
3. a sentence that is nothing but an option: "It is B.";
4. what options alike but for a letter say in common: "A is closer";
5. the last conclusion ("so ..", "but .."), then everything;
6. what says an option in other words: "150 cm" of "1.5 m", "nearer" of
   "closer".

Two options in one of the last four places are no answer.
"""

import math
import re
from collections.abc import Sequence

from cooper_jax.grading import marks, quantities
from cooper_jax.grading.marks import MARK

# A clause of these words and one option does nothing but answer.
_CUES = set(
  "answer option choice choose pick select 答案 选项 选 答案是 我选".split()
)
_FILLERS = _CUES | set(
  "it is it's that this the my a an i i'd i'm i'll think believe say guess go"
  " going with would should must be was will likely probably most definitely"
  " clearly so then to and or both either correct right best final one point"
  " box here of lean towards toward question therefore thus hence"
  " 是".split()
)

_JOIN = r"\s*(?:[,/&+]\s*)?(?:(?:and|or|nor)\s+)?"
_TEXT = "[\U000f0000-\U000f0fff]"  # an option in its own words
_LIST = rf"{MARK}(?:{_JOIN}{MARK})*"
_WORDS = r"(?:(?!(?:and|but|or|so|while|than)\b)[a-z]+\s+){0,4}"
_REFUSED = re.compile(
  r"\b(?:can(?:no|['’])t|can not|could(?:n['’]t| not)|unable to|not able to"
  r"|(?:not |im)possible to|(?:difficult|hard|challenging) to|no way to)"
  r"(?:\s+\w+){0,3}?\s+(?:tell|told|say|said|determined?|know|known|judged?"
  r"|decided?|answer(?:ed)?|identif(?:y|ied)|ascertain(?:ed)?|assess|conclude"
  r"|confirm(?:ed)?|distinguish(?:ed)?|infer(?:red)?|estimated?"
  r"|discern(?:ed)?|select(?:ed)?|provide|assist|help)\b"
  r"|\bnot (?:\w+ly )?(?:enough|sufficient|clear|certain|sure)\b"
  r"|\b(?:insufficient|unclear|uncertain|unknown|undetermined|ambiguous)\b"
  r"|\b(?:do|does)(?:n['’]t| not) (?:know|provide)\b"
)
# What a clause says by the way.
_ASIDE = (
  r",\s*which\b[^,]*|\b(?:because|since|as(?!\s+well\b)|while|whereas|although"
  r"|though|whether|when|if(?! i\b| we\b| forced\b))\b[^,]*"
)
_NOT = (
  r"(?:not(?! only)|\w+n['’]t|cannot|never|nor|without|except|excluding|reject"
  r"|eliminate|exclude|discard|rule out|ruling out|rather than|instead of"
  r"|false|incorrect|wrong"
  r"|(?:any|every)thing but|all but)"
)
_IS = r"(?:is|are|was|were|can|could|do|does|did|would|will|has|have)"
_WRONG = (
  r"(?:not(?! only)|never|wrong|incorrect|false|unlikely|ruled out|out"
  r"|eliminated|excluded)"
)
_THAN = r"(?:than|compared (?:to|with)|relative to|unlike|as opposed to)"
# What matches is cut from a clause, in this order.
_CUTS = [
  re.compile(pattern)
  for pattern in (
    # "as close as": neither of the two.
    r"\bas\s+\w+\s+as\b",
    # Denied: "neither A nor B", "none of A, B", "not the ball", "A isn't".
    rf"\bneither\b.*\bnor\s+{_WORDS}{MARK}",
    rf"\b(?:neither|none)\s+{_WORDS}{_LIST}",
    rf"\b{_NOT}\s+{_WORDS}{MARK}(?:\s*,?\s*(?:or|nor|and)\s+{MARK})*",
    rf"\b(?:is|are|see|contains?|shows?|has|have)\s+no\s+{_TEXT}",
    rf"{_LIST}\s+(?:\w+n['’]t|cannot|{_IS}(?:\s+be)?\s+{_WRONG})\b",
    # Compared with: "than A"; framed: "of A and B, ..".
    rf"\b{_THAN}\s+{_WORDS}{MARK}(?:\s+(?:and|or)\s+{MARK})*",
    rf"\b(?:between|among|of)\s+{_WORDS}{MARK}(?:,\s*{MARK})*,?\s+and\s+{MARK}",
    _ASIDE,
  )
]
# A clause ends here; a word like "but" makes the next one a conclusion.
_SO = (
  r"(?:(?<!thing )(?<!all )but(?! also)|however|therefore|thus|hence"
  r"|wait|actually|no(?=[,:])"
  rf"|so(?=,|\s+(?:the|it|i|my|that|this)\b|\s*{MARK}))\b[,:]?\s*"
)
_TURN = re.compile(
  rf"(?:(?<=[.!?;])\s+|\n\s*|(?:^|[\s,]+)(?=\b{_SO}))((?:\b{_SO})+)?"
)

# Words that mean the same where options are alike but for a letter.
_SAME = (
  {"closer", "closest", "nearer", "nearest"},
  {"farther", "further", "farthest", "furthest"},
)
_VERBS = (
  "is|are|was|were|be|to|the|it|appears?|seems?|looks?|lies|much|slightly"
  "|likely|probably|clearly|definitely|one|that"
)


def read(
  body: str, options: Sequence[str], *, letters: bool
) -> tuple[int | None, str]:
  """(index of the option that a text chooses, "letter" or "text").

  Where none is clear: (None, "refusal") or (None, "none"). `letters`: the
  question showed its options by letter.
  """
  exact = [option.casefold() == body.casefold() for option in options]
  if sum(exact) == 1:
    return exact.index(True), "text"
  bare = marks.unlettered(options)
  letters, options = letters or bare != list(options), bare
  own = marks.own_letters(options)
  labels = own or (marks.in_order(options) if letters else {})
  text = marks.put(body, options, labels).lower()
  clauses, refused = _clauses(text)
  found = _one(text.strip(" \t\n.,;:!?()[]\"'"), alone=True)
  found = found or _opening(text, clauses) or _stated(clauses)
  common = _common_words(options, own)
  if common:
    found = found or _said_of(clauses, common)
  else:
    everything = "" if refused else "".join(clause for clause, _ in clauses)
    found = found or _one(everything) or _one(_conclusion(clauses))
  if not found:
    if refused:
      return None, "refusal"
    same = _in_other_words(body, options)
    return same, "none" if same is None else "text"
  code = ord(found)
  return code & 0xFFF, "text" if code < marks.LETTER else "letter"


def _in_other_words(body: str, options: Sequence[str]) -> int | None:
  """The option that is the same number, length or word as a whole text."""
  if re.search(rf"\b{_NOT}\b", body.lower()):
    return None
  values = [quantities.read(option) for option in options]
  if all(values):
    said = quantities.read(body)
    same = [
      value is not None
      and said is not None
      and value.unit == said.unit
      and math.isclose(value.value, said.value, abs_tol=1e-9)
      for value in values
    ]
  else:
    words = set(re.findall(r"[\w'’]+", body.lower())) - _FILLERS
    alike = [each for each in _SAME if words and words <= each]
    same = [any(option.lower() in each for each in alike) for option in options]
  return same.index(True) if sum(same) == 1 else None


def _one(text: str, *, alone: bool = False) -> str | None:
  """The mark of a text whose marks all are of one option."""
  found = re.findall(MARK, text)
  known = {ord(mark) & 0xFFF for mark in found}
  if len(known) != 1 or marks.OTHER in known or (alone and text != found[0]):
    return None
  return found[0]


def _opening(text: str, clauses) -> str | None:
  """A letter set off at the start, "(B) the ball near ..", and no other."""
  first = clauses[0][0].strip() if clauses else ""
  heads = "".join(re.findall("[\U000f2000-\U000f2fff]", text))
  if first[:1] and first[0] in heads and _one(heads):
    return _one(re.match(_LIST, first)[0])
  return None


def _stated(clauses) -> str | None:
  """The last "the answer is B", else the one that a whole clause names."""
  said, plain, announced = None, "", False
  for clause, _ in clauses:
    last = clause.rsplit(",", 1)[-1]  # "judging by that, the answer is B"
    cue = _only(last, _CUES)
    if _one(last) and (cue or (announced and _only(last))):
      said = _one(last)
    if _one(clause) and _only(clause):
      plain += _one(clause)
    announced = cue and not _one(last) and last.rstrip().endswith(":")
  return said or _one(plain)


def _only(clause: str, some: set[str] | None = None) -> bool:
  """Whether a clause holds nothing but fillers, and one of some of them."""
  words = set(re.findall(r"[\w'’]+", clause))
  return words <= _FILLERS and (some is None or bool(words & some))


def _said_of(clauses, common) -> str | None:
  """The option of which a clause says the words that all options share."""
  near, far = {True: "", False: ""}, ""
  first = "|".join(sorted(common[0]))
  direct = re.compile(rf"({_LIST}),?\s+(?:(?:{_VERBS})\s+)*(?:{first})\b")
  for clause, concluding in clauses:
    words = set(re.findall(r"[\w'’]+", clause))
    whole = re.findall(_TEXT, clause)
    if all(words & group for group in common):
      near[concluding] += "".join(direct.findall(clause))
      far += clause
    near[concluding] += "".join(whole)
  return _one(near[True]) or _one(near[True] + near[False]) or _one(far)


def _conclusion(clauses) -> str:
  """Everything from the last "so", "but" on that has a mark after it."""
  text = ""
  for clause, concluding in reversed(clauses):
    text = clause + text
    if concluding and re.search(MARK, text):
      return text
  return ""


def _common_words(options: Sequence[str], own: dict[str, int]):
  """Groups of words that the options with a letter share, verbs left out."""
  if not own:
    return []
  rest = options[next(iter(own.values()))].lower().split()
  kept = [w for w in rest if len(w) > 1 and not re.fullmatch(_VERBS, w)]
  kept = [w for w in kept if not re.fullmatch(marks.NOUN, f"{w} ")]
  return [next((s for s in _SAME if w in s), {w}) for w in kept]


def _clauses(text: str) -> tuple[list[tuple[str, bool]], bool]:
  """([(clause, is it a conclusion)], whether one is a refusal)."""
  pieces = [None, *_TURN.split(text)]
  clauses, refused = [], False
  for turn, clause in zip(pieces[::2], pieces[1::2]):
    if _REFUSED.search(clause):
      refused, clause = True, ""
    elif clause.rstrip().endswith("?"):
      clause = ""
    for cut in _CUTS:
      clause = cut.sub(" ", clause)
    clauses.append((clause, turn is not None))
  return clauses, refused
