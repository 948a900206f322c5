"""Self-generated maps of training scenes, for SFT to read.

A policy trained on true codes learns to trust a map to the last digit; the
policy will read what it drew. So the policy that SFT starts from draws the
maps of the first training scenes once, and traces about them read these
instead of the true ones (`sft.self_map_share`).
"""

from pathlib import Path

import numpy as np

from cooper_jax.rollouts import generate
from cooper_jax.training import telemetry

_CHUNK = 1024  # samples in memory at once


def draw(policy, params, codecs, source, *, count, batch, buckets, path):
  """Modality -> codes i32 [count, Q], greedy; kept in the file `path`.

  A file of the same samples is read instead: a run that goes on reads what it
  read before it stopped.
  """
  path, count = Path(path), min(count, len(source))
  if path.exists():
    with np.load(path) as found:
      if str(found["source"]) == f"{source!r} {count}":
        return {name: np.asarray(found[f"map/{name}"]) for name in codecs}
  parts = {name: [] for name in codecs}
  with telemetry.Progress(count, "own maps") as progress:
    for start in range(0, count, _CHUNK):
      samples = [source[i] for i in range(start, min(start + _CHUNK, count))]
      there = [i for i, sample in enumerate(samples) if sample is not None]
      read = [samples[i] for i in there]
      for name, codec in codecs.items():
        # Of a bad sample, which may be left out, no trace reads them.
        codes = np.zeros((len(samples), codec.config.cells), np.int32)
        if there:
          codes[there] = generate.draw_codes(
            policy, params, read, name, codec, batch=batch, buckets=buckets
          )
        parts[name].append(codes)
      progress.advance(len(samples))
  drawn = {name: np.concatenate(part) for name, part in parts.items()}
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_suffix(".partial.npz")
  np.savez(
    partial,
    source=np.array(f"{source!r} {count}"),
    **{f"map/{name}": codes for name, codes in drawn.items()},
  )
  partial.replace(path)
  return drawn
