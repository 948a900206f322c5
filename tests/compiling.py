"""How the tests' programs are compiled: quickly, for most run once.

Most of a test's time is compiling. Both switches change machine code, not the
operations of a program, and all programs of a test alike.
"""

import os

# XLA's newer emitters build a compiler of passes for each fused loop; the
# older ones don't. Measured on one core, a GRPO step of tests/rl/toy.py: all
# compiling 28.0 s of processor time with them, 11.4 s without, and the first
# step 37 s against 22 s. jaxlib 0.10 and 0.12 know the flag.
# A program's machine code is made in one piece, not in 32: compiling took 14.3
# and 14.4 s in pieces and 10.1 and 11.7 s whole, in turn, with every core busy.
QUICK = (
  "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)


def use(devices: int) -> None:
  """Sets the environment of this process and of those it starts.

  What a caller has set stays, so that JAX_DISABLE_MOST_OPTIMIZATIONS=0
  XLA_FLAGS=--xla_cpu_use_fusion_emitters=true compiles as outside of tests.
  """
  # Plain machine code halves the time (measured on tests/sampling and
  # tests/models: 241 s against 139 s).
  os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
  given = os.environ.get("XLA_FLAGS", "")
  flags = [QUICK, given, f"--xla_force_host_platform_device_count={devices}"]
  os.environ["XLA_FLAGS"] = " ".join(filter(None, flags))
