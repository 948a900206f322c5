"""Export of released weights: leaves of ours -> a folder like their source."""

import contextlib
import math
from collections.abc import Callable, Iterator

import einops
import numpy as np

from cooper_jax.errors import UserError, nearest
from cooper_jax.weights import decoder, folder, headers, writing
from cooper_jax.weights.importing import ImportPlan


def export(planned: ImportPlan, leaves: dict, target) -> list[str]:
  """Writes leaves as a folder like the one that they came from.

  leaves: by path, of any dtype, all that `importing.read` gives; a table [rows,
  D] may have rows of our own behind the folder's. Names, dtypes and the
  division into files are the source's, tensors that were not imported are its
  own; a head that is the embedding is not written. Gives the names of the files
  of weights. Raises UserError where a leaf is missing, unknown, of another
  shape, or has values that the folder's dtype does not hold.
  """
  _check(planned, leaves)
  with new_export(planned, target) as write:
    return write(leaves)


@contextlib.contextmanager
def new_export(
  planned: ImportPlan, target, *, unchanged: bool = False
) -> Iterator[Callable[[dict], list[str]]]:
  """Makes place for an export; gives what writes leaves into it.

  unchanged: the leaves will be the source's own, so that what its class gave
  (`io.npz`) holds of them, too.
  """
  source = planned.source
  carried = dict.fromkeys(planned.carried)
  places: dict[str, list] = {}
  for path, keys in planned.keys.items():
    for layer, key in enumerate(keys):
      places.setdefault(key, []).append((path, layer))
  entries = {key: source.tensors[key] for key in places | carried}
  beside = writing.beside(source.path)
  if not unchanged:
    beside = [file for file in beside if file.name != folder.EXPECTED]

  size = sum(entry.end - entry.begin for entry in entries.values())
  size += sum(file.stat().st_size for file in beside) + 256 * len(entries)
  writing.check_outside(target, source.path)
  with writing.new_folder(target, size=size) as made:

    def write(leaves: dict) -> list[str]:
      def data(key: str) -> np.ndarray:
        if key in carried:
          return source.raw(key)
        return _tensor(planned, leaves, key, places[key])

      names = writing.write_weights(made, entries, data, source.metadata)
      for file in beside:
        (made / file.name).write_bytes(file.read_bytes())
      return names

    yield write


def _check(planned: ImportPlan, leaves: dict) -> None:
  """The leaves are those that the folder's tensors are made of."""
  for path in leaves:
    if path not in planned.keys:
      raise UserError(
        f"{planned.source.path} has no place for the leaf"
        f" {path}{nearest(path, planned.keys)}; leave it out"
      )
  for path, keys in planned.keys.items():
    if path not in leaves:
      raise UserError(
        f"the leaf {path} is missing, which {keys[0]} is made of; give all that"
        " were read"
      )
    shape, wanted = np.shape(leaves[path]), planned.shape(path)
    compared, transform = shape, planned.names[path].transform
    if transform == decoder.FIRST_ROWS and shape:
      compared = (min(shape[0], wanted[0]), *shape[1:])
    elif transform == decoder.CORNER and shape[:1] < wanted[:1]:
      side = math.isqrt(shape[0])
      compared = wanted if (side**2, *wanted[1:]) == shape else shape
    if compared != wanted:
      raise UserError(
        f"the leaf {path} has shape {list(shape)}, {planned.source.path} has"
        f" {list(wanted)}; one of them is of another model"
      )


def _tensor(planned: ImportPlan, leaves: dict, key: str, places: list):
  """A tensor of the folder, in its dtype: what `importing.read` did, undone.

  places: (path, layer) of each leaf that has a part of it.
  """
  places = sorted(places, key=lambda place: planned.names[place[0]].part)
  parts = [
    _part(planned, leaves[path], key, path, layer) for path, layer in places
  ]
  part = np.concatenate(parts) if len(parts) > 1 else parts[0]
  source, path = planned.source, places[0][0]
  dtype = source.tensors[key].dtype
  with np.errstate(over="ignore", invalid="ignore"):  # told below
    array = np.asarray(part).astype(headers.DTYPES[dtype], copy=False)
  bad = array.size - np.count_nonzero(np.isfinite(array))
  if bad and not source.nonfinite:
    raise UserError(
      f"{key}, of the leaf {path}, would have {bad:,} of {array.size:,} values"
      f" that are NaN or infinite in {dtype}; nothing is written"
    )
  return array


def _part(planned: ImportPlan, leaf, key: str, path: str, layer: int):
  """The rows of a tensor that a leaf has, in the leaf's dtype."""
  name, source = planned.names[path], planned.source
  part = leaf[layer] if name.is_stacked else leaf
  if name.transform == decoder.FIRST_ROWS:
    part = part[: name.shape[0]]
  if name.transform in (decoder.TRANSPOSED, decoder.PATCHES):
    part = np.asarray(part).T
  if name.transform == decoder.KERNEL:
    part = np.moveaxis(np.asarray(part), (-2, -1), (1, 0))
  shape = source.tensors[key].shape
  if name.transform == decoder.PATCHES and len(shape) == 4:
    part = einops.rearrange(
      part, "d (p q c) -> d c p q", p=shape[2], q=shape[3]
    )
  if name.transform == decoder.PATCHES and len(shape) == 5:
    part = einops.rearrange(
      part, "d (t p q c) -> d c t p q", t=shape[2], p=shape[3], q=shape[4]
    )
  if name.transform == decoder.CORNER and len(part) < shape[0]:
    # The other cells are as they were: no picture was that large.
    whole, side = source.read(key), math.isqrt(shape[0])
    whole = whole.astype(np.float32)
    whole[decoder.corner(side, math.isqrt(len(part)))] = part
    part = whole
  return part
