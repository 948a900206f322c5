"""The loop resumes exactly, stops when asked, and gives up on NaN."""

import itertools
import json
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax.errors import NumericsError, Preempted, UserError
from cooper_jax.training import (
  checkpoint,
  optim,
  state,
  telemetry,
)
from cooper_jax.training.loop import Loop
from cooper_jax.training.meters import Rate, Window

STEPS = 6
SETTINGS = optim.OptimConfig(learning_rate=0.05, warmup_steps=0, ema_decay=0.9)
OPTIMIZER = optim.make_optimizer(SETTINGS, steps=STEPS)


class Numbers:
  """Batches that depend on how many were drawn, as an iterator's do."""

  def __init__(self):
    self.drawn = 0

  def __next__(self):
    self.drawn += 1
    return np.random.default_rng(self.drawn).normal(size=(4, 3)).astype("f")

  def state(self):
    return {"drawn": self.drawn, "check": np.arange(self.drawn)}

  def restore(self, saved):
    self.drawn = saved["drawn"]
    assert len(saved["check"]) == self.drawn


def train_step(now, batch):
  def loss(params):
    # The noise makes the resume wrong unless the key came back, too.
    noise = jax.random.normal(state.step_key(now), (3,))
    return ((batch @ (params["w"] + 0.1 * noise) - 1.0) ** 2).mean()

  value, grads = jax.value_and_grad(loss)(now.params)
  now, metrics = optim.apply_gradients(
    now, grads, optimizer=OPTIMIZER, ema_decay=SETTINGS.ema_decay
  )
  metrics["loss"] = (4.0 * value, jnp.float32(4.0))
  metrics["tokens"] = jnp.float32(12.0)
  return now, metrics


JITTED = jax.jit(train_step, donate_argnums=0)


def run(folder, *, step_fn=JITTED, save_every=3, log_every=2, **options):
  batches = options.pop("batches", None) or Numbers()
  writer = telemetry.MetricWriter(folder)
  checkpoints = checkpoint.Checkpoints(folder / "checkpoints")
  params = {"w": jnp.zeros(3)}
  try:
    return Loop(
      label="toy",
      steps=STEPS,
      state=state.create(params, OPTIMIZER, key=jax.random.key(5), ema=True),
      step_fn=step_fn,
      batches=batches,
      writer=writer,
      checkpoints=checkpoints,
      log_every=log_every,
      save_every=save_every,
      **options,
    ).run()
  finally:
    writer.close()
    checkpoints.close()


def logged(folder):
  return [
    {k: v for k, v in line.items() if not k.startswith("speed/")}
    for line in telemetry.read_metrics(folder / "metrics.jsonl")
  ]


def assert_same(one, other):
  one, other = checkpoint.flatten(one), checkpoint.flatten(other)
  assert one.keys() == other.keys()
  for name in one:
    np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  folder = tmp_path_factory.mktemp("whole")
  final, figures = run(folder)
  return final, figures, logged(folder)


def test_logs_are_averages_over_the_steps_between_them(whole):
  _, figures, lines = whole
  assert [line["step"] for line in lines] == [2, 4, 6]
  assert all(np.isfinite(line["loss"]) for line in lines)
  assert figures["seconds"] > 0 and figures["steps_per_s"] > 0
  assert figures["tokens_per_s"] == pytest.approx(12 * figures["steps_per_s"])


def test_a_rate_counts_only_steps_of_which_its_clock_saw_all(tmp_path):
  """A step that the host waits for, as GRPO's: none is done ahead of it."""
  seconds = 0.05

  def slow(now, batch):
    time.sleep(seconds)
    return JITTED(now, batch)

  _, figures = run(tmp_path, step_fn=slow)
  lines = telemetry.read_metrics(tmp_path / "metrics.jsonl")
  rates = [line["speed/steps_per_s"] for line in lines]
  assert len(rates) == STEPS // 2
  assert max(*rates, figures["steps_per_s"]) <= 1 / seconds


def at_call(number, action):
  """A step function that does something in its n-th call."""
  calls = itertools.count(1)

  def step(now, batch):
    if next(calls) == number:
      action()
    return JITTED(now, batch)

  return step


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stop_at", [3, 4])
def test_stop_and_resume_end_in_the_same_bits(tmp_path, whole, number, stop_at):
  # The log averages two steps: at 3 the window is half full, at 4 empty.
  before = signal.getsignal(number)
  with pytest.raises(Preempted, match=f"saved at step {stop_at} of 6"):
    run(
      tmp_path,
      save_every=100,
      step_fn=at_call(stop_at, lambda: signal.raise_signal(number)),
    )
  assert signal.getsignal(number) is before
  batches = Numbers()
  final, _ = run(tmp_path, batches=batches)
  assert batches.drawn == STEPS
  assert_same(final, whole[0])
  assert logged(tmp_path) == whole[2]


def test_a_killed_run_goes_on_from_its_last_save(tmp_path, whole):
  class Killed(Exception):
    pass

  def die():
    raise Killed

  with pytest.raises(Killed):
    run(tmp_path, step_fn=at_call(6, die))
  # Step 4 was logged and is done again: its line must not be there twice.
  assert [line["step"] for line in logged(tmp_path)] == [2, 4]
  final, _ = run(tmp_path)
  assert_same(final, whole[0])
  assert logged(tmp_path) == whole[2]


@pytest.mark.parametrize("what", ["arrays", "step", "position", "averages"])
def test_a_damaged_newest_checkpoint_costs_its_own_steps_alone(
  tmp_path, whole, what, capsys
):
  with pytest.raises(Preempted):
    run(
      tmp_path,
      save_every=3,
      step_fn=at_call(5, lambda: signal.raise_signal(signal.SIGTERM)),
    )
  newest = tmp_path / "checkpoints" / "5"
  if what == "arrays":
    for path in newest.rglob("d/*"):
      path.write_bytes(path.read_bytes()[:-9])
  else:
    path = newest / ("data" if what == "position" else "meta") / "metadata"
    text = path.read_text()
    old, new = {
      "step": ('"step": 5', '"step": 4'),
      "position": ('"drawn": 5', '"drawn": 6'),
      "averages": ('"loss": [', '"loss": [1'),
    }[what]
    assert old in text
    path.write_text(text.replace(old, new, 1))
  capsys.readouterr()
  final, _ = run(tmp_path)
  said = capsys.readouterr()
  assert "resumes at step 3 of 6" in said.out
  assert "step 5 is damaged" in said.err and "Traceback" not in said.err
  assert "it is now 5.damaged, and step 3 is used" in said.err
  assert_same(final, whole[0])
  assert logged(tmp_path) == whole[2]


@pytest.mark.parametrize("of", ["step", "batch"])
@pytest.mark.parametrize("number", [1, 4, 5])
def test_an_error_of_one_step_loses_none_before_it(
  tmp_path, whole, number, of, capsys
):
  def fail():
    raise UserError("the judge is down")

  class Torn(Numbers):
    def __next__(self):
      if self.drawn + 1 == number:
        fail()
      return super().__next__()

  given = (
    {"step_fn": at_call(number, fail)} if of == "step" else {"batches": Torn()}
  )
  with pytest.raises(UserError, match="judge"):
    run(tmp_path, save_every=100, **given)
  final, _ = run(tmp_path)
  resumed = f"resumes at step {number - 1} of 6" in capsys.readouterr().out
  assert resumed == (number > 1)
  assert_same(final, whole[0])
  assert logged(tmp_path) == whole[2]


def test_the_resume_check_can_fail(tmp_path, whole):
  # The control: a resume that forgets the position in the data.
  class Forgetful(Numbers):
    def restore(self, saved):
      pass

  with pytest.raises(Preempted):
    run(
      tmp_path,
      step_fn=at_call(3, lambda: signal.raise_signal(signal.SIGINT)),
    )
  final, _ = run(tmp_path, batches=Forgetful())
  with pytest.raises(AssertionError):
    assert_same(final, whole[0])


def test_a_finished_run_does_nothing_again(tmp_path, whole):
  run(tmp_path)

  def never(now, batch):
    raise AssertionError("a step was taken")

  final, figures = run(tmp_path, step_fn=never)
  assert_same(final, whole[0])
  assert figures["seconds"] > 0


def test_a_second_ctrl_c_stops_at_once(tmp_path):
  def twice():
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)

  with pytest.raises(KeyboardInterrupt):
    run(tmp_path, step_fn=at_call(2, twice))
  assert checkpoint.Checkpoints(tmp_path / "checkpoints").steps() == []


class Poisoned(Numbers):
  """Gives a batch of NaN at the steps named."""

  def __init__(self, *steps):
    super().__init__()
    self.steps = steps

  def __next__(self):
    batch = super().__next__()
    return batch * np.nan if self.drawn in self.steps else batch


def test_one_bad_batch_is_stepped_over(tmp_path):
  final, _ = run(tmp_path, batches=Poisoned(2))
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(final.params))
  lines = logged(tmp_path)
  assert [line["skipped"] for line in lines] == [0.5, 0.0, 0.0]


def test_three_bad_batches_in_a_row_end_the_run(tmp_path):
  with pytest.raises(NumericsError) as caught:
    run(tmp_path, batches=Poisoned(4, 5, 6))
  assert "not finite at step 6" in str(caught.value)
  assert caught.value.exit_code == 43
  # The state of step 3 is still there to go on from.
  assert checkpoint.Checkpoints(tmp_path / "checkpoints").latest() == 3


def test_a_loss_that_is_not_guarded_ends_the_run_before_it_is_saved(tmp_path):
  def step(now, batch):
    value = jnp.where(now.step == 2, jnp.nan, 1.0)
    return now.replace(step=now.step + 1), {"loss": value}

  with pytest.raises(NumericsError, match="loss not finite at step 3"):
    run(tmp_path, step_fn=jax.jit(step))
  assert checkpoint.Checkpoints(tmp_path / "checkpoints").latest() is None


def test_hooks_are_called_and_written(tmp_path):
  seen = []

  def on_log(step, now, means):
    seen.append((step, int(now.step), sorted(means)[0]))
    return {"rate": 0.5}

  run(
    tmp_path,
    on_log=on_log,
    images=lambda step, now: {"map": np.zeros((4, 4, 3), np.uint8)},
    image_every=3,
    flops_per_step=1e6,
  )
  assert [entry[:2] for entry in seen] == [(2, 2), (4, 4), (6, 6)]
  lines = telemetry.read_metrics(tmp_path / "metrics.jsonl")
  assert lines[0]["rate"] == 0.5
  assert 0 < lines[1]["speed/gemm_share"] < 1
  json.dumps(lines, allow_nan=False)


def test_another_model_in_the_folder_is_refused(tmp_path):
  other = {"w": jnp.zeros(3), "extra": jnp.zeros(2)}
  checkpoints = checkpoint.Checkpoints(tmp_path / "checkpoints")
  checkpoints.save(
    3,
    state.create(other, OPTIMIZER, key=jax.random.key(5), ema=True),
    data_state={},
    meta={},
  )
  checkpoints.close()
  with pytest.raises(UserError, match="does not fit this config: ema/extra"):
    run(tmp_path)


def test_window_weighs_pairs_and_counts_numbers():
  window = Window()
  window.add({"loss": (6.0, 2.0), "norm": 1.0, "never": (0.0, 0.0)})
  window.add({"loss": (0.0, 4.0), "norm": 3.0, "never": (0.0, 0.0)})
  # (6 + 0) / (2 + 4) = 1; (1 + 3) / 2 = 2; nothing without weight.
  assert window.read() == {"loss": 1.0, "norm": 2.0}
  assert window.sums == {}


class Watched:
  """A validation that knows no best at first."""

  every = 4

  def __init__(self):
    self.best, self.asked = None, []

  def begin(self, step):
    self.asked.append(("begin", step))

  def room(self, state):
    return 0

  def __call__(self, step, state, *, saved):
    self.best = 0.5, step
    self.asked.append(step)
    return {}, "said"


def test_a_run_that_knows_no_best_measures_first(tmp_path, monkeypatch):
  def fail():
    raise UserError("the judge is down")

  left_out = []
  note = lambda self, *seconds: left_out.append(seconds)  # noqa: E731
  monkeypatch.setattr(Rate, "leave_out", note)
  watched = Watched()
  with pytest.raises(UserError, match="judge"):
    run(tmp_path, step_fn=at_call(4, fail), validation=watched)
  assert watched.asked == [("begin", 0), 0]
  watched = Watched()
  run(tmp_path, validation=watched)
  assert watched.asked == [("begin", 3), 3, 4, 6]
  assert len(left_out) == 2 * 4  # of the line's rate and of the whole run's
