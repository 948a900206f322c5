"""The device check: a line for each part, however the part ended."""

import json
import sys

from cooper_jax.bench import device, device_parts
from cooper_jax.errors import UserError

# What a worker prints, by part; "noise" is what a library prints.
SCRIPT = """
import json, os, signal, sys, time
say = lambda found: print(json.dumps(found), flush=True)
say({"device": "It", "platform": "gpu", "jax": "1", "rehearsal": False})
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
  monkeypatch.setitem(device.PARTS, "exactness", 0.1)  # of the time: 1 s
  assert device.run(1.0) == 1
  header, *lines = capsys.readouterr().out.splitlines()
  assert header == "device check of It (gpu), jax 1, 1 min at most"
  assert [text.split()[0] for text in lines] == list(device.PARTS)
  assert "failed" in lines[1] and "not done within its" in lines[1]
  assert "failed" in lines[3] and "died of SIGSEGV" in lines[3]
  assert all(lines[i].endswith("done") for i in (0, 2, 4, 5))
  # What was left goes on in a new process.
  names = list(device.PARTS)
  assert begun == [names, names[2:], names[4:]]


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
  wrong = fail(UserError("a fault"))
  assert (wrong["state"], wrong["said"]) == ("failed", "a fault")
  other = fail(ValueError("what\nelse"))
  assert (other["state"], other["said"]) == ("failed", "ValueError: what")


def test_the_rehearsal_goes_through_every_part(capsys):
  """On a CPU with toy sizes: the same code that a device runs."""
  assert device.run(20.0, as_json=True) == 0
  found = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
  by = {each["part"]: each for each in found}
  assert list(by) == list(device.PARTS) == list(device_parts.PARTS)
  assert all(each["state"] == "ok" and each["rehearsal"] for each in found)
  assert by["kernels"]["error"] < 1e-5 > by["kernels"]["gradient_error"]
  assert by["exactness"]["tokens"] > 0
  assert by["decode"]["bytes_a_step"] > 0 and by["decode"]["kernels_a_step"] > 0
  assert by["sft"]["flops"] > 0 and "mfu" not in by["sft"]
  assert by["grpo"]["mismatch"] < 0.05
