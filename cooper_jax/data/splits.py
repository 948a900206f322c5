"""Splits of own images: train, validation and test by a hash of their paths.

An image is in the same split in every run and on every machine, whatever lines
stand around it. Of few images a split may get none: one is then moved there
from the largest split, and said.
"""

import hashlib
from collections.abc import Iterable

NAMES = ("train", "validation", "test")


def divide(images: Iterable[str]) -> tuple[dict[str, set[str]], str]:
  """(split -> its images, one line of what was done to fill them, or "").

  8:1:1. No split is empty where there is an image: of one or two images, the
  same one is in several splits, which measures memory and nothing else.
  Where no split is empty, nothing is moved.
  """
  divided: dict[str, set[str]] = {name: set() for name in NAMES}
  for image in images:
    divided[_split_of(image)].add(image)
  moved, shared = [], []
  for name in NAMES:
    if divided[name] or not any(divided.values()):
      continue
    largest = max(NAMES, key=lambda other: len(divided[other]))
    image = min(divided[largest], key=_digest)
    if len(divided[largest]) > 1:
      divided[largest].remove(image)
      divided[name].add(image)
      moved.append(f"{image} from {largest} to {name}, which had none")
    else:  # of two images, not that of training
      others = (divided[other] for other in ("validation", "test", "train"))
      divided[name] |= next(filter(None, others))
      shared.append(name)
  notes = [f"moved {' and '.join(moved)}"] if moved else []
  if shared:
    notes.append(
      f"too few images for three splits, so {' and '.join(shared)} "
      f"{'have' if len(shared) > 1 else 'has'} one of another split: scores "
      "on it say nothing about new images; add images"
    )
  return divided, "; ".join(notes)


def _digest(image: str) -> bytes:
  return hashlib.sha256(image.encode()).digest()


def _split_of(image: str) -> str:
  bucket = _digest(image)[0] % 10
  return {8: "validation", 9: "test"}.get(bucket, "train")
