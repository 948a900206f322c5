"""Kinds of words, by which the tokens of a trace are weighted in the loss."""

from cooper_jax.world import config
from cooper_jax.world.questions import families

_NAMES = frozenset((*config.COLOURS, *config.SHAPES))


def kind_of(word: str) -> str:
  """Is it read off the image (a number, a relation), a name, or just said?"""
  if word in _NAMES:
    return "name"
  known = word[0].isdigit() or word in families.read_words()
  return "reading" if known else "text"
