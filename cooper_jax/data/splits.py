"""Own images divided into train, validation and test by a hash of their paths.

An image is in the same split in every run and on every machine, whatever lines
stand around it. Of few images a split may get none: one is then moved there
from the largest split, and said.
"""

import hashlib
from collections.abc import Iterable

NAMES = ("train", "validation", "test")


def divide(
  images: Iterable[str],
) -> tuple[dict[str, set[str]], dict[str, str]]:
  """(split -> its images, split -> what was done to fill it).

  8:1:1. No split is empty where there is an image: of one or two images, the
  same one is in several splits, which measures memory and nothing else.
  """
  divided: dict[str, set[str]] = {name: set() for name in NAMES}
  for image in images:
    divided[_split_of(image)].add(image)
  notes: dict[str, str] = {}
  for name in NAMES:
    if divided[name] or not any(divided.values()):
      continue
    largest = max(NAMES, key=lambda other: len(divided[other]))
    image = min(divided[largest], key=_digest)
    if len(divided[largest]) > 1:
      divided[largest].remove(image)
      notes[name] = (
        f"no image was left for {name}, so {image!r} is moved there from "
        f"{largest}"
      )
      continue
    # Another image than that of training, where there are two.
    shared = divided["validation"] or divided[largest]
    divided[name] = set(shared)
    notes[name] = (
      f"too few images for three splits: {name} shares {min(shared)!r} with "
      "another split, so its scores say nothing about new images"
    )
  return divided, notes


def _digest(image: str) -> bytes:
  return hashlib.sha256(image.encode()).digest()


def _split_of(image: str) -> str:
  bucket = _digest(image)[0] % 10
  return {8: "validation", 9: "test"}.get(bucket, "train")
