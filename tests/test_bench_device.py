"""The device check: a line for each part, however the part ended."""

import json
import sys
import types

import pytest

from cooper_jax.bench import device, device_models, device_parts
from cooper_jax.errors import UserError

# What a worker prints, by part; "noise" is what a library prints.
SCRIPT = """
import json, os, signal, sys, time
say = lambda found: print(json.dumps(found), flush=True)
say({"device": "It", "platform": "gpu", "jax": "1", "dry_run": False})
for part in sys.argv[1:]:
  print("noise", flush=True)
  if part == "exactness":
    time.sleep(600)
  if part == "decode":
    os.kill(os.getpid(), signal.SIGSEGV)
  state = "no room" if part == "sft" else "ok"
  say({"part": part, "state": state, "seconds": 1.0, "said": "done"})
"""


def scripted(parts):
  return [sys.executable, "-c", SCRIPT, *parts]


def test_a_part_that_hangs_or_crashes_costs_its_own_line(monkeypatch, capsys):
  begun = []
  monkeypatch.setattr(
    device, "command", lambda parts: begun.append([*parts]) or scripted(parts)
  )
  monkeypatch.setitem(device.TIME_SHARES, "exactness", 0.1)  # of the time: 1 s
  assert device.run(1.0) == 1
  header, *lines = capsys.readouterr().out.splitlines()
  assert header == "device check of It (gpu), jax 1, 1 min at most"
  assert [text.split()[0] for text in lines] == list(device.TIME_SHARES)
  assert "failed" in lines[2] and "not done within its" in lines[2]
  assert "failed" in lines[4] and "died of SIGSEGV" in lines[4]
  assert all(lines[i].endswith("done") for i in (0, 1, 3, 5, 6))
  # What was left goes on in a new process.
  names = list(device.TIME_SHARES)
  assert begun == [names, names[3:], names[5:]]


def test_no_room_is_no_failure(monkeypatch, capsys):
  monkeypatch.setattr(device, "command", scripted)
  assert device.run(1.0, as_json=True, parts=("kernels", "sft")) == 0
  found = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
  assert [each["state"] for each in found] == ["ok", "no room"]
  assert all(each["device"] == "It" for each in found)


def test_a_part_that_raises_is_told_of_in_one_line(capsys):
  def fail(error):
    def part(toy):
      raise error

    return device_parts.ended("sft", part, True)

  full = fail(RuntimeError("RESOURCE_EXHAUSTED: 20 GB\nand a list"))
  assert full["state"] == "no room" and full["said"].endswith(": 20 GB")
  kernel = fail(RuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in vmem"))
  assert kernel["state"] == "failed"
  wrong = fail(UserError("a fault"))
  assert (wrong["state"], wrong["said"]) == ("failed", "a fault")
  other = fail(ValueError("what\nelse"))
  assert (other["state"], other["said"]) == ("failed", "ValueError: what")


def test_the_worse_of_text_and_codes_is_judged():
  def worst(text, code):
    metrics = {"mismatch_abs/text": text, "mismatch_abs/code": code}
    return device_parts.worst_mismatch(metrics)

  assert worst((1.0, 10.0), (8.0, 10.0)) == 0.8
  assert worst((6.0, 10.0), (2.0, 10.0)) == 0.6
  assert worst((6.0, 10.0), (0.0, 0.0)) == 0.6
  with pytest.raises(UserError, match="no text was drawn"):
    worst((0.0, 0.0), (1.0, 10.0))


def dry_run(capsys, *parts):
  """What the parts found on a CPU with toy sizes, by name; each has passed."""
  assert device.run(20.0, as_json=True, parts=parts) == 0
  found = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
  assert [each["part"] for each in found] == list(parts)
  assert all(each["state"] == "ok" and each["dry_run"] for each in found)
  return {each["part"]: each for each in found}


@pytest.mark.ci
def test_a_dry_run_has_the_kernel_and_the_sampler(capsys):
  """In a process of their own, as on a device."""
  by = dry_run(capsys, "kernels", "step", "decode")
  assert by["kernels"]["error"] < 1e-5 > by["kernels"]["gradient_error"]
  assert by["step"]["error"] < 1e-5
  assert by["decode"]["bytes_a_step"] > 0 and by["decode"]["kernels_a_step"] > 0


@pytest.mark.slow
def test_the_whole_dry_run_passes(capsys):
  by = dry_run(capsys, *device.TIME_SHARES)
  assert by["exactness"]["tokens"] > 0
  assert by["sft"]["flops"] > 0 and "mfu" not in by["sft"]
  assert by["grpo"]["mismatch"] < 0.05


def test_the_parts_are_known_on_both_sides():
  assert list(device.TIME_SHARES) == list(device_parts.CHECKS)


@pytest.mark.parametrize(
  ("kind", "name"),
  [
    ("TPU v5 lite", "v5e"),
    ("TPU v5", "v5p"),
    ("TPU v6 lite", "v6e"),
    ("NVIDIA H200", "h200"),
    ("NVIDIA H100 80GB HBM3", "h100"),
    ("cpu", None),
  ],
)
def test_a_chip_is_known_by_its_kind(kind, name):
  found = device_models.peak_of(types.SimpleNamespace(device_kind=kind))
  assert (found and found.name) == name
