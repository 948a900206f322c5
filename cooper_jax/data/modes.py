"""Modes of use: ways of answering, by the maps that are drawn before it.

An answer is given at once, after a thought in text, after one map of a
modality, after two maps, or as the policy likes. So the modes follow from the
modalities: each is a mode, and `BOTH` draws the first two.
"""

from collections.abc import Sequence

from cooper_jax import modalities

DIRECT, IN_TEXT = "direct", "text"
BOTH = "both"
WITHOUT_MAPS = (DIRECT, IN_TEXT)
ADAPTIVE = "adaptive"  # the policy decides for itself
NEEDED = "needed"  # of traces alone: the maps that the question's program reads


def of_policy(names: Sequence[str]) -> tuple[str, ...]:
  """The modes of use of a policy that draws these modalities."""
  both = (BOTH,) if len(names) > 1 else ()
  return (DIRECT, IN_TEXT, *names, *both, ADAPTIVE)


def every() -> tuple[str, ...]:
  """All modes of use, of a policy of all modalities that there are."""
  return of_policy(modalities.names())


def of_traces() -> tuple[str, ...]:
  """The modes that traces are written in, about as long as they are."""
  return (DIRECT, IN_TEXT, NEEDED, *reversed(modalities.names()), BOTH)


def maps_of(mode: str, names: Sequence[str]) -> tuple[str, ...]:
  """The maps that a mode draws, of modalities in the order of their ids.

  In: "both", ("depth", "segmentation")   Out: ("depth", "segmentation")
  """
  return tuple(names[:2]) if mode == BOTH else (mode,) * (mode in names)


def order(pairs) -> tuple[str, ...]:
  """The names of a policy's (modality, MODALITY_ID), in the order of ids."""
  return tuple(name for name, _ in sorted(pairs, key=lambda pair: pair[1]))
