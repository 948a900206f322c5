"""Names, locations and lengths of a batch's objects, as text."""

from __future__ import annotations

import numpy as np

from cooper_jax.tokenizers.lengths import metres
from cooper_jax.world import config
from cooper_jax.world.questions import wording
from cooper_jax.world.questions.measure import Facts


class Words:
  """Names, locations and lengths of the objects of one batch, as text."""

  def __init__(self, facts: Facts):
    size = facts.size
    self.named = facts.named.tolist()
    self.name = [
      [
        f"{config.COLOURS[c]} {config.SHAPES[s]}"
        for c, s in zip(colours, kinds)
      ]
      for colours, kinds in zip(facts.colour.tolist(), facts.shape.tolist())
    ]

    def places(flat):
      return [[wording.location(p, size) for p in row] for row in flat.tolist()]

    self.at = places(facts.at)
    self.top = places(facts.top)
    self.bottom = places(facts.bottom)
    self.depth = [[metres(z) for z in row] for row in facts.depth.tolist()]
    self.depth_value = facts.depth.tolist()
    self.height = facts.height.tolist()
    self.width = facts.width.tolist()
    self.colour = facts.colour.tolist()
    self.shape = facts.shape.tolist()
    between = facts.centre[:, :, None] - facts.centre[:, None]
    self.distance = np.sqrt((between * between).sum(-1)).tolist()
    box = facts.box
    high = box[..., 1] - box[..., 0] + 1
    area = high * (box[..., 3] - box[..., 2] + 1)
    self.area = area.tolist()
    self.high = high.tolist()
    self.middle = facts.middle.tolist()
    self.left_first = np.argsort(facts.middle[..., 1], kind="stable").tolist()
    self.seen = facts.seen.tolist()
    self.focal = facts.focal.tolist()
    # How far to the right of where the camera looks, in metres by the lens.
    column = (facts.middle[..., 1] + 0.5) / size - 0.5
    self.aside = (column * facts.depth).tolist()

  def point(self, b: int, i: int) -> str:
    return f"{self.name[b][i]} {self.at[b][i]}"

  def measured(self, b: int, i: int) -> str:
    return f"{self.name[b][i]} {self.at[b][i]} {self.depth[b][i]} m"

  def depths(self, b: int, items) -> list[float]:
    """Depths of objects, in metres."""
    return [self.depth_value[b][i] for i in items]

  def upright(self, b: int, i: int) -> str:
    """The object from its top to its bottom, and how far away it is."""
    ends = f"{self.top[b][i]} to {self.bottom[b][i]}"
    return f"{self.name[b][i]} {ends} {self.depth[b][i]} m"

  def extent(self, b: int, i: int, length: float) -> str:
    """A length at the object's depth, in widths of the image.

    With the focal length in the same unit (sequences/lens.py), the length is
    extent * depth / focal length.
    """
    return metres(length * self.focal[b] / self.depth_value[b][i])

  def larger_is_closer(self, b: int, i: int, j: int) -> bool:
    """Would the pixel shortcut take i for the closer one?"""
    return self.area[b][i] > self.area[b][j]
