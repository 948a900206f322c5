"""Who goes on from an older checkpoint: two processes both, who asks alone."""

import inspect
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from cooper_jax import trained
from cooper_jax.inference import loading
from cooper_jax.parallel import processes
from cooper_jax.stages import tokenizer
from cooper_jax.training import workdir
from tests import compiling

ROOT = pathlib.Path(__file__).parents[2]


def pair(folder, what) -> list[str]:
  """What two processes say that share the checkpoints of a folder."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  flags = f"{compiling.QUICK} --xla_force_host_platform_device_count=1"
  running = [
    subprocess.Popen(
      [sys.executable, "-m", "tests.pair", str(folder), what],
      cwd=ROOT,
      env=os.environ
      | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
      | dict(zip(processes.GIVEN, (address, "2", str(i)), strict=True)),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]
  try:
    ends = [process.communicate(timeout=120) for process in running]
  finally:
    for process in running:
      process.kill()
      process.wait()
  assert [p.returncode for p in running] == [0, 0], ends
  return [
    "\n".join(line for line in text.splitlines() if "Gloo" not in line)
    for end in ends
    for text in end
  ]


@pytest.mark.ci
def test_what_one_of_two_processes_can_not_read_neither_uses(tmp_path):
  folder = tmp_path / "checkpoints"
  pair(folder, "save")
  out0, _, out1, _ = pair(folder, "restore")
  assert out0 == out1 == "step 2, first 2"
  for path in folder.glob("2/state/ocdbt.process_1/d/*"):
    path.write_bytes(path.read_bytes()[:-99])  # the second one's half
  out0, error0, out1, error1 = pair(folder, "restore")
  assert out0 == out1 == "step 1, first 1", (error0, error1)
  assert "it is now 2.damaged, and step 1 is used" in error0
  assert "damaged" not in error1  # said once
  assert sorted(p.name for p in folder.iterdir()) == ["1", "2.damaged"]
  (folder / "1" / "data" / "metadata").write_text("{")
  out0, _, out1, _ = pair(folder, "restore")
  assert "step 1 is damaged" in out0 and out0 == out1
  assert (folder / "1").is_dir()


def test_who_only_asks_may_be_answered_by_an_older_one(monkeypatch):
  # What trains on a stage or measures it must have its last.
  allowed = []

  def load_stage(*given, older=False):
    allowed.append(older)

  monkeypatch.setattr(workdir, "read_config", lambda folder: None)
  monkeypatch.setattr(workdir, "record", lambda *which: {"finished": True})
  monkeypatch.setattr(loading, "make", lambda *given: None)
  monkeypatch.setattr(tokenizer, "load", lambda *given: {})
  monkeypatch.setattr(trained, "load_stage", load_stage)
  loading._run("runs/x", "sft")
  assert allowed == [True]
  older = inspect.signature(trained.load_params).parameters["older"]
  assert older.default is False
