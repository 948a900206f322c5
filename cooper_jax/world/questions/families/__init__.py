"""Question families of the rendered world, one per file.

To ask something new, add a file. Its name is the family's, as the report and
`config.grpo.families` have it; nothing else names it. It must hold

  TEMPLATES: the phrasings, `PHRASINGS` of them, with {a}, {b} .. for what
    `write` names; the last one is kept for the held-out split;
  ANSWER_TYPE: "choice" | "yes_no" | "number";
  NEEDS: the maps that its program reads, of "depth" and "segmentation";
  candidates(scenes, draws) -> Candidates: what could be asked of each scene
    and how likely each is accepted (`questions/candidates.py`);
  write(words, b, picked, side) -> Written: names, answer and reasoning of the
    candidate picked for scene `b` (`questions/written.py`). `side` is 0 or 1 at
    random, for families that can be asked from two sides.

It may hold

  RATES: acceptance numbers that keep it from being answered without looking
    (`questions/debias.py`); {} = everything is accepted;
  fit(rates, seen, power) -> rates: measures them (`tools/calibrate.py`);
  RANGE: metres (low, high) of its answers, where they are lengths;
  RELATION: the two words of how the first object stands to the second, which
    end its trace, as ("closer", "farther");
  MEASURES: "distance" or "size", where it is about one;
  MOVES: which changes of a depth map its trace can be told for: "all" (its
    answer is no matter of depth), "each" (objects moved one by one: every
    object it names has its reading; of a RELATION the first word is of a
    nearer first object, and `evidence` has their `depth`), "whole" (only a map
    moved as a whole; the default) or "none";
  rewrite(question, steps) -> Question | None: does so itself, in its place
    (`data/counterfactual.py`);
  LONGEST: (text, reasoning, answer), where one of these has more tokens than
    any that there is;
  derive(words, b, picked, written) -> Written: what `write` gave, with a trace
    that goes on to the answer in steps that each follow from those before it;
    where `config.world.derive` names the family. Such a trace reads the maps
    DERIVED_NEEDS (default NEEDS), and is no longer than LONGEST_DERIVED;
  SIZE: of a family that derives and asks one object's size, that attribute of
    `labels.Words`: it can then be asked of any object (`extra_sizes`);
  ALLOTTED: (first uniform, place), only of families as old as the world: they
    draw from the layout's own uniforms, so that its questions stay the same.
    Every other family draws from a stream keyed by seed, split, scene and its
    name, so that no family changes what another one draws.
"""

import functools
from collections.abc import Collection
from types import ModuleType

from cooper_jax import plugins
from cooper_jax.errors import UserError

PHRASINGS = 4
_REQUIRED = ("TEMPLATES", "ANSWER_TYPE", "NEEDS", "candidates", "write")


def names() -> tuple[str, ...]:
  """All families: those with a place in the layout's draws, then by name."""
  return tuple(_found(tuple(__path__)))


def find(name: str) -> ModuleType:
  """A family's file; UserError names what there is, or what the file lacks."""
  found = _found(tuple(__path__))
  return found[name] if name in found else plugins.find("families", name)


def where(test) -> tuple[str, ...]:
  """Families whose file passes a test: `where(lambda f: f.NEEDS == ())`."""
  return tuple(name for name in names() if test(find(name)))


def measuring(what: str) -> tuple[str, ...]:
  """Families about "distance" or "size", as a number or in comparison."""
  return where(lambda family: getattr(family, "MEASURES", "") == what)


def lengths() -> tuple[str, ...]:
  """Families whose answers are lengths."""
  return where(lambda family: hasattr(family, "RANGE") and is_number(family))


def is_number(family: ModuleType) -> bool:
  """Whether a family is answered by a number."""
  return family.ANSWER_TYPE == "number"


def relations() -> dict[str, tuple[str, str]]:
  """{family: its two words}, of those whose traces end with a relation."""
  return {
    name: find(name).RELATION
    for name in names()
    if hasattr(find(name), "RELATION")
  }


def needs(name: str, derive: Collection[str] = ()) -> tuple[str, ...]:
  """The maps that a family's program reads; of those that derive, theirs."""
  family = find(name)
  own = getattr(family, "DERIVED_NEEDS", family.NEEDS)
  return own if name in derive else family.NEEDS


def read_words() -> frozenset[str]:
  """Words of traces that are read off the image: relations, yes and no."""
  return _read_words(tuple(__path__))


@functools.cache
def _read_words(path: tuple[str, ...]) -> frozenset[str]:
  del path  # the key, as of the families
  said = {word for pair in relations().values() for word in pair}
  return frozenset(said | {"yes", "no"})


def moves(name: str) -> str:
  """A family's MOVES; "all" of a family that is not the world's."""
  if name not in names():
    return "all"
  return getattr(find(name), "MOVES", "whole")


@functools.cache
def _found(path: tuple[str, ...]) -> dict[str, ModuleType]:
  """The files in the folders of `path`, in order."""
  del path  # the key: another folder may come to hold more
  found = {name: plugins.find("families", name) for name in
           plugins.names("families")}  # fmt: skip
  for name, family in found.items():
    lacking = [part for part in _REQUIRED if not hasattr(family, part)]
    if lacking:
      raise UserError(
        f'question family "{name}" lacks {", ".join(lacking)}; give its file'
        f" all of {', '.join(_REQUIRED)}"
      )
    if len(family.TEMPLATES) != PHRASINGS:
      raise UserError(
        f'question family "{name}" has {len(family.TEMPLATES)} TEMPLATES;'
        f" give {PHRASINGS}, the last for the held-out split"
      )
  return dict(sorted(found.items(), key=lambda item: _rank(*item)))


def _rank(name, family):
  allotted = getattr(family, "ALLOTTED", None)
  return (allotted is None, allotted[1] if allotted else 0, name)
