"""Freed memory is kept: the kernel clears pages once, not at every step."""

import subprocess
import sys

import pytest

CODE = """
import resource
from cooper_jax.runtime import malloc

kept = malloc.keep_freed()

def touch():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  block = b"x" * (96 << 20)
  del block
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(kept, touch(), sum(touch() for _ in range(5)))
"""


def test_memory_that_was_freed_is_not_cleared_again():
  out = subprocess.run(
    [sys.executable, "-c", CODE], check=True, capture_output=True, text=True
  )
  kept, first, later = out.stdout.split()
  if kept == "False":
    pytest.skip("mallopt is not there: this is not glibc")
  assert int(later) < 0.1 * int(first)
