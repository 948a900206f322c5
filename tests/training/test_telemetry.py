"""What is written can be read back, by programs and by TensorBoard."""

import io
import itertools
import json
import math

import numpy as np
import pytest

from cooper_jax.training import telemetry


def events(directory):
  from tensorboard.backend.event_processing import event_accumulator

  found = event_accumulator.EventAccumulator(str(directory))
  found.Reload()
  return found


def test_scalars_and_images_reach_both_files(tmp_path):
  writer = telemetry.MetricWriter(tmp_path / "stage")
  writer.scalars(3, {"loss": np.float32(0.5), "broken": float("nan")})
  image = np.zeros((4, 6, 3), np.uint8)
  image[1, 2] = (255, 10, 0)
  writer.images(3, {"map": image})
  writer.close()
  lines = (tmp_path / "stage" / "metrics.jsonl").read_text().splitlines()
  # NaN is no JSON: other programs must be able to read the file.
  assert json.loads(lines[0], parse_constant=pytest.fail) == {
    "step": 3,
    "loss": 0.5,
    "broken": None,
  }
  found = events(tmp_path / "stage")
  assert found.Scalars("loss")[0].value == 0.5
  assert found.Scalars("loss")[0].step == 3
  from PIL import Image

  stored = found.Images("map")[0].encoded_image_string
  np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(stored))), image)


def test_rewind_forgets_what_a_resume_does_again(tmp_path):
  writer = telemetry.MetricWriter(tmp_path)
  for step in (2, 4, 6):
    writer.scalars(step, {"loss": step})
  writer.rewind(4)
  writer.scalars(6, {"loss": 60})
  writer.close()
  read = telemetry.read_metrics(tmp_path / "metrics.jsonl")
  assert [(line["step"], line["loss"]) for line in read] == [
    (2, 2),
    (4, 4),
    (6, 60),
  ]
  assert [e.value for e in events(tmp_path).Scalars("loss")] == [2, 4, 60]


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1, "loss": 2}\n{"step": 2, "lo')
  assert telemetry.read_metrics(path) == [{"step": 1, "loss": 2}]


def write_lines(path, *, count=6):
  lines = [
    json.dumps({"step": step, "loss": 1 / step, "reward/total": None})
    for step in range(1, count + 1)
  ]
  path.write_text("\n".join(lines) + "\n")
  return [json.loads(line) for line in lines]


@pytest.mark.parametrize("mask", [1, 64, 128, 255])
def test_a_bad_byte_costs_one_line_at_most_wherever_it_is(tmp_path, mask):
  path = tmp_path / "metrics.jsonl"
  honest = write_lines(path)
  data = path.read_bytes()
  for place in range(len(data)):
    damaged = bytearray(data)
    damaged[place] ^= mask
    path.write_bytes(damaged)
    found, bad = telemetry.read_lines(path)
    others = [line for line in honest if line in found]
    assert len(others) >= len(honest) - 1, (place, bytes(damaged))
    assert len(bad) <= 1
    if len(found) < len(honest):
      assert len(bad) == 1, (place, bytes(damaged))


@pytest.mark.parametrize(
  "junk",
  [
    b"\xff\xfe",
    b"\0\0\0\0",
    b'{"loss": 1}',
    b'{"step": true}',
    b'{"step": "3"}',
    b"[1]",
    b"null",
    b"NaN",
    b'{"step": 3, "text": "\xe4"}',
    b'{"step": 3',
    b"[" * 100_000,
  ],
)
def test_a_line_that_is_none_is_left_out_alone(tmp_path, junk):
  path = tmp_path / "metrics.jsonl"
  honest = write_lines(path, count=4)
  lines = path.read_bytes().splitlines()
  path.write_bytes(b"\n".join([*lines[:2], junk, *lines[2:]]) + b"\n")
  assert telemetry.read_lines(path) == (honest, [3])


def test_zeros_before_a_line_do_not_cost_it(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_bytes(b'{"step": 1}\n\0\0\0{"step": 2}\r\n\n')
  assert telemetry.read_lines(path) == ([{"step": 1}, {"step": 2}], [2])


def test_a_resume_says_which_line_is_lost_and_keeps_the_others(
  tmp_path, capsys
):
  writer = telemetry.MetricWriter(tmp_path)
  for step in (2, 4, 6, 8):
    writer.scalars(step, {"loss": step})
  path = tmp_path / "metrics.jsonl"
  path.write_bytes(path.read_bytes().replace(b'"step": 4', b'"step"\xff 4'))
  writer.rewind(6)
  writer.close()
  said = capsys.readouterr().err
  assert said == f"{path}: line 2 can't be read and is left out\n"
  assert [line["step"] for line in telemetry.read_metrics(path)] == [2, 6]


def test_without_a_terminal_progress_is_plain_lines():
  stream = io.StringIO()
  with telemetry.Progress(10, "pretrain", stream=stream) as bar:
    bar.advance(5)
    bar.say("5/10 loss 1.5")
  line = stream.getvalue()
  assert line.startswith("pretrain  5/10 loss 1.5")
  assert "eta" in line and "\r" not in line


def test_on_a_terminal_progress_is_a_bar():
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  stream = Terminal()
  with telemetry.Progress(10, "pretrain", stream=stream) as bar:
    bar.advance(5)
    bar.say("5/10 loss 1.5")
  assert "5/10 loss 1.5" in stream.getvalue() and "\r" in stream.getvalue()


@pytest.mark.parametrize(
  "seconds, said",
  [(5, "5s"), (65, "1m05s"), (3725, "1h02m"), (math.nan, "?")],
)
def test_durations_read_aloud(seconds, said):
  assert telemetry.duration(seconds) == said


def test_gemm_peak_is_a_rate_of_this_machine():
  # A core does between 1 and 1,000 GFLOP/s in f32.
  peak = telemetry.gemm_peak(256, seconds=0.05)
  assert 1e8 < peak < 1e13
  # Measured once: the second answer is the first.
  assert telemetry.gemm_peak(256, seconds=0.05) == peak


def test_a_peak_is_of_cpu_seconds(monkeypatch):
  """However late the machine comes to it: 2 n^3 in a second of the CPU."""
  seconds = itertools.count()
  monkeypatch.setattr(
    telemetry.time, "process_time", lambda: float(next(seconds))
  )
  assert telemetry.core_peak(64, seconds=0.01) == 2 * 64**3
  monkeypatch.setattr(telemetry, "cores", lambda: 3)
  assert telemetry.gemm_peak(64, seconds=0.01) == 3 * 2 * 64**3
  telemetry.core_peak.cache_clear()


def test_the_stopwatch_sees_work_on_the_cpu():
  watch = telemetry.Stopwatch()
  sum(range(2_000_000))
  wall, cpu = watch.read()
  assert 0 < cpu <= wall * telemetry.cores() + 0.05
  assert telemetry.peak_memory() > 2**24


def test_the_machine_is_described():
  lines = telemetry.describe_machine()
  assert lines[0].startswith("process 1 of 1, 8 x cpu")
  assert "jax 0." in lines[1]


def test_the_eta_leaves_out_what_came_before_the_first_advance(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(telemetry.time, "monotonic", lambda: now[0])
  bar = telemetry.Progress(10, "grpo", start=4, stream=io.StringIO())
  assert math.isnan(bar.eta())
  now[0] = 160.0  # a minute of compiling
  bar.advance()
  assert math.isnan(bar.eta())
  now[0] = 163.0
  bar.advance()
  assert bar.eta() == pytest.approx(3.0 * 4)  # 4 left, 3 s each
  now[0] = 169.0
  bar.advance(4)
  assert bar.eta() == 0


def test_the_bar_shows_the_same_eta():
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  stream = Terminal()
  with telemetry.Progress(10, "grpo", stream=stream) as bar:
    bar.advance()
    bar.say("1/10")
  assert "eta ?" in stream.getvalue().split("1/10")[-1]
