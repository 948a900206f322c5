"""Rollouts as the packed rows of the update: a prompt and bins of rollouts."""

from typing import NamedTuple

import numpy as np

from cooper_jax.parallel import processes, shard
from cooper_jax.rl.rollout_batch import RolloutBatch
from cooper_jax.rollouts import documents
from cooper_jax.sampling.prompts import bucket
from cooper_jax.sequences import packing


class PackedRows(NamedTuple):
  """Some rows of the update, which are taken through the model at once."""

  packed: dict  # arrays [B, ..] as `packing.pack` has them
  held_R: np.ndarray  # bool, which of the step's rollouts are in these rows
  bins: tuple[int, int] | None  # (trunk, bin), tokens: how a row is laid out


def to_rows(
  scored: RolloutBatch, *, policy, buckets, bins: int, rows: int,
  whole: bool = False,
) -> list[PackedRows]:  # fmt: skip
  """All rollouts of a step as pieces of `rows` packed rows each.

  A row is a prompt and bins of whole rollouts of it. Pieces all have one
  shape, and only their number depends on how long the rollouts are; with
  `whole` all are in one piece, which then has as many rows as they need, and
  so few more that it comes in few sizes.

  buckets: lengths that prompts are padded to, tokens. bins: of a row.
  """
  form, limits = policy.form, policy.limits
  made = documents.documents(
    scored.rollout,
    scored.trunks,
    form=form,
    limits=limits,
    group=scored.group_size,
  )
  trunk = bucket(scored.trunks, form, buckets)
  shape = documents.row_shape(form, limits, trunk=trunk, bins=bins)
  placed = documents.spread(made, form, bin_size=shape.bin_size, bins=bins)
  while whole and rows < len(placed):
    rows *= 2
  pieces = []
  for start in range(0, len(placed), rows):
    some = placed[start : start + rows]
    held_R = np.zeros(len(scored.ids_R), bool)
    held_R[[i for _, held in some for i in held]] = True
    packed = packing.pack(
      [document for document, _ in some], form=form, shape=shape, rows=rows
    )
    if processes.several():
      own = shard.own_rows(rows)
      packed = shard.spread({name: x[own] for name, x in packed.items()})
    pieces.append(PackedRows(packed, held_R, shape.bins))
  return pieces
