"""Speed of bf16 products on this CPU: whether it has a kernel for them.

With AMX a product of bf16 operands runs two to eight times as fast as one of
f32; without it XLA widens the operands first, and the product runs slower. No
list of processors says which it is, for it takes the compiler's kernel as well.
"""

import functools
import math
import time

WORTH = 1.2  # times as fast as f32: less is lost again in rounding the operands
EDGE = 512  # rows, columns and depth of the product that is timed
ROUNDS = 8


@functools.cache
def speedup() -> float:
  """How many times as fast as f32 this CPU multiplies bf16 into f32.

  By CPU time, the best of ROUNDS calls each, with a pause before every call:
  whatever else runs can only make a call slower. Measured once a process, in
  some 50 ms beside what compiling takes.
  """
  import jax
  import jax.numpy as jnp

  product = jax.jit(
    lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32)
  )
  device = jax.local_devices(backend="cpu")[0]
  square = jnp.ones((EDGE, EDGE), device=device)
  given = {"f32": square, "bf16": square.astype(jnp.bfloat16)}
  best = dict.fromkeys(given, math.inf)
  for each in given.values():
    product(each, each).block_until_ready()  # compiles
  for _ in range(ROUNDS):
    for name, each in given.items():
      time.sleep(2e-3)
      begun = time.process_time()
      product(each, each).block_until_ready()
      best[name] = min(best[name], time.process_time() - begun)
  return best["f32"] / best["bf16"]
