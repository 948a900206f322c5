"""Precision: the dtypes that `config.precision` stands for on a platform.

Parameters are always f32. Activations are what modules pass on; the operands
of the matrix products are rounded further where that is faster: a product of
bf16 operands is summed up in f32 by every kernel that is worth its name.
"""

import functools
import sys
from typing import NamedTuple

from cooper_jax.errors import UserError, nearest
from cooper_jax.parallel import processes
from cooper_jax.runtime import bf16

PRECISIONS = ("auto", "f32", "bf16")
_F32, _BF16 = "float32", "bfloat16"


class Dtypes(NamedTuple):
  """What is computed in, as names of dtypes."""

  activations: str
  operands: str  # of matrix products

  def __str__(self) -> str:
    if self.activations == self.operands:
      return "f32" if self.operands == _F32 else "bf16"
    return "f32 with bf16 products"


def check(precision: str) -> None:
  """Raises UserError where config.precision is none."""
  if precision not in PRECISIONS:
    raise UserError(
      f'config.precision is "{precision}"; allowed: '
      f"{', '.join(PRECISIONS)}{nearest(precision, PRECISIONS)}"
    )


def dtypes(precision: str, platform: str = "") -> Dtypes:
  """The dtypes of a precision; platform: as JAX names it, "" = the one here.

  On an accelerator bf16 is the dtype of everything. On a CPU it is that of the
  products' operands alone: activations of bf16 would be widened for each
  operation on them. And that only where the CPU has a kernel for it, which is
  measured; else everything stays f32, and a line says so.
  """
  import jax

  check(precision)
  if (platform or jax.default_backend()) != "cpu":
    return Dtypes(_F32, _F32) if precision == "f32" else Dtypes(_BF16, _BF16)
  if precision != "bf16":
    return Dtypes(_F32, _F32)
  faster = bf16.speedup()
  if faster >= bf16.WORTH:
    return Dtypes(_F32, _BF16)
  _say(
    f"precision=bf16: this CPU multiplies bf16 no faster than f32"
    f" (x{faster:.1f}); staying at f32"
  )
  return Dtypes(_F32, _F32)


def say_moved(stage: str, before, now: dict) -> None:
  """Says where a stage goes on in other dtypes than it was begun in.

  before: the makers noted so far; now: the one at work (`provenance.maker`).

  `config.precision` may not change in a workdir; what it means is the
  platform's, like the kernel of attention, and so is the rounding. So a run
  that moves is not refused, and is not to the bit what it would have been.
  """
  dtypes = [each.get("dtypes") for each in before]
  if dtypes and dtypes[-1] not in (None, now["dtypes"]):
    _say(
      f"{stage:9s} begun in {dtypes[-1]}, goes on in {now['dtypes']}: this"
      " machine rounds otherwise"
    )


@functools.cache  # once a process, however often a model is built
def _say(line: str) -> None:
  if processes.is_first():
    print(line, file=sys.stderr, flush=True)
