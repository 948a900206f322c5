"""Tables of rows: embedding and head, whole or with rows of their own trained.

Where only the last rows are trained, as those that a released table did not
have, the others stay in an array of their own: no gradient of the whole table
is ever made.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from cooper_jax.models import layers, lora
from cooper_jax.parallel.shard import constrain


@struct.dataclass
class Parted:
  """A table [V, D] whose last rows are read from another array [rows, D]."""

  whole_VD: jax.Array
  own_VD: jax.Array

  @property
  def first(self) -> int:
    """The first row that is read from `own_VD`."""
    return self.whole_VD.shape[0] - self.own_VD.shape[0]


def table(module: nn.Module, name: str, init, shape: tuple[int, ...]):
  """The parameter [V, D] of a module, `Parted` where some rows are trained."""
  whole = layers.parameter(module, name, init, shape)
  if not module.has_variable("params", name + lora.OWN_ROWS):
    return whole
  own = module.get_variable("params", name + lora.OWN_ROWS)
  return Parted(whole, own)


def rows(table, start: int, stop: int | None = None) -> list[jax.Array]:
  """Rows from `start` to `stop` as arrays [.., D], to be read in turn."""
  if not isinstance(table, Parted):
    return [table[start:stop]]
  first, stop = table.first, table.whole_VD.shape[0] if stop is None else stop
  parts = (
    table.whole_VD[start : min(stop, first)],
    table.own_VD[max(start - first, 0) : max(stop - first, 0)],
  )
  return [part for part in parts if part.shape[0]]


def look_up(table, ids, sharded: bool, dtype):
  """Rows [..., D] of a table by id, in another dtype.

  An id below 0 is read as if it were 0.

  The rows are converted, not the table: its gradient is added up as it is.
  Of a table of sharded width every device looks its part up, for all rows of
  the batch: what travels are the rows that are read, not the table.
  """
  ids = jnp.maximum(ids, 0)
  if not sharded:
    return _at(table, ids, dtype)
  rest = (None,) * (ids.ndim - 1)
  ids = constrain(ids, "copies", *rest)
  found = constrain(_at(table, ids, dtype), "copies", *rest, "table")
  return constrain(found, "batch", *rest, "embed_out")


def _at(table, ids, dtype):
  if not isinstance(table, Parted):
    return table[ids].astype(dtype)
  own = ids - table.first
  return jnp.where(
    (own >= 0)[..., None],
    table.own_VD[jnp.maximum(own, 0)].astype(dtype),
    table.whole_VD[ids].astype(dtype),
  )
