"""Import slice by slice: every process reads what its own devices hold.

Folders may be larger than the memory of a host. Of every tensor the slice that
a device holds is copied out of the file, into its place among the layers.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np

from cooper_jax.training import telemetry
from cooper_jax.weights import decoder, importing

LABEL = "weights"  # of the progress bar
TABLE_CHUNK = 2**24  # values of a table that are looked at at once


@dataclasses.dataclass(frozen=True)
class Stream:
  """An array [...] that is made slice by slice.

  part(layer, slices) gives a part of a layer; of what has none, layer is 0.
  """

  shape: tuple[int, ...]  # layers in front, where there are
  layers: int  # 0 = it has none
  part: Callable[[int, tuple[slice, ...]], np.ndarray]

  def read(self, index: tuple[slice, ...], dtype) -> np.ndarray:
    """The values at some slices of the array, in a dtype."""
    index = tuple(
      slice(*each.indices(size)) for each, size in zip(index, self.shape)
    )
    shape = [each.stop - each.start for each in index]
    found = np.empty(shape, dtype)
    if not self.layers:
      found[...] = self.part(0, index)
      return found
    for at, layer in enumerate(range(index[0].start, index[0].stop)):
      found[at] = self.part(layer, index[1:])
    return found


def of_folder(planned: importing.ImportPlan, path: str) -> Stream:
  """A leaf of an import, by its path."""
  name = planned.names[path]
  part = functools.partial(importing.read_part, planned, path)
  return Stream(planned.shape(path), name.layers, part)


def zeros(shape: tuple[int, ...]) -> Stream:
  """An array of zeros."""
  return Stream(shape, 0, lambda _, index: np.zeros((), np.float32))


def corner(table: Stream, cells: int) -> Stream:
  """Of a table [J, D] of a square of cells a corner, as many as are said."""
  sides = (round(table.shape[0] ** 0.5), round(cells**0.5))
  chosen = decoder.corner(*sides)
  every = slice(0, table.shape[0])

  def part(_, index):
    rows, columns = index
    return table.part(0, (every, columns))[chosen[rows]]

  return Stream((cells, *table.shape[1:]), 0, part)


def extended(table: Stream, rows: int, rng_of: Callable) -> Stream:
  """A table [n, D] with rows behind that are drawn as its own are spread.

  Column by column they have the mean and the deviation of its rows. rng_of()
  gives the generator, always the same. rows: all there are in the end.
  """
  old, width = table.shape

  @functools.lru_cache(maxsize=1)
  def drawn(start: int, stop: int) -> np.ndarray:
    columns = slice(start, stop)
    mean, deviation = _spread(table, columns)
    own = rng_of().standard_normal((rows - old, width), np.float32)
    return mean + deviation * own[:, columns]

  def part(_, index):
    asked, columns = index
    parts = []
    if asked.start < old:
      first = slice(asked.start, min(asked.stop, old))
      parts.append(table.part(0, (first, columns)).astype(np.float32))
    if asked.stop > old:
      own = drawn(columns.start, columns.stop)
      parts.append(own[max(asked.start - old, 0) : asked.stop - old])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)

  return Stream((rows, width), 0, part)


def _spread(table: Stream, columns: slice) -> tuple[np.ndarray, np.ndarray]:
  """Mean and deviation f32 [n] of some columns of a table."""
  rows = table.shape[0]
  total = squares = 0.0
  step = max(1, TABLE_CHUNK // (columns.stop - columns.start))
  for start in range(0, rows, step):
    chosen = (slice(start, min(start + step, rows)), columns)
    part = table.part(0, chosen).astype(np.float64)
    total, squares = total + part.sum(axis=0), squares + (part**2).sum(axis=0)
  mean = total / rows
  deviation = np.sqrt(np.maximum(squares / rows - mean**2, 0.0))
  return mean.astype(np.float32), deviation.astype(np.float32)


def place(streams: dict[str, Stream], tree: dict) -> dict:
  """The arrays of streams, by path, each where and in the dtype of a tree's.

  tree: arrays, or their shapes, by path; what has no sharding is made whole on
  the host. All processes have to call it, each with the same.
  """
  plans = {path: _slices(each, tree[path]) for path, each in streams.items()}
  total = sum(size for plan in plans.values() for size, *_ in plan)
  found = {}
  with telemetry.Progress(total, LABEL, unit="B") as progress:
    for path, stream in streams.items():
      leaf, parts = tree[path], []
      for size, index, devices in plans[path]:
        parts += _on(devices, stream.read(index, leaf.dtype))
        progress.advance(size)
      sharding = getattr(leaf, "sharding", None)
      found[path] = parts[0]
      if sharding is not None:
        found[path] = jax.make_array_from_single_device_arrays(
          stream.shape, sharding, parts
        )
  return found


def _on(devices, values: np.ndarray) -> list:
  """A copy on each device; without any the values themselves."""
  return [jax.device_put(values, each) for each in devices] or [values]


def _slices(stream: Stream, leaf) -> list[tuple]:
  """(bytes, index, devices) of each slice that this process needs.

  Without a sharding one, of everything, for no device.
  """
  sharding, itemsize = getattr(leaf, "sharding", None), leaf.dtype.itemsize
  if sharding is None:
    whole = tuple(slice(0, size) for size in stream.shape)
    return [(int(np.prod(stream.shape)) * itemsize, whole, ())]
  places = sharding.addressable_devices_indices_map(stream.shape)
  by_index = collections.defaultdict(list)
  for device, index in places.items():
    ranges = tuple(
      each.indices(size)[:2] for each, size in zip(index, stream.shape)
    )
    by_index[ranges].append(device)
  return [
    (
      int(np.prod([stop - start for start, stop in ranges])) * itemsize,
      tuple(slice(*each) for each in ranges),
      devices,
    )
    for ranges, devices in by_index.items()
  ]
