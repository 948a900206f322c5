"""Speed of the sampler and the trainer, beside what the machine can do at most.

  python -m cooper_jax.bench --what=generate --shape=S --threads=1
  python -m cooper_jax.bench --what=maps

A plain decoder of random weights, one JSON line. `generate` samples, `sft`
takes a training step, `grpo` does both (rollout, advantages, update), `maps`
draws maps a token, a row and a whole map at a time, `prefix` takes the gradient
of a group of rollouts with their prompt once, and once for each. The floor is
what the arithmetic takes at the fastest matrix product measured here, or the
bytes that can't be avoided at the measured bandwidth, whichever is more.
`--beside` times another library on the same work in the same run: transformers
(`grpo`: TRL), or with `--beside=tunix` Tunix.
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from cooper_jax.bench import torch_peers, tunix_peers
from cooper_jax.bench.subjects import DECODERS
from cooper_jax.errors import UserError, printable
from cooper_jax.training.precision import PRECISIONS

DEFAULTS = {  # prompts, group, prompt length, new tokens; sft: rows, length
  "S": (4, 8, 128, 256),
  "M": (1, 8, 128, 64),
  "L": (1, 8, 64, 16),
}
SFT = {"S": (8, 512), "M": (2, 512), "L": (1, 256)}
WHATS = {  # and the module of this folder that has it
  "generate": "sampling",
  "sft": "training",
  "grpo": "training",
  "maps": "sampling",
  "prefix": "training",
}
BESIDE = {"torch": torch_peers, "tunix": tunix_peers}


def parse(argv=None):
  """The command line; every size has a default that belongs to the shape."""
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.bench", description=__doc__.splitlines()[0]
  )
  add = parser.add_argument
  add("--what", choices=WHATS, default="generate")
  add("--shape", choices=DECODERS, default="S")
  add("--prompts", type=int, help="sft: rows")
  add("--group", type=int, help="rollouts of a prompt")
  add("--prompt_len", type=int, help="sft: length of a row")
  add("--new", type=int, help="tokens sampled")
  add("--repeats", type=int, default=3, help="timed calls (default 3)")
  add("--precision", choices=PRECISIONS, default="f32", help="as in a config")
  add("--threads", type=int, help="cores to use (default all)")
  add("--beside", nargs="?", const="torch", choices=BESIDE, help="time it, too")
  add("--json", action="store_true", help="print the JSON line alone")
  asked = parser.parse_args(argv)
  prompts, group, length, new = DEFAULTS[asked.shape]
  if asked.what == "sft":
    (prompts, length), group, new = SFT[asked.shape], 1, 0
  if asked.what == "maps":
    prompts, group, length, new = 64, 1, 96, 0
  if asked.what == "prefix":
    prompts, group, length, new = 1, 8, 320, 128
  for name, value in (
    ("prompts", prompts),
    ("group", group),
    ("prompt_len", length),
    ("new", new),
  ):
    if getattr(asked, name) is None:
      setattr(asked, name, value)
  if asked.beside and not hasattr(BESIDE[asked.beside], asked.what):
    parser.error(f"--beside={asked.beside} has no {asked.what}")
  if min(asked.prompts, asked.group, asked.repeats) < 1 or asked.new < 0:
    parser.error("--prompts, --group and --repeats must be positive")
  if asked.prompt_len < 4 or (
    asked.new < 12 and asked.what in ("generate", "grpo")
  ):
    parser.error("--prompt_len must be 4 or more and --new 12 or more")
  return asked


def bandwidth(megabytes: int = 64, repeats: int = 10) -> float:
  """Bytes a second of a = b + s c, the best of some: the memory's rate."""
  import jax
  import jax.numpy as jnp

  triad = jax.jit(lambda b, c: b + 3.0 * c)
  b = jnp.ones(megabytes * 2**18, jnp.float32)
  c = jnp.full_like(b, 2.0).block_until_ready()
  triad(b, c).block_until_ready()
  best = float("inf")
  for _ in range(repeats):
    start = time.perf_counter()
    triad(b, c).block_until_ready()
    best = min(best, time.perf_counter() - start)
  return 3 * 4 * b.size / best


def main(argv=None) -> int:
  """Prints the JSON line; gives the exit code."""
  printable()
  asked = parse(argv)
  if asked.threads:
    if not hasattr(os, "sched_setaffinity"):
      print("error: --threads needs Linux", file=sys.stderr)
      return 2
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= asked.threads <= len(cores):
      print(
        f"error: --threads is {asked.threads}; this process has {len(cores)}",
        file=sys.stderr,
      )
      return 2
    os.sched_setaffinity(0, cores[: asked.threads])  # before JAX counts them
  import jax

  from cooper_jax.parallel import mesh
  from cooper_jax.runtime import compilation, malloc
  from cooper_jax.training import telemetry

  malloc.keep_freed()
  compilation.use_cache("", fallback=Path(tempfile.gettempdir()) / "compiled")
  with jax.set_mesh(mesh.make_mesh()):
    peak, rate = telemetry.gemm_peak(), bandwidth()
    module = importlib.import_module(f"cooper_jax.bench.{WHATS[asked.what]}")
    found = getattr(module, asked.what)(asked)
  if asked.beside:
    try:
      theirs = getattr(BESIDE[asked.beside], asked.what)(
        asked, telemetry.cores()
      )
    except UserError as error:
      print(f"error: {error}", file=sys.stderr)
      return error.exit_code
    found["beside"] = theirs
    for name, pick in (
      ("faster", lambda each: each["seconds"]["median"]),
      ("faster_cpu", lambda each: each["cpu_seconds"]),
    ):
      found[name] = pick(theirs) / pick(found)
  if "flops" in found:
    floor = max(found["flops"] / peak, found["bytes"] / rate)
    found["floor_s"] = floor
    found["of_floor"] = floor / found["seconds"]["median"]
  sizes = {
    name: getattr(asked, name)
    for name in (
      "what", "shape", "precision", "prompts", "group", "prompt_len", "new"
    )
  }  # fmt: skip
  line = {
    **sizes,
    "threads": telemetry.cores(),
    "device": jax.devices()[0].device_kind,
    **found,
    "peak_memory_mib": round(telemetry.peak_memory() / 2**20),
    "gemm_gflops": peak / 1e9,
    "bandwidth_gb_s": rate / 1e9,
  }
  if not asked.json:
    print("\n".join(telemetry.describe_machine()), file=sys.stderr)
  print(json.dumps(rounded(line)))
  return 0


def rounded(value):
  """The same with numbers of four digits."""
  if isinstance(value, dict):
    return {name: rounded(each) for name, each in value.items()}
  return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
  sys.exit(main())
