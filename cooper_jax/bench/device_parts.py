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

from cooper_jax.bench.device_kernels import fused_attention, step_attention
from cooper_jax.bench.device_models import (
  Reinforcement,
  decoding,
  peak_of,
  released,
  training,
)
from cooper_jax.errors import UserError
from cooper_jax.parallel import mesh
from cooper_jax.runtime import compilation

MISMATCH = 0.05  # mean gap of log-probabilities that bf16 explains, nats


@functools.cache
def _default_run(toy: bool) -> Reinforcement:
  """GRPO of the default run on its packaged model: two parts use it."""
  return Reinforcement.of_package("tiny", toy=toy)


def exactness(toy: bool) -> dict:
  """How far the trainer's log-probabilities are from the sampler's, in bf16."""
  found = _default_run(toy).mismatch()
  mean = max(found[f"{kind}_mean"] for kind in ("text", "code"))
  _check_mismatch(mean)
  said = [
    f"{kind} {found[f'{kind}_mean']:.1e}, at most {found[f'{kind}_max']:.1e}"
    for kind in ("text", "code")
  ]
  return found | {
    "said": "log-probabilities of sampler and trainer differ by (mean)"
    f" {'; '.join(said)}, {found['tokens']} tokens of the packaged model"
  }


def worst_mismatch(metrics: dict) -> float:
  """The larger mean gap of text and codes, of GRPO's (sum, count) metrics.

  Raises UserError where no text was drawn, for then nothing was compared.
  """
  gaps = []
  for kind in ("text", "code"):
    total, count = map(float, metrics[f"mismatch_abs/{kind}"])
    if not count and kind == "text":
      raise UserError("no text was drawn, so nothing was compared: a fault")
    gaps.append(total / count if count else 0.0)  # no map need be drawn
  return max(gaps)


def _check_mismatch(mean: float) -> None:
  if not mean <= MISMATCH:  # also what is not a number
    raise UserError(
      f"sampler and trainer differ by {mean:.3f} on average, bf16 explains"
      f" {MISMATCH}: a fault"
    )


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
  gap = worst_mismatch(metrics)
  _check_mismatch(gap)
  return {
    "step_s": seconds,
    "rows": learner.rows,
    "mismatch": gap,
    "said": f"0p6b, {learner.rows} rollouts: {seconds:.2f} s a step;"
    f" sampler and trainer differ by {gap:.1e}",
  }


CHECKS = {  # by part, in the order of `device.TIME_SHARES`
  "kernels": fused_attention,
  "step": step_attention,
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
    if compilation.fills_memory(error):
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
