"""One of two processes that import a folder, for tests.

  python -m tests.weights.stream_pair FOLDER WORK

Prints, as JSON, the bytes of this process' shards, what its memory rose by
while they were read, and how far they are from the folder's own values.
"""

import json
import pathlib
import sys

import jax
import numpy as np

from cooper_jax import policy
from cooper_jax.parallel import processes
from cooper_jax.parallel.mesh import MeshConfig, make_mesh
from cooper_jax.training.manifest import flatten
from cooper_jax.weights import folder, importing, starting
from tests.weights import starts

STATUS = pathlib.Path("/proc/self/status")


def memory(name: str) -> int:
  """Bytes: VmRSS, what there is, or VmHWM, the most that there was."""
  lines = STATUS.read_text().splitlines()
  line = next(line for line in lines if line.startswith(f"{name}:"))
  return int(line.split()[1]) * 1024


def main(path: str, work: str) -> None:
  processes.start()
  config = starts.make(pathlib.Path(work), {"init.text": path})
  with jax.set_mesh(make_mesh(MeshConfig(data=1, fsdp=8))):
    abstract = policy.abstract_params(policy.make_policy(config))
    before = memory("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # VmHWM anew
    params, _ = starting.build(config, abstract)
    arrays = {
      name: leaf
      for name, leaf in flatten(params).items()
      if isinstance(leaf, jax.Array)
    }
    jax.block_until_ready(list(arrays.values()))
    risen = memory("VmHWM") - before
  shards = {name: leaf.addressable_shards for name, leaf in arrays.items()}
  own = sum(each.data.nbytes for parts in shards.values() for each in parts)
  planned, gap = importing.plan(folder.open_folder(path)), 0.0
  for name in planned.keys:
    for each in shards[name]:
      index, is_stacked = each.index, planned.names[name].is_stacked
      values = np.asarray(each.data[-1] if is_stacked else each.data)
      layer = len(planned.keys[name]) - 1 if is_stacked else 0
      wanted = importing.read_part(
        planned, name, layer, index[1:] if is_stacked else index
      )
      # Rows of our own are behind the folder's.
      differs = np.abs(values[: len(wanted)] - wanted.astype(np.float32))
      gap = max(gap, float(differs.max(initial=0.0)))
  found = {"own": own, "risen": risen, "gap": gap, "arrays": len(arrays)}
  print(json.dumps(found), flush=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
