"""Samples to batches of numpy arrays, by Grain, with an exact position.

Everything that is random about example i (the order's i-th sample, crops,
which question is asked) is a function of (seed, i), and the position is a
small dict, so a run that was killed goes on with the very next batch.
"""

import dataclasses
import functools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from cooper_jax.data import mixture
from cooper_jax.data.mixture import Mixture
from cooper_jax.data.sources import Source
from cooper_jax.errors import UserError
from cooper_jax.parallel import shard
from cooper_jax.sample import Sample

Example = Mapping[str, np.ndarray]
Build = Callable[[Sample, np.random.Generator], Example | None]
PREFETCH = 4  # batches made ahead, in a thread


def make_batches(
  source: Source | Mixture,
  *,
  build: Build,
  batch_size: int,
  seed: int,
  shuffle: bool = True,
  epochs: int | None = None,
  workers: int = 0,
  bad_samples: float = 0.0,
  rows: Sequence[int] | None = None,
) -> "Batches":
  """Iterator of dicts of arrays [batch, ...], by `build(sample, rng)`.

  `batch_size` counts the examples of all processes, `rows` are those of each
  batch that this one makes: by default, of several, what the mesh puts on its
  devices, so that all together they hold the batch of one process, in its
  order.  An example that is None is left out, and the next of the same process
  takes its place.  With `epochs` the last batch may be smaller.  `workers` = 0
  builds in a thread; more need `build` to be picklable.
  """
  if batch_size < 1:
    raise UserError(f"batch size {batch_size}; make it 1 or more")
  rows = shard.own_rows(batch_size) if rows is None else list(rows)
  whole = len(rows) == batch_size
  identity = {
    "source": _name(source),
    "samples": len(source),
    "seed": seed,
    "batch_size": batch_size,
    "shuffle": shuffle,
    "workers": workers,
    "process": [0, 1] if whole else rows,
  }
  source = mixture.tolerant(source, bad_samples)
  samples = mixture.dataset(source, seed=seed, shuffle=shuffle, epochs=epochs)
  # Built before the processes part: an example's number, and with it its
  # randomness, does not depend on how many processes there are.
  examples = samples.map_with_index(
    functools.partial(_example, build=build, seed=seed)
  )
  if not whole:
    examples = grain.MapDataset.source(Rows(examples, batch_size, rows))
  options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
  batches = examples.to_iter_dataset(options).batch(
    len(rows), drop_remainder=epochs is None, batch_fn=stack
  )
  if workers:
    _parse_flags()
    batches = batches.mp_prefetch(
      grain.MultiprocessingOptions(
        num_workers=workers, per_worker_buffer_size=PREFETCH
      )
    )
  else:
    batches = grain.experimental.ThreadPrefetchIterDataset(
      batches, prefetch_buffer_size=PREFETCH
    )
  return Batches(iter(batches), identity)


@dataclasses.dataclass(frozen=True)
class Rows:
  """Some rows of each batch of a source, one batch after the other.

  In: the numbers from 0 on, batch 4, rows (2, 3)   Out: 2, 3, 6, 7, 10, ...
  """

  source: Sequence
  batch: int
  rows: Sequence[int]

  def __len__(self) -> int:
    batches, rest = divmod(len(self.source), self.batch)
    return batches * len(self.rows) + sum(row < rest for row in self.rows)

  def __getitem__(self, index: int):
    batch, place = divmod(index, len(self.rows))
    return self.source[batch * self.batch + self.rows[place]]


class Batches:
  """An iterator of batches that knows its position; close it when done."""

  def __init__(self, iterator: grain.DatasetIterator, identity: dict[str, Any]):
    self.identity = identity
    self._held = [iterator]
    # At exit at the latest: grain's own __del__ fails once modules are gone.
    self._release = weakref.finalize(self, _close, self._held)

  def __iter__(self) -> "Batches":
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    return next(self._iterator)

  def state(self) -> dict[str, Any]:
    """The position after the last batch that was taken, fit for JSON."""
    return {**self.identity, "position": self._iterator.get_state()}

  def restore(self, state: Mapping[str, Any]) -> None:
    """Goes to a position; UserError where it is another data's position."""
    for key, value in self.identity.items():
      if state.get(key) != value:
        raise UserError(
          f"the checkpoint's data position has {key} {state.get(key)!r}, this "
          f"run has {value!r}; run with the former, or start in a new workdir"
        )
    self._iterator.set_state(state["position"])

  def close(self) -> None:
    """Stops reading ahead; a closed iterator gives no more batches."""
    self._release()

  @property
  def _iterator(self) -> grain.DatasetIterator:
    if not self._held:
      raise ValueError("these batches are closed")
    return self._held[0]

  def __enter__(self) -> "Batches":
    return self

  def __exit__(self, *error) -> None:
    self.close()


def _close(held: list[grain.DatasetIterator]) -> None:
  if held:
    held.pop().close()


def stack(examples: Sequence[Example]) -> dict[str, np.ndarray]:
  """Examples of equal keys and shapes as one dict of arrays [n, ...]."""
  first = examples[0]
  for example in examples:
    if example.keys() != first.keys():
      raise ValueError(f"examples of {sorted(first)} and {sorted(example)}")
  return {key: np.stack([e[key] for e in examples]) for key in first}


def example_rng(seed: int, index: int) -> np.random.Generator:
  """The randomness of the index-th example that a run reads."""
  return np.random.Generator(np.random.Philox(key=[seed, index]))


def _example(
  index: int, sample: Sample | None, *, build: Build, seed: int
) -> Example | None:
  if sample is None:  # a bad sample that may be left out
    return None
  return build(sample, example_rng(seed, index))


def _name(source: Source | Mixture) -> str:
  """The source's own repr; the default one would hold an address."""
  own = type(source).__repr__ is not object.__repr__
  return repr(source) if own else type(source).__name__


def _parse_flags() -> None:
  """Grain's workers read an absl flag, which outside `app.run` is an error."""
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
