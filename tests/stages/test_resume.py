"""Six steps = three, a stop and three more, bit for bit, in every stage.

One tiny chain: the tokenizers are trained once, each stage starts from the
one before.
"""

import jax
import numpy as np
import pytest

from configs import base
from cooper_jax import plugins
from cooper_jax.errors import Preempted
from cooper_jax.eval import family_flags
from cooper_jax.parallel import mesh
from cooper_jax.policy import make_policy
from cooper_jax.rl import rollout_log
from cooper_jax.rl.rewards import answer
from cooper_jax.runtime import interrupt
from cooper_jax.trained import load_params
from cooper_jax.training import json_files, telemetry, workdir
from cooper_jax.training.checkpoint import Checkpoints
from cooper_jax.world.questions import families
from tests import metrics_page

pytestmark = pytest.mark.ci

STAGES = ("pretrain", "sft", "grpo")
STEPS = 6


def settings(cache):
  config = base.get_base("smoke", ("tokenizer", *STAGES))
  config = config.copy_and_resolve_references()
  config.unlock()
  config.data.update(
    cache=str(cache),
    train_scenes=16,
    validation_scenes=4,
    test_scenes=4,
    workers=1,
  )
  config.model.update(d_model=32, layers=1, ffn=48, head_dim=8)
  config.model.vision.update(width=16, ffn=16)
  config.tokenizer.network.update(width=8, fine_width=8, blocks=1)
  config.tokenizer.steps = 1
  config.sampling.update(text=12, maps=1)
  config.grpo.rl.group_size = 2
  config.grpo.rl.loss.kl_weight = 0.1  # so that a reference policy is kept, too
  for stage in STAGES:
    config[stage].update(steps=STEPS, batch=2, log_every=2, save_every=STEPS)
    config[stage].optim.ema_decay = 0.5 if stage == "sft" else 0.0
  config.grpo.validate_every, config.grpo.validation_questions = 2, 4
  config.grpo.flag_questions = 4  # of the start, and not of where a run goes on
  config.grpo.order = "difficulty"  # its estimates have to come back, too
  config.sft.image_every = config.grpo.image_every = 5
  config.lock()
  return config


@pytest.fixture(scope="module", autouse=True)
def varied_reward():
  """A fresh policy earns nothing; this one's groups have a variance."""

  def reward(view, columns, config):
    del columns, config
    return np.array([len(text) % 7 / 6 for text in view.text], np.float32)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(answer, "reward", reward)
    yield


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
  """A workdir in which every stage has run uninterrupted."""
  folder = tmp_path_factory.mktemp("chain")
  config = settings(folder / "cache")
  run = folder / "run"
  run.mkdir()
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    for stage in ("tokenizer", *STAGES):
      plugins.find("stages", stage).run(config, run)
  return config, run


def parameters(config, run, stage):
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    policy = make_policy(config)
    return jax.tree.map(np.asarray, load_params(policy, run / stage))


def best(config, run):
  """(steps that are kept, parameters of the best by validation)."""
  kept = Checkpoints(run / "grpo/best/checkpoints")
  steps = kept.steps()
  kept.close()
  return steps, parameters(config, run, "grpo/best")


@pytest.mark.parametrize("stage", ("tokenizer", *STAGES))
def test_every_key_that_a_stage_logs_is_explained(chain, stage):
  assert metrics_page.of_stage(chain[1] / stage) == []


@pytest.mark.parametrize("stage", STAGES)
def test_stopped_and_resumed_is_uninterrupted(
  chain, stage, tmp_path, monkeypatch
):
  config, run = chain
  for before in ("tokenizer", *STAGES):
    if before == stage:
      break
    (tmp_path / before).symlink_to(run / before)
  module = plugins.find("stages", stage)
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    with monkeypatch.context() as patch:
      patch.setattr(interrupt.StopRequest, "made", lambda self, step: step == 3)
      with pytest.raises(Preempted, match="step 3 of 6"):
        module.run(config, tmp_path)
    halfway = parameters(config, tmp_path, stage)
    module.run(config, tmp_path)
  resumed = parameters(config, tmp_path, stage)
  straight = parameters(config, run, stage)
  jax.tree.map(np.testing.assert_array_equal, resumed, straight)
  moved = [
    np.abs(a - b).max()
    for a, b in zip(
      jax.tree.leaves(halfway), jax.tree.leaves(resumed), strict=True
    )
  ]
  assert max(moved) > 0
  keys = ("loss", "reward/total", "grad_norm", "validation/accuracy")
  keys += ("questions/expected",)
  logs = [
    [
      {k: row[k] for k in keys if k in row}
      for row in workdir_metrics(folder / stage)
    ]
    for folder in (tmp_path, run)
  ]
  assert logs[0] == logs[1]
  said = [
    telemetry.read_metrics(path) if path.exists() else []
    for path in (f / stage / rollout_log.NAME for f in (tmp_path, run))
  ]
  assert said[0] == said[1]
  assert [row["step"] for row in said[0]] == [2, 4, 6] * (stage == "grpo")
  assert any(logs[0])
  if stage == "grpo":
    (steps, ours), (wanted, theirs) = (best(config, d) for d in (tmp_path, run))
    assert steps[-1] == wanted[-1]
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_finished_grpo_goes_on_where_it_is_given_more_steps(chain, tmp_path):
  """At a constant rate it is the run that had so many from the start."""
  config, run = chain
  for before in ("tokenizer", "pretrain", "sft"):
    (tmp_path / before).symlink_to(run / before)
  shorter = config.copy_and_resolve_references()
  shorter.grpo.steps = 3
  module = plugins.find("stages", "grpo")
  for made in (shorter, config):
    workdir.prepare(made, tmp_path)
    assert not workdir.is_finished(made, tmp_path, "grpo")
    workdir.begin(made, tmp_path, "grpo")
    with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
      module.run(made, tmp_path)
    workdir.finish(made, tmp_path, "grpo", seconds=1.0)
    assert workdir.is_finished(made, tmp_path, "grpo")
  longer, straight = (parameters(config, d, "grpo") for d in (tmp_path, run))
  jax.tree.map(np.testing.assert_array_equal, longer, straight)
  rewards, other = (
    {row["step"]: row["reward/total"] for row in rows if "reward/total" in row}
    for rows in (workdir_metrics(d / "grpo") for d in (tmp_path, run))
  )
  assert [*rewards] == [2, 3, 4, 6]  # 3 was the last of the shorter run
  assert rewards[6] == other[6]


def test_questions_are_asked_with_the_flags_that_were_measured(chain, tmp_path):
  """With maps that nowhere help or hurt, nothing is logged of where they do."""
  config, run = chain
  for before in ("tokenizer", "pretrain", "sft"):
    (tmp_path / before).symlink_to(run / before)
  found = {"flag": "boundary", "n": 9, "drawn": 0.5, "text": 0.5, "price": 0.0}
  (tmp_path / "grpo").mkdir()
  json_files.write_json(
    tmp_path / "grpo" / family_flags.FILE,
    dict.fromkeys(families.names(), found),
  )
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    plugins.find("stages", "grpo").run(config, tmp_path)
  logged = [
    {key for row in workdir_metrics(folder / "grpo") for key in row}
    for folder in (run, tmp_path)
  ]
  by_flag = {"maps/positive", "maps/negative"}
  assert logged[0] & by_flag and not logged[1] & by_flag


def workdir_metrics(folder):
  from cooper_jax.training import telemetry

  return telemetry.read_metrics(folder / "metrics.jsonl")


def test_pictures_are_drawn_where_they_are_asked_for(chain):
  from tensorboard.backend.event_processing import event_accumulator

  _, run = chain
  kinds = ["tokenizer/depth", "tokenizer/segmentation"]
  for stage, tags in (
    ("tokenizer", [*kinds, *(f"{kind}/test" for kind in kinds)]),
    ("pretrain", []),  # its image_every is 0
    ("sft", ["drawn"]),
    ("grpo", ["rollouts"]),
  ):
    found = event_accumulator.EventAccumulator(str(run / stage))
    found.Reload()
    assert found.Tags()["images"] == tags, stage
    for tag in tags if stage in ("sft", "grpo") else ():
      assert [image.step for image in found.Images(tag)] == [5, 6]


def test_the_chain_leaves_a_summary(chain):
  _, run = chain
  summary = json_files.read_json(run / "summary.json")
  assert {"reward/first", "reward/last"} <= summary.keys()
