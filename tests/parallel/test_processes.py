"""Several processes are one run: same batches, same parameters, one end.

The real ones talk over loopback. Each test that starts some has a limit of
time, kills by pid what is left, and shows the logs of all where one fails.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from cooper_jax import command
from cooper_jax.errors import EXIT_PREEMPTED, Stalled, UserError
from cooper_jax.parallel import processes, shard, watchdog
from cooper_jax.parallel.mesh import make_mesh, own_mesh
from cooper_jax.policy import make_policy
from cooper_jax.rl import scoring
from cooper_jax.runtime import interrupt
from cooper_jax.stages import tokenizer
from cooper_jax.trained import load_params
from cooper_jax.training import loop, telemetry, workdir
from cooper_jax.training.checkpoint import Checkpoints, flatten
from tests import compiling

ROOT = pathlib.Path(__file__).parents[2]
LIMIT = 560  # seconds of a run; compiling on a busy machine takes most of it
STEPS = 24  # of pretraining alone
SMOKE = "--config=configs/grpo.py:smoke"

# As little as there can be: nearly all of the time is compiling.
SMALL = f"""
  pretrain.steps={STEPS}
  data.image_size=32 data.train_scenes=24 data.validation_scenes=4
  data.test_scenes=4 modalities=('depth',) model.d_model=32 model.layers=1
  model.heads=2 model.kv_heads=1 model.ffn=64 model.map_grid=4
  model.vision.width=32 model.vision.heads=2 model.vision.ffn=32
  tokenizer.network.width=8 tokenizer.network.fine_width=8
  tokenizer.network.levels=(2,3,2) tokenizer.optim.name=adamw tokenizer.steps=2
  pretrain.optim.name=adamw sft.shares.segmentation=0. sft.shares.both=0.
""".split()
# Rollouts that end by chance are what a fresh policy differs in.
ALL = """
  pretrain.steps=3 sft.steps=2 grpo.steps=2 sampling.text=40
  grpo.rl.group_size=16
  grpo.rl.rewards.length=1. grpo.rl.rewards.depth=0.
  grpo.rl.rewards.answer=None grpo.rl.rewards.format=None
  grpo.rl.rewards.exploration=None grpo.rl.rewards.segmentation=None
""".split()


class Fleet:
  """Processes of one command, their logs, and their end at the latest."""

  def __init__(self, folder, words, *, count, own=()):
    """own: further settings of the last process."""
    self.folder, self.running = folder, []
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
      free.bind(("127.0.0.1", 0))
      address = f"127.0.0.1:{free.getsockname()[1]}"
    for i in range(count):
      # One process alone has as many devices as there are processes else.
      devices = "--xla_force_host_platform_device_count="
      environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{compiling.QUICK} {devices}{2 if count == 1 else 1}",
        "PYTHONPATH": str(ROOT),
      }
      if count > 1:
        environment |= dict(
          zip(processes.GIVEN, (address, str(count), str(i)), strict=True)
        )
      last = i == count - 1
      with (folder / f"log{i}").open("w") as log:
        self.running.append(
          subprocess.Popen(
            [sys.executable, "-m", "cooper_jax.main", *words]
            + [f"--workdir={folder / 'run'}", *(own if last else ())],
            cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT,
          )
        )  # fmt: skip

  def log(self, i) -> str:
    return (self.folder / f"log{i}").read_text()

  def logs(self) -> str:
    return "\n".join(
      f"--- process {i}, {p.returncode}\n{self.log(i)[-3000:]}"
      for i, p in enumerate(self.running)
    )

  def end(self, *, code=0, limit=LIMIT):
    """Waits for all; each must end with this code within the limit."""
    until = time.monotonic() + limit
    try:
      for process in self.running:
        process.wait(timeout=max(until - time.monotonic(), 1))
    except subprocess.TimeoutExpired:
      pytest.fail(f"not ended after {limit} s\n{self.logs()}")
    finally:
      for process in self.running:
        process.kill()
        process.wait()
    assert [p.returncode for p in self.running] == (
      [code] * len(self.running)
    ), self.logs()
    return self


def command_line(folder, stages, settings=()) -> list[str]:
  """Flags of a small run whose scenes are kept in a folder."""
  words = [f"pipeline={stages!r}", f"data.cache={folder / 'cache'}"]
  words += [*SMALL, *settings]
  return [SMOKE, *(f"--config.{word}" for word in words)]


def parameters(fleet, stage) -> dict:
  with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
    config = workdir.read_config(fleet.folder / "run")
    policy = make_policy(config)
    found = flatten(load_params(policy, fleet.folder / "run" / stage))
    return {name: np.asarray(leaf) for name, leaf in found.items()}


def logged(fleet, stage) -> list[dict]:
  lines = telemetry.read_metrics(fleet.folder / "run" / stage / "metrics.jsonl")
  return [
    {k: v for k, v in line.items() if not k.endswith("_s") and "sec" not in k
     and not k.startswith("speed/")}
    for line in lines
  ]  # fmt: skip


def assert_same_end(one, other, stage):
  here, there = parameters(one, stage), parameters(other, stage)
  assert here.keys() == there.keys()
  for name in here:
    # Measured: 0. The sums of two devices are the same, wherever they are.
    np.testing.assert_allclose(
      here[name], there[name], atol=1e-5, rtol=0, err_msg=f"{stage} {name}"
    )
  for mine, its in zip(logged(one, stage), logged(other, stage), strict=True):
    assert mine == pytest.approx(its, abs=1e-4, nan_ok=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("fleet")


def pretrain(folder, *, count) -> Fleet:
  """Begins to pretrain, in a folder where the tokenizers count as trained."""
  words = command_line(folder.parent, ("tokenizer", "pretrain"))
  config = command.parse(words).config
  run = folder / "run"
  if workdir.record(run, "tokenizer") is None:
    modules = tokenizer.find_modules(config)
    configs = tokenizer.make_configs(config, modules)
    fresh = tokenizer.init_params(configs, jax.random.key(1))
    workdir.begin(config, run, "tokenizer")
    saved = Checkpoints(run / "tokenizer" / "checkpoints")
    saved.save(1, {"params": fresh}, data_state={}, meta={})
    saved.close()
    workdir.finish(config, run, "tokenizer", seconds=0.0)
  return Fleet(folder, words, count=count)


@pytest.fixture(scope="module")
def trained(folder):
  """Pretraining by one process with two devices, begun."""
  return pretrain(folder / "trained", count=1)


@pytest.mark.ci
def test_two_processes_pretrain_as_one_does(folder, trained):
  two = pretrain(folder / "two", count=2).end()
  assert_same_end(two, trained.end(), "pretrain")
  # Something was learned, and one has told of it, once.
  losses = [line["loss"] for line in logged(two, "pretrain")]
  assert len(losses) == STEPS // 4 and losses[-1] < 0.7 * losses[0]
  assert two.log(0).startswith("process 1 of 2") and "done in" in two.log(0)
  said = [line for line in two.log(1).splitlines() if "Gloo" not in line]
  assert len(said) == 1 and said[0].startswith("process 2 of 2")


@pytest.mark.ci
def test_a_process_with_another_config_ends_both_with_one_line(folder):
  words = command_line(folder, ("tokenizer",))
  two = Fleet(folder / "other", words, count=2, own=["--config.seed=5"])
  two.end(code=2, limit=120)
  assert "error: process 2 of 2 has the config and code" in two.log(1)
  assert "error: process 2 of 2 ended, so this one does" in two.log(0)
  assert "Traceback" not in two.log(0) + two.log(1)


@pytest.mark.slow
def test_two_processes_go_through_all_stages_as_one_does(folder):
  stages = ("tokenizer", "pretrain", "sft", "grpo")
  words = command_line(folder, stages, ALL)
  one = Fleet(folder / "all1", words, count=1).end()
  two = Fleet(folder / "all2", words, count=2).end()
  for stage in stages[1:]:
    assert_same_end(two, one, stage)
  (line,) = logged(two, "grpo")
  assert line["grad_norm"] > 0 and line["maps/drew"] > 0


@pytest.mark.slow
def test_two_processes_stopped_and_gone_on_with_end_as_one_does(
  folder, trained
):
  two = pretrain(folder / "stopped", count=2)
  metrics = folder / "stopped" / "run" / "pretrain" / "metrics.jsonl"
  until = time.monotonic() + LIMIT
  while not (metrics.exists() and metrics.read_text().count("\n")):
    assert time.monotonic() < until and two.running[0].poll() is None, (
      two.logs()
    )
    time.sleep(0.05)
  two.running[1].send_signal(signal.SIGTERM)  # to one: JAX tells the other
  two.end(code=EXIT_PREEMPTED)
  assert "stopped and saved at step" in two.log(0)
  two = pretrain(folder / "stopped", count=2).end()
  assert "resumes at step" in two.log(0)
  assert_same_end(two, trained.end(), "pretrain")


SET = dict(zip(processes.GIVEN, ("10.0.0.1:9000", "4", "3"), strict=True))


def test_the_environment_says_who_there_is():
  assert processes.read_environment({}) is None
  assert processes.read_environment({"COOPER_DISTRIBUTED": "0"}) is None
  assert processes.read_environment({"COOPER_DISTRIBUTED": "1"}) == {}
  found = processes.read_environment(SET)
  assert found["coordinator_address"] == "10.0.0.1:9000"
  assert (found["num_processes"], found["process_id"]) == (4, 3)
  assert "coordinator_bind_address" not in found
  own = processes.read_environment(
    SET | {"COOPER_COORDINATOR": "127.0.0.1:9000"}
  )
  assert own["coordinator_bind_address"] == "127.0.0.1:9000"


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"COOPER_PROCESS": ""}, "COOPER_PROCESS is not set"),
    (
      {"COOPER_PROCESS": "", "COOPER_PROCESSES": ""},
      "COOPER_PROCESSES and COOPER_PROCESS are not set",
    ),
    ({"COOPER_PROCESS": "4"}, "COOPER_PROCESS is '4'"),
    ({"COOPER_PROCESS": "-1"}, "COOPER_PROCESS is '-1'"),
    ({"COOPER_PROCESSES": "two"}, "COOPER_PROCESSES 'two'"),
    ({"COOPER_COORDINATOR": "10.0.0.1"}, "HOST:PORT"),
    ({"COOPER_COORDINATOR": "host:http"}, "HOST:PORT"),
    ({"COOPER_DISTRIBUTED": "1"}, "are both set"),
    ({"COOPER_DISTRIBUTED": "yes"}, "COOPER_DISTRIBUTED is 'yes'"),
  ],
)
def test_a_wrong_environment_is_one_line(changes, said):
  with pytest.raises(UserError, match=said) as caught:
    processes.read_environment(SET | changes)
  assert "\n" not in str(caught.value)


def test_a_wrong_environment_ends_the_command_with_two(tmp_path):
  done = subprocess.run(
    [sys.executable, "-m", "cooper_jax.main", f"--workdir={tmp_path / 'run'}"]
    + ["--config=configs/tokenizer.py:smoke"],
    cwd=ROOT, env=os.environ | {"COOPER_PROCESSES": "2"}, timeout=120,
    capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == 2 and done.stderr.count("\n") == 1
  assert "COOPER_COORDINATOR and COOPER_PROCESS are not set" in done.stderr
  assert list(tmp_path.iterdir()) == []


class Coordinator:
  """What `jax.distributed` has of one, for a test."""

  def __init__(self, found=(), reason="DEADLINE_EXCEEDED: waited"):
    self.found, self.reason = list(found), reason

  def wait_at_barrier(self, name, milliseconds, who):
    raise RuntimeError(self.reason)

  def key_value_dir_get(self, name):
    return self.found


@pytest.fixture
def second_of_two(monkeypatch):
  monkeypatch.setattr(processes, "members", lambda: (0, 1))
  monkeypatch.setattr(processes, "count", lambda: 2)
  monkeypatch.setattr(processes, "index", lambda: 1)


def test_a_barrier_does_not_wait_for_ever(second_of_two, monkeypatch):
  monkeypatch.setattr(processes, "client", Coordinator)
  with pytest.raises(Stalled, match=r"waited 3 s for the others \(codes\)"):
    processes.barrier("codes", limit=3)
  assert Stalled.exit_code == 42
  # Anything else that the coordinator says is not taken for that.
  gone = Coordinator(reason="UNAVAILABLE")
  monkeypatch.setattr(processes, "client", lambda: gone)
  with pytest.raises(RuntimeError, match="UNAVAILABLE"):
    processes.barrier("codes", limit=3)


def test_prompts_are_shared_in_order_or_refused(second_of_two):
  assert processes.share(6, "config.grpo.batch") == range(3, 6)
  with pytest.raises(UserError, match="batch is 5, which 2 processes"):
    processes.share(5, "config.grpo.batch")


def test_a_position_of_more_processes_is_refused():
  assert loop._own_position({"step": 3}) == {"step": 3}
  assert loop._own_position({"processes": [{"step": 3}]}) == {"step": 3}
  with pytest.raises(UserError, match="made by 3 processes, these are 1"):
    loop._own_position({"processes": [{}, {}, {}]})


def test_scores_that_are_gathered_are_the_scores():
  total = np.array([1.0, np.nan, 3.0], np.float32)
  quality = np.array([[0.5], [np.nan], [1.0]], np.float32)
  rewards = {"b": total + 1, "a": total}
  mine = scoring.RewardScores(
    rewards, total, quality, {"b": 2, "a": 1}, {"b": 0, "a": 4}
  )
  found = scoring.gather(mine, maps=2)
  assert list(found.rewards) == ["b", "a"]
  np.testing.assert_array_equal(found.rewards["b"], rewards["b"])
  np.testing.assert_array_equal(found.total, total)
  np.testing.assert_array_equal(found.map_quality[:, :1], quality)
  assert np.isnan(found.map_quality[:, 1]).all()
  assert found.seconds == {"b": 2.0, "a": 1.0}
  assert found.exceptions == {"b": 0, "a": 4}


def test_the_end_of_another_is_heard(second_of_two, monkeypatch, capsys):
  left = []
  monkeypatch.setattr(watchdog, "_leave", lambda *how: left.append(how))
  monkeypatch.setattr(watchdog, "POLL", 0.01)
  said = json.dumps([43, "NumericsError: not finite"])
  there = Coordinator([("cooper_ended/0", said)])
  monkeypatch.setattr(processes, "client", lambda: there)
  watchdog._watch(watchdog.threading.Event())
  assert left == [(43, watchdog.GRACE)]
  assert "process 1 of 2 ended, so this one does" in capsys.readouterr().err


def test_one_process_is_alone_and_first():
  assert processes.members() == (0,) and processes.is_first()
  assert not processes.several()
  assert processes.share(5, "x") == range(5)
  assert processes.agree("x", (1, 2)) == (1, 2)
  mesh = make_mesh()
  with jax.set_mesh(mesh):
    assert own_mesh() is mesh
    assert shard.own_rows(3) == [0, 1, 2]  # need not divide by the devices


def test_the_ticks_of_a_stop_only_grow(monkeypatch):
  """Each stage counts its steps anew; what hosts agree on must not."""
  from jax.experimental import multihost_utils

  asked = []
  monkeypatch.setattr(interrupt, "_distributed", lambda: True)
  monkeypatch.setattr(interrupt.StopRequest, "_agreed", False)
  monkeypatch.setattr(
    multihost_utils,
    "reached_preemption_sync_point",
    lambda tick: asked.append(tick) or len(asked) == 4,
  )
  first, second = interrupt.StopRequest("a"), interrupt.StopRequest("b")
  answers = [s.made(1) for s in (first, first, second, second, second)]
  assert answers == [False, False, False, True, True]
  assert asked == sorted(set(asked))


def test_ctrl_c_is_passed_on_where_several_have_to_agree(monkeypatch, capsys):
  got = []
  monkeypatch.setattr(interrupt, "_distributed", lambda: True)
  before = signal.signal(signal.SIGTERM, lambda *_: got.append("term"))
  try:
    with interrupt.StopRequest("toy"):
      signal.raise_signal(signal.SIGINT)
  finally:
    signal.signal(signal.SIGTERM, before)
  assert got == ["term"] and "SIGINT received" in capsys.readouterr().err
