"""Metrics of a run, on disk and on the terminal, and facts of its machine.

Scalars go to `metrics.jsonl` (for programs) and to a TensorBoard event file
(for people). TensorFlow is not needed: the `tensorboard` package writes its
own file format.
"""

import functools
import io
import json
import math
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

from cooper_jax.parallel import processes
from cooper_jax.training import trackers

# Characters of a message that fit into 80 columns, a label of nine before it
# and an ETA of hours after it.
MESSAGE = 80 - len("tokenizer ") - len("  eta 99h59m")


def make_writer(directory, also=()):
  """The writer of a stage's directory; of several processes one writes.

  also: names of `trackers` that get the scalars, too.
  """
  if not processes.is_first():
    return SilentWriter()
  return MetricWriter(directory, also)


class SilentWriter:
  """What the other processes have in place of a MetricWriter."""

  def scalars(self, step: int, values: dict[str, float]) -> None:
    pass

  def images(self, step: int, images: dict[str, np.ndarray]) -> None:
    pass

  def rewind(self, step: int) -> None:
    pass

  def close(self) -> None:
    pass


class MetricWriter:
  """Writes scalars and images of one stage into its directory."""

  def __init__(self, directory, also=()):
    """also: names of `trackers` that get the scalars, too."""
    # Imported here: half a second that `--help` need not pay.
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    self.directory = Path(directory)
    self.directory.mkdir(parents=True, exist_ok=True)
    self._path = self.directory / "metrics.jsonl"
    self._file = self._path.open("a", encoding="utf-8")
    self._events = EventFileWriter(str(self.directory))
    self._also = trackers.make(also, self.directory)

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Appends one line; a value that is not finite is written as null."""
    from tensorboard.compat.proto import summary_pb2

    values = {name: float(value) for name, value in values.items()}
    line = {"step": int(step)} | {
      name: value if math.isfinite(value) else None
      for name, value in values.items()
    }
    self._file.write(json.dumps(line) + "\n")
    self._file.flush()
    self._add(
      step,
      [
        summary_pb2.Summary.Value(tag=name, simple_value=value)
        for name, value in values.items()
      ],
    )
    trackers.send(self._also, step, values)

  def images(self, step: int, images: dict[str, np.ndarray]) -> None:
    """Writes u8[H,W,3] pictures to the event file."""
    from PIL import Image
    from tensorboard.compat.proto import summary_pb2

    values = []
    for name, image in images.items():
      buffer = io.BytesIO()
      Image.fromarray(np.asarray(image)).save(buffer, format="PNG")
      picture = summary_pb2.Summary.Image(
        height=image.shape[0],
        width=image.shape[1],
        colorspace=3,
        encoded_image_string=buffer.getvalue(),
      )
      values.append(summary_pb2.Summary.Value(tag=name, image=picture))
    self._add(step, values)

  def _add(self, step: int, values) -> None:
    from tensorboard.compat.proto import event_pb2, summary_pb2

    self._events.add_event(
      event_pb2.Event(
        wall_time=time.time(),
        step=int(step),
        summary=summary_pb2.Summary(value=values),
      )
    )

  def rewind(self, step: int) -> None:
    """Forgets what was written after `step`, which a resume does again."""
    from tensorboard.compat.proto import event_pb2

    self._file.close()
    lines, bad = read_lines(self._path)
    if bad:
      shown = ", ".join(map(str, bad[:5])) + (", .." if len(bad) > 5 else "")
      print(
        f"{self._path}: line {shown} can't be read and is left out",
        file=sys.stderr,
        flush=True,
      )
    kept = [line for line in lines if line["step"] <= step]
    partial = self._path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
    partial.replace(self._path)
    self._file = self._path.open("a", encoding="utf-8")
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._events.add_event(
      event_pb2.Event(
        wall_time=time.time(), step=int(step) + 1, session_log=start
      )
    )

  def close(self) -> None:
    self._file.close()
    self._events.close()
    trackers.close(self._also)


def read_metrics(path) -> list[dict]:
  """Reads a metrics.jsonl; lines that are damaged are left out."""
  return read_lines(path)[0]


def read_lines(path) -> tuple[list[dict], list[int]]:
  """Reads objects with a `step`, one a line; and which lines are damaged.

  What a crash cut off or a disk got wrong costs its own line alone, also where
  it is the end of the line.
  """
  found, bad = [], []
  for number, line in enumerate(Path(path).read_bytes().split(b"\n"), 1):
    here, whole = _objects(line)
    found += here
    if not whole:
      bad.append(number)
  return found, bad


def _objects(line: bytes) -> tuple[list[dict], bool]:
  """In: b'{"step": 1}X{"step": 2}'   Out: both of them, and False."""
  # After a crash some file systems leave zeros where there was to be a line.
  whole, found = b"\0" not in line, []
  text = line.strip(b"\0 \t\r").decode("utf-8", "surrogateescape")
  end = 0
  while end < len(text):
    begun = end
    try:
      value, end = json.JSONDecoder().raw_decode(text, begun)
      text[begun:end].encode()  # refuses what was no UTF-8
    except (ValueError, RecursionError):
      return found, False
    if isinstance(value, dict) and type(value.get("step")) is int:
      found.append(value)
    else:
      whole = False
    whole, end = whole and end == len(text), end + 1
  return found, whole


class Progress:
  """A bar with ETA on a terminal, one line per message elsewhere.

  Of several processes the first one shows it.
  """

  def __init__(
    self, total: int, label: str, *, start=0, stream=None, unit="", left=None
  ):
    """unit: of what is counted, as "B", in thousands and millions of it.

    left: gives the seconds left, of what is not done at one rate.
    """
    self.total, self.label, self.done, self._left = total, label, start, left
    self._stream = stream or (
      sys.stderr if processes.is_first() else io.StringIO()
    )
    self._said = time.monotonic()
    self._first = None  # (when, how many were done) after the first advance
    self._bar, self._unit = None, unit
    if self._stream.isatty():
      from tqdm import tqdm

      self._bar = tqdm(
        total=total,
        initial=start,
        desc=label,
        file=self._stream,
        dynamic_ncols=True,
        unit_scale=bool(unit),
        unit=unit,
        bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt}{unit}"
        " [{elapsed}{postfix}]",
      )

  def advance(self, amount: int = 1) -> None:
    """Counts; without a terminal says so every half minute."""
    self.done += amount
    if self._first is None:
      self._first = time.monotonic(), self.done
    if self._bar is not None:
      eta = f"eta {duration(self.eta())}"
      self._bar.set_postfix_str(eta, refresh=False)
      self._bar.update(amount)
    elif time.monotonic() - self._said > 30:
      self.say(f"{self._counted(self.done)}/{self._counted(self.total)}")

  def _counted(self, amount: int) -> str:
    return f"{amount / 1e9:.2f} G{self._unit}" if self._unit else str(amount)

  def eta(self) -> float:
    """Seconds left at the rate since the first advance; NaN before a second.

    What the first one took is left out: in it something is compiled.
    """
    if self.done >= self.total:
      return 0.0
    if self._left is not None:
      return self._left()
    if self._first is None or self.done <= self._first[1]:
      return math.nan
    begun, before = self._first
    rate = (time.monotonic() - begun) / (self.done - before)
    return rate * (self.total - self.done)

  def say(self, message: str) -> None:
    """Prints a line, above the bar where there is one."""
    self._said = time.monotonic()
    line = f"{self.label:9s} {message}  eta {duration(self.eta())}"
    if self._bar is not None:
      self._bar.write(line, file=self._stream)
    else:
      print(line, file=self._stream, flush=True)

  def close(self) -> None:
    if self._bar is not None:
      self._bar.close()

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()


def duration(seconds: float) -> str:
  """In: 3725   Out: "1h02m"; In: 65   Out: "1m05s"."""
  if not math.isfinite(seconds):
    return "?"
  minutes, rest = divmod(round(seconds), 60)
  if minutes >= 60:
    return f"{minutes // 60}h{minutes % 60:02d}m"
  return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


class Stopwatch:
  """Wall and CPU seconds since it was made."""

  def __init__(self):
    self._wall, self._cpu = time.monotonic(), time.process_time()

  def read(self) -> tuple[float, float]:
    """Gives (wall seconds, CPU seconds of all threads)."""
    return (
      time.monotonic() - self._wall,
      time.process_time() - self._cpu,
    )


def cores() -> int:
  """Counts the cores this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def peak_memory() -> int:
  """Gives the most bytes this process has held so far."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else peak * 1024


def work_clock():
  """The clock that speeds are read off: seconds of the CPU, or of a device.

  On a CPU it is the process' CPU time, all threads together, which other work
  on the machine does not lengthen as it does the time of day.
  """
  import jax

  on_cpu = jax.default_backend() == "cpu"
  return time.process_time if on_cpu else time.perf_counter


@functools.cache
def core_peak(
  size: int = 1024, seconds: float = 0.8, dtype: str = "float32"
) -> float:
  """Measures the matrix product rate of one core (or device), FLOP/s, once.

  Of [size, size] matrices of `dtype`, with f32 results. The best of as many
  products as fit into `seconds`, in eight bursts: what slows the memory or the
  clock for a moment slows some of them alone.
  """
  import jax
  import jax.numpy as jnp

  product = jax.jit(
    lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32)
  )
  a = jnp.ones((size, size), dtype)
  product(a, a).block_until_ready()
  best, clock = math.inf, work_clock()
  for _ in range(8):
    time.sleep(seconds / 16)
    begun = now = clock()
    while now - begun < seconds / 8:
      start = clock()
      product(a, a).block_until_ready()
      now = clock()
      best = min(best, now - start)
  return 2.0 * size**3 / best


def gemm_peak(size: int = 1024, seconds: float = 0.8) -> float:
  """The f32 matrix product rate of all cores (or of one device), FLOP/s."""
  import jax

  count = cores() if jax.default_backend() == "cpu" else 1
  return count * core_peak(size, seconds)


def describe_machine() -> list[str]:
  """Says process i of n, devices and versions."""
  import flax
  import jax
  import optax

  devices = jax.devices()
  return [
    f"process {jax.process_index() + 1} of {jax.process_count()}, "
    f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform}), "
    f"{cores()} CPU cores",
    f"python {sys.version.split()[0]}, jax {jax.__version__}, "
    f"flax {flax.__version__}, optax {optax.__version__}, "
    f"numpy {np.__version__}",
  ]
