"""Compiling for a slice that is not here: with `pip install "jax[tpu]"`."""

import importlib.util
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason='libtpu is not installed: pip install "jax[tpu]"',
)
SMALL = [
  "--config.model.layers=1", "--config.model.d_model=32",
  "--config.model.ffn=32", "--config.mesh.data=1", "--config.mesh.fsdp=-1",
  "--config.text_rows=840",
]  # fmt: skip


def run(*words):
  return subprocess.run(
    [sys.executable, "-m", "cooper_jax.main", *words],
    capture_output=True, text=True, timeout=600, check=False,
    env={"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"},
  )  # fmt: skip


def test_a_step_is_compiled_and_told_of():
  done = run(
    "--config=configs/pretrain.py:smoke", "--compile_only",
    "--topology=v5e:2x2", *SMALL,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-2000:]
  assert "v5e:2x2: 4 chips, mesh data 1 x fsdp 4" in done.stdout
  row = re.search(r"^pretrain +([\d.]+) +([\d.]+) +([\d.]+)", done.stdout, re.M)
  assert row and "all-gather" in done.stdout


def test_what_has_no_room_is_refused_with_advice():
  done = run(
    "--config=configs/pretrain.py:smoke", "--compile_only",
    "--topology=v5e:2x2", *SMALL, "--config.pretrain.batch=800000",
  )  # fmt: skip
  assert done.returncode == 2
  assert "does not fit the 16 GB of a v5e: about 1" in done.stderr
  assert "largest gain first: config.pretrain.optim.micro_batches=" in (
    done.stderr
  )
  assert done.stderr.count("error:") == 1
