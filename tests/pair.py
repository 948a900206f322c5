"""One of two processes that share a checkpoint, for tests.

  python -m tests.pair FOLDER save|restore

`restore` prints what came back; the environment says which process this is.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.parallel import processes
from cooper_jax.parallel.mesh import MeshConfig, make_mesh
from cooper_jax.training.checkpoint import Checkpoints


def main(folder, what: str) -> None:
  processes.start()
  mesh = make_mesh(MeshConfig(data=1, fsdp=2))
  spread = jax.sharding.NamedSharding(mesh, jax.P("fsdp"))
  make = jax.jit(lambda x: jnp.arange(4096.0) + x, out_shardings=spread)
  with jax.set_mesh(mesh):
    checkpoints = Checkpoints(folder)
    if what == "save":
      for step in (1, 2):
        meta = {"step": step}
        checkpoints.save(step, {"w": make(step)}, data_state={}, meta=meta)
    else:
      try:
        state, _, meta = checkpoints.restore({"w": make(0.0)})
        own = state["w"].addressable_shards[0].data
        first = float(np.asarray(own)[0]) - 2048 * processes.index()
        print(f"step {meta['step']}, first {first:g}", flush=True)
      except UserError as error:
        print(f"error: {error}", flush=True)
    checkpoints.close()


if __name__ == "__main__":
  main(*sys.argv[1:])
