"""Parts of the device check, and the process that runs them (`device.py`).

A part is a function (toy) -> dict of figures, `said` among them: a line for
people. toy: whether this is a dry run on a CPU, where sizes are small and
kernels interpreted. Only the first device is used.
"""

import functools
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp

from cooper_jax.bench.device_models import (
  Reinforcement,
  decoding,
  peak_of,
  released,
  training,
)
from cooper_jax.errors import UserError
from cooper_jax.models import attention, kernels
from cooper_jax.parallel import mesh
from cooper_jax.runtime import compilation

MISMATCH = 0.05  # mean gap of log-probabilities that bf16 explains, nats


def fastest(call, calls: int = 5) -> float:
  """Seconds of the fastest of some calls, each waited for."""
  times = []
  for _ in range(calls):
    begun = time.perf_counter()
    jax.block_until_ready(call())
    times.append(time.perf_counter() - begun)
  return min(times)


def fused_attention(toy: bool) -> dict:
  """The platform's fused attention beside XLA's: results, gradients, speed.

  Both are held against XLA in f32 on the same inputs: the kernel may be off by
  twice what XLA in its dtype is.
  """
  batch, length, heads, kv_heads = (1, 128, 2, 1) if toy else (4, 2048, 16, 8)
  dtype = jnp.float32 if toy else jnp.bfloat16
  name = "cudnn" if jax.default_backend() == "gpu" else "splash"
  run = kernels.KERNELS[name]
  if toy:
    run = functools.partial(kernels.splash, interpret=True)
  keys = jax.random.split(jax.random.key(0), 4)
  q, k, v, weight = (
    jax.random.normal(key, (batch, count, length, 128)).astype(dtype)
    for key, count in zip(keys, (heads, kv_heads, kv_heads, heads), strict=True)
  )
  # Causal, of two documents in a row.
  order = jnp.arange(length)
  mask = (order[:, None] >= order) & (
    (order[:, None] < length // 3) == (order < length // 3)
  )
  mask_BLS = jnp.broadcast_to(mask, (batch, length, length))

  def xla(q, k, v, mask):
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
    return jnp.swapaxes(attention.attend(q, k, v, mask), 1, 2)

  def results(attend, *given):
    def total(q, k, v):
      out = attend(q, k, v, mask_BLS)
      return jnp.sum(out.astype(jnp.float32) * weight.astype(jnp.float32)), out

    gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))
    grads, out = gradient(*given)
    return (out, *grads), functools.partial(gradient, *given)

  with jax.default_matmul_precision("highest"):
    true, _ = results(xla, *(x.astype(jnp.float32) for x in (q, k, v)))
  plain, plain_call = results(xla, q, k, v)
  ours, call = results(run, q, k, v)
  off = {
    who: [_error(x, y) for x, y in zip(found, true, strict=True)]
    for who, found in (("xla", plain), ("kernel", ours))
  }
  ratio = fastest(plain_call) / fastest(call)
  least = 1e-5 if toy else 1e-2
  for mine, theirs in zip(off["kernel"], off["xla"], strict=True):
    if not mine <= max(2 * theirs, least):  # also what is not a number
      raise UserError(
        f"{name} is off by {mine:.1e} of the largest value, XLA by"
        f" {theirs:.1e}: a fault of the kernel"
      )
  return {
    "kernel": name,
    "error": off["kernel"][0],
    "gradient_error": max(off["kernel"][1:]),
    "xla_error": off["xla"][0],
    "xla_gradient_error": max(off["xla"][1:]),
    "faster": ratio,
    "said": f"{name} is off by {off['kernel'][0]:.1e} (XLA"
    f" {off['xla'][0]:.1e}), gradients {max(off['kernel'][1:]):.1e} (XLA"
    f" {max(off['xla'][1:]):.1e}); forward and backward x{ratio:.2f} of XLA",
  }


def _error(found, true) -> float:
  gap = jnp.max(jnp.abs(found.astype(jnp.float32) - true))
  return float(gap / jnp.max(jnp.abs(true)))


@functools.cache
def _default_run(toy: bool) -> Reinforcement:
  """GRPO of the default run on its packaged model: two parts use it."""
  return Reinforcement.of_package("tiny", toy=toy)


def exactness(toy: bool) -> dict:
  """How far the trainer's log-probabilities are from the sampler's, in bf16."""
  found = _default_run(toy).mismatch()
  mean = max(found[f"{kind}_mean"] for kind in ("text", "code"))
  if not mean <= MISMATCH:
    raise UserError(
      f"sampler and trainer differ by {mean:.3f} on average, bf16 explains"
      f" {MISMATCH}: a fault"
    )
  said = [
    f"{kind} {found[f'{kind}_mean']:.1e}, at most {found[f'{kind}_max']:.1e}"
    for kind in ("text", "code")
  ]
  return found | {
    "said": "log-probabilities of sampler and trainer differ by (mean)"
    f" {'; '.join(said)}, {found['tokens']} tokens of the packaged model"
  }


def tiny(toy: bool) -> dict:
  """Steps a second of the default run's GRPO."""
  learner, steps = _default_run(toy), 2 if toy else 12
  learner.step()  # compiles
  begun = time.perf_counter()
  for _ in range(steps):
    learner.step()
  rate = steps / (time.perf_counter() - begun)
  return {
    "steps_per_s": rate,
    "said": f"default run: {rate:.2f} GRPO steps/s of {learner.rows} rollouts",
  }


def decode(toy: bool) -> dict:
  """Sampling of the size 0p6b: tokens a second, share of the bandwidth."""
  found = decoding(released("0p6b", toy=toy), toy=toy)
  chip, share = peak_of(jax.devices()[0]), ""
  if chip:
    found["bandwidth_share"] = (
      found["bytes_a_step"] / found["step_s"] / (1e9 * chip.memory_gb_s)
    )
    share = f" = {found['bandwidth_share']:.0%} of {chip.name}'s bandwidth"
  return found | {
    "said": f"0p6b, {found['rows']} rows: {found['tokens_per_s']:,.0f}"
    f" tokens/s, {1e3 * found['step_s']:.2f} ms a step,"
    f" {found['bytes_a_step'] / 1e9:.2g} GB{share},"
    f" {found['kernels_a_step']} kernels a step"
  }


def sft(toy: bool) -> dict:
  """A step of SFT of the size 0p6b: its share of the peak (MFU)."""
  found = training(released("0p6b", toy=toy), toy=toy)
  chip, share = peak_of(jax.devices()[0]), "the peak of this chip is not known"
  if chip:
    found["mfu"] = found["flops"] / found["step_s"] / (1e12 * chip.teraflops)
    share = f"MFU {found['mfu']:.0%} of {chip.name}'s bf16 peak"
  return found | {
    "said": f"0p6b, {found['rows']} rows of {found['length']}:"
    f" {found['tokens_per_s']:,.0f} tokens/s, {found['step_s']:.3g} s a step,"
    f" {share}"
  }


def grpo(toy: bool) -> dict:
  """A step of GRPO of the size 0p6b."""
  learner = Reinforcement.of_size(released("0p6b", toy=toy))
  learner.step()  # compiles
  begun = time.perf_counter()
  metrics = learner.step()
  seconds = time.perf_counter() - begun
  total, count = metrics["mismatch_abs/text"]
  gap = float(total) / max(float(count), 1.0)
  return {
    "step_s": seconds,
    "rows": learner.rows,
    "mismatch": gap,
    "said": f"0p6b, {learner.rows} rollouts: {seconds:.2f} s a step;"
    f" sampler and trainer differ by {gap:.1e}",
  }


CHECKS = {  # by part, in the order of `device.TIME_SHARES`
  "kernels": fused_attention,
  "exactness": exactness,
  "tiny": tiny,
  "decode": decode,
  "sft": sft,
  "grpo": grpo,
}


def ended(part: str, run, toy: bool) -> dict:
  """What a part found; one that raises is told of, in one line."""
  begun = time.monotonic()
  try:
    state, found = "ok", run(toy)
  except Exception as error:  # whatever a compiler or a kernel makes of it
    text = str(error).strip() or type(error).__name__
    state, said = "failed", text.splitlines()[0][:200]
    if "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
      state, said = "no room", f"does not fit into the memory here: {said}"
    elif not isinstance(error, UserError):
      said = f"{type(error).__name__}: {said}"
      traceback.print_exc()
    found = {"said": said}
  seconds = round(time.monotonic() - begun, 1)
  return {"part": part, "state": state, "seconds": seconds} | found


def main(parts) -> int:
  """Runs parts, and prints one JSON line of the device and one of each."""
  lines, sys.stdout = sys.stdout, sys.stderr  # libraries print what they like
  say = lambda found: print(json.dumps(found), file=lines, flush=True)  # noqa: E731
  compilation.use_cache("", fallback=Path(tempfile.gettempdir()) / "compiled")
  device = jax.devices()[0]
  toy = device.platform == "cpu"
  say({
    "device": device.device_kind,
    "platform": device.platform,
    "jax": jax.__version__,
    "dry_run": toy,
  })  # fmt: skip
  with jax.set_mesh(mesh.make_mesh(devices=[device])):
    for part in parts:
      say(_rounded(ended(part, CHECKS[part], toy)))
  return 0


def _rounded(found: dict) -> dict:
  return {
    name: float(f"{value:.4g}") if isinstance(value, float) else value
    for name, value in found.items()
  }


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
