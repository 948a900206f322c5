"""Speed of the sampler and the trainer, beside what the machine can do at most.

  python -m cooper_jax.bench --what=generate --shape=S --threads=1
  python -m cooper_jax.bench --what=sft --threads=1 --beside
  python -m cooper_jax.bench --what=data
  python -m cooper_jax.bench --what=device --minutes=8

A plain decoder of random weights. `generate` samples, `sft` takes a training
step, `grpo` does both (rollout, advantages, update), `maps` draws maps a token,
a row and a whole map at a time, `prefix` takes the gradient of a group of
rollouts with their prompt once, and once for each; `data` reads records of a
built data set at 64 and 512 pixels, and takes steps of pretraining on one to
say what share of a step waits for its batch; `device` goes through all
that an accelerator has to show, see `device.py`.

Speeds are told by CPU seconds of the process, medians of the calls, for wall
time on a shared machine is that of the others, too (on an accelerator: by wall
time). The floor is what the arithmetic takes at the fastest matrix product
measured here, or the bytes that can't be avoided at the measured bandwidth,
whichever is more. `--beside` times another library on the same work, in turn
with ours: transformers (`grpo`: TRL, after ours), or with `--beside=tunix`
Tunix. It prints some lines for people and a JSON line.
"""

import argparse
import functools
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path

from cooper_jax.bench import device, torch_peers, tunix_peers
from cooper_jax.bench.subjects import DECODERS, Work, in_turn, work_seconds
from cooper_jax.errors import UserError, printable

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
  "data": "reading",
  "device": "device",
}
BESIDE = {"torch": torch_peers, "tunix": tunix_peers}


def parse(argv=None):
  """The command line; every size has a default that belongs to the shape."""
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.bench", description=__doc__.splitlines()[0]
  )
  # fmt: off
  add = parser.add_argument
  add("--what", choices=WHATS, default="generate")
  add("--shape", choices=DECODERS, default="S")
  add("--prompts", type=int, help="sft: rows")
  add("--group", type=int, help="rollouts of a prompt")
  add("--prompt_len", type=int, help="sft: length of a row")
  add("--new", type=int, help="tokens sampled")
  add("--rows", choices=("free", "packed"), help="of sft; default packed, and"
      " free beside another library, which has no other")
  add("--precision", choices=("f32", "bf16"), default="f32")
  add("--repeats", type=int, default=3, help="timed calls (default 3)")
  add("--limit", type=float, default=240.0, help="seconds after which no other"
      " timed call begins (default 240); one there is always")
  add("--minutes", type=float, default=8.0, help="device: of all (default 8)")
  add("--threads", type=int, help="cores to use (default all)")
  add("--beside", nargs="?", const="torch", choices=BESIDE, help="time it, too")
  add("--json", action="store_true", help="print the JSON line alone")
  # fmt: on
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
  asked.rows = asked.rows or ("free" if asked.beside else "packed")
  if asked.beside and asked.what == "sft" and asked.rows == "packed":
    parser.error(
      f"--beside={asked.beside} has no packed rows; give --rows=free"
    )
  if min(asked.prompts, asked.group, asked.repeats) < 1 or asked.new < 0:
    parser.error("--prompts, --group and --repeats must be positive")
  if min(asked.minutes, asked.limit) <= 0:
    parser.error("--minutes and --limit must be positive")
  if asked.prompt_len < 4 or (
    asked.new < 12 and asked.what in ("generate", "grpo")
  ):
    parser.error("--prompt_len must be 4 or more and --new 12 or more")
  return asked


@functools.cache
def bandwidth(megabytes: int = 64, repeats: int = 10) -> float:
  """Bytes a second of a = b + s c on one core, the best of some calls.

  On a CPU by CPU seconds of all threads, elsewhere of one device by wall time.
  """
  import jax
  import jax.numpy as jnp

  from cooper_jax.training.telemetry import work_clock

  triad = jax.jit(lambda b, c: b + 3.0 * c)
  b = jnp.ones(megabytes * 2**18, jnp.float32)
  c = jnp.full_like(b, 2.0).block_until_ready()
  triad(b, c).block_until_ready()
  best, clock = float("inf"), work_clock()
  for _ in range(repeats):
    start = clock()
    triad(b, c).block_until_ready()
    best = min(best, clock() - start)
  return 3 * 4 * b.size / best


def main(argv=None) -> int:
  """Prints what was measured; gives the exit code."""
  printable()
  asked = parse(argv)
  if asked.what == "device":
    return device.run(asked.minutes, as_json=asked.json)
  try:
    line = measured(asked)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code
  if not asked.json:
    print("\n".join(told(line)), file=sys.stderr)
  print(json.dumps(rounded(line)))
  return 0


def measured(asked) -> dict:
  """All that is told of a work, as one object."""
  if asked.threads:
    keep_to(asked.threads)
  import jax

  from cooper_jax.parallel import mesh
  from cooper_jax.runtime import compilation, malloc
  from cooper_jax.training import telemetry

  malloc.keep_freed()
  compilation.use_cache("", fallback=Path(tempfile.gettempdir()) / "compiled")
  with jax.set_mesh(mesh.make_mesh()):
    theirs = None
    if asked.beside:  # first: what is missing is told at once
      peer = getattr(BESIDE[asked.beside], asked.what)
      theirs = peer(asked, telemetry.cores())
    kinds = {"f32": ("float32",), "bf16": ("float32", "bfloat16")}
    peak = max(
      telemetry.core_peak(dtype=kind) for kind in kinds[asked.precision]
    )
    rate = bandwidth()
    module = importlib.import_module(f"cooper_jax.bench.{WHATS[asked.what]}")
    ours = getattr(module, asked.what)(asked)
    if isinstance(ours, Work):
      found = timed_beside(ours, theirs, asked)
    else:
      found = ours
  if "flops" in found:
    floor = max(found["flops"] / peak, found["bytes"] / rate)
    found["floor_s"] = floor
    found["of_floor"] = floor / work_seconds(found)
  sizes = {
    name: getattr(asked, name)
    for name in (
      "what", "shape", "prompts", "group", "prompt_len", "new", "precision"
    )
  }  # fmt: skip
  return {
    **sizes,
    "threads": telemetry.cores(),
    "device": jax.devices()[0].device_kind,
    **found,
    "peak_memory_mib": round(telemetry.peak_memory() / 2**20),
    "core_gflops": peak / 1e9,
    "core_gb_s": rate / 1e9,
  }


def keep_to(threads: int) -> None:
  """Pins the process to some cores, before JAX counts them."""
  if not hasattr(os, "sched_setaffinity"):
    raise UserError("--threads needs Linux")
  cores = sorted(os.sched_getaffinity(0))
  if not 1 <= threads <= len(cores):
    raise UserError(f"--threads is {threads}; this process has {len(cores)}")
  os.sched_setaffinity(0, cores[:threads])


def timed_beside(ours: Work, theirs, asked) -> dict:
  """The facts of ours; with `beside`, those of the other, and the ratios.

  theirs: a Work, which is timed in turn with ours; a function that times
  itself, after ours; or None.
  """
  works = [ours, theirs] if isinstance(theirs, Work) else [ours]
  found, *others = in_turn(works, asked.repeats, asked.limit)
  if theirs is None:
    return found
  beside = others[0] if others else theirs()
  return found | {
    "beside": beside,
    "cpu_ratio": beside["cpu_s"] / found["cpu_s"],
    "wall_ratio": beside["wall_s"] / found["wall_s"],
  }


def told(line: dict) -> list[str]:
  """The same in lines for people, CPU seconds first."""
  from cooper_jax.training import telemetry

  rows = f", {line['rows']} rows" if "rows" in line else ""
  lines = [
    *telemetry.describe_machine(),
    f"{line['what']} {line['shape']}, {line['prompts']} x {line['group']},"
    f" {line['prompt_len']} + {line['new']} tokens{rows}, {line['precision']},"
    f" {line['threads']} cores",
  ]
  parts = {"ours": line, "beside": line.get("beside"), **line.get("maps", {})}
  parts |= line.get("sizes", {})
  parts |= {name: line.get(name) for name in ("shared", "apart")}
  for name, part in parts.items():
    if part and "cpu_s" in part:
      by = f", {part['by']}" if "by" in part else ""
      lines.append(
        f"{name:8s} {part['cpu_s']:8.3g} CPU s (least {part['cpu_min_s']:.3g}),"
        f" {part['wall_s']:.3g} s of wall time, {part['repeats']} calls{by}"
      )
    if part and "goal" in part:
      rate, each = part["examples_a_second_of_2_cores"], part["kb_stored"]
      lines.append(
        f"{'':8s} {rate:,.0f} examples a second of 2 cores, {each:,.0f} kB and"
        f" {part['cpu_ms_an_example']:.3g} CPU ms each; the goal is"
        f" {part['goal']:,}"
      )
  if "wait" in line:
    wait = line["wait"]
    lines.append(
      f"wait     {wait['share']:.1%} of a step of {wait['step_s']:.3g} s of"
      f" pretraining, for its batch; the goal is below {wait['goal']:.0%}"
    )
  if "cpu_ratio" in line:
    lines.append(
      f"beside / ours {line['cpu_ratio']:.2f} by CPU seconds,"
      f" {line['wall_ratio']:.2f} by wall time"
    )
  if "of_floor" in line:
    lines.append(
      f"floor / ours  {line['of_floor']:.0%} of {line['core_gflops']:.0f}"
      " GFLOP/s a core"
    )
  return lines


def rounded(value):
  """The same with numbers of four digits."""
  if isinstance(value, dict):
    return {name: rounded(each) for name, each in value.items()}
  return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
  sys.exit(main())
