"""Stages of a run that starts from folders: which imports, and what goes on."""

import json

import jax
import numpy as np
import pytest

from cooper_jax import plugins, policy, trained
from cooper_jax.errors import UserError
from cooper_jax.parallel import mesh
from cooper_jax.training import start_folders, workdir
from cooper_jax.training.manifest import flatten
from cooper_jax.weights import exporting, folder, importing, starting
from tests.weights import starts

STAGES = ("pretrain", "sft", "grpo")


@pytest.fixture(scope="module")
def here(tmp_path_factory):
  """Folders of text and of a tower."""
  path = tmp_path_factory.mktemp("hub")
  starts.write_text(path / "text")
  starts.write_vision(path / "vision")
  return path


def composed(here, work, pipeline=("tokenizer", *STAGES)):
  named = {role: str(here / role) for role in ("text", "vision")}
  changes = {f"init.{role}": path for role, path in named.items()}
  return starts.make(work, changes, pipeline=pipeline)


@pytest.fixture
def built(monkeypatch):
  """What each import gave, in turn."""
  found, build = [], starting.build

  def counted(config, params):
    found.append(build(config, params))
    return found[-1]

  monkeypatch.setattr(starting, "build", counted)
  return found


def run(config, work, *stages):
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    for stage in stages:
      plugins.find("stages", stage).run(config, work)


def test_grpo_begins_with_folders_only_where_nothing_was_trained(
  here, tmp_path
):
  def begins(work, *stages):
    config = composed(here, work, ("tokenizer", *stages))
    return config, start_folders.begins_grpo(config, work)

  alone, does = begins(tmp_path, "grpo")
  assert does and workdir.check(alone, tmp_path) == tmp_path
  assert not begins(tmp_path, *STAGES)[1]
  # Pretraining would be lost: GRPO begins with SFT's result alone.
  config, does = begins(tmp_path, "pretrain", "grpo")
  assert not does
  with pytest.raises(UserError, match="grpo begins with what sft made"):
    workdir.check(config, tmp_path)
  (tmp_path / "pretrain/checkpoints").mkdir(parents=True)
  assert not begins(tmp_path, "grpo")[1]
  with pytest.raises(UserError, match="grpo begins with what sft made"):
    workdir.check(alone, tmp_path)
  (tmp_path / "sft/checkpoints").mkdir(parents=True)
  assert not begins(tmp_path, "grpo")[1]
  workdir.check(alone, tmp_path)


@pytest.mark.ci
def test_the_first_stage_imports_and_the_run_is_exported(here, tmp_path, built):
  """One step of pretraining; out again as docs/weights.md has it."""
  work = tmp_path / "run"
  config = composed(here, work)
  config.pretrain.steps = 1
  workdir.prepare(config, work)
  run(config, work, "tokenizer", "pretrain")
  assert len(built) == 1
  found = json.loads((work / "pretrain/origins.json").read_text())
  assert found["digests"] == dict(config.init.digests)
  assert len(found["arrays"]) == len(flatten(built[0][0]))
  config = workdir.read_config(work)
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    params = trained.load_params(policy.make_policy(config), work / "pretrain")
  own_leaves = flatten(params)
  for role, path in (
    ("text", "params/embedding"),
    ("vision", "params/vision/stem/kernel"),
  ):
    planned = importing.plan(folder.open_folder(here / role))
    leaves = {name: own_leaves[name] for name in planned.keys}
    exporting.export(planned, leaves, tmp_path / role)
    again = importing.plan(folder.open_folder(tmp_path / role))
    out, own = importing.read(again)[path], own_leaves[path]
    np.testing.assert_array_equal(out, np.asarray(own)[: len(out)])
    assert np.any(out != importing.read(planned)[path])


@pytest.mark.slow
def test_a_composed_model_goes_through_every_stage(here, tmp_path, built):
  """Five steps of each; the first imports, and none that goes on does."""
  work, other = tmp_path / "run", tmp_path / "alone"
  config = composed(here, work)
  workdir.prepare(config, work)
  run(config, work, "tokenizer", *STAGES)
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    found = trained.load_params(policy.make_policy(config), work / "grpo")
  moved = jax.tree.map(
    lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(),
    found,
    built[0][0],
  )
  assert np.isfinite(jax.tree.leaves(moved)).all()
  assert moved["params"]["embedding"] > 0
  assert moved["params"]["vision"]["stem"]["kernel"] > 0
  # It goes on from its checkpoint.
  longer = config.copy_and_resolve_references()
  longer.pretrain.steps = starts.STEPS + 1
  run(longer, work, "pretrain")
  assert len(built) == 1
  # Without stages before, reinforcement begins with the folders, reference and
  # all.
  alone = composed(here, other, ("tokenizer", "grpo"))
  other.mkdir(exist_ok=True)
  (other / "tokenizer").symlink_to(work / "tokenizer")
  workdir.check(alone, other)
  run(alone, other, "grpo")
  assert len(built) == 2
  assert (other / "grpo/origins.json").exists()


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
  """A folder of a model that sees."""
  path = tmp_path_factory.mktemp("seeing") / "whole"
  return path, starts.write_seeing(path)


def test_a_model_that_sees_is_taken_whole_or_in_halves(seeing, tmp_path):
  path, tensors = seeing
  whole = starts.make(tmp_path, {"init.from": str(path)}, ("pretrain",))
  halves = {f"init.{half}": str(path) for half in ("text", "vision")}
  halves = starts.make(tmp_path, halves, ("pretrain",))
  assert whole.model.to_dict() == halves.model.to_dict()
  assert whole.data.image_size == 64 and whole.model.vision.merge == 2
  made = policy.make_policy(whole)
  # Two patches of 16 pixels are the side of a cell, and of a location.
  assert made.form.model.locations == 4
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    zeros = jax.tree.map(
      lambda leaf: np.zeros(leaf.shape, leaf.dtype),
      policy.abstract_params(made),
    )
    trees = [
      flatten(starting.build(each, zeros)[0]) for each in (whole, halves)
    ]
  for name, leaf in trees[0].items():
    np.testing.assert_array_equal(leaf, trees[1][name])
  for third, name in enumerate("qkv"):
    fused = tensors["model.visual.blocks.1.attn.qkv.weight"]
    np.testing.assert_array_equal(
      trees[0][f"params/vision/blocks/{name}/kernel"][1],
      np.split(fused, 3)[third].T,
    )
  starts.write_text(tmp_path / "text")
  narrow = {"init.text": str(tmp_path / "text"), "init.vision": str(path)}
  with pytest.raises(UserError, match=r"gives 48 channels, .*d_model is 24"):
    starts.make(tmp_path, narrow, ("pretrain",))
  with pytest.raises(UserError, match="takes multiples of 32, the side of its"):
    starts.make(
      tmp_path, {"init.from": str(path), "data.image_size": 80}, ("pretrain",)
    )


@pytest.mark.slow
def test_a_model_that_sees_goes_through_every_stage(seeing, tmp_path, built):
  path, _ = seeing
  work = tmp_path / "run"
  config = starts.make(work, {"init.from": str(path)})
  workdir.prepare(config, work)
  run(config, work, "tokenizer", *STAGES)
  assert len(built) == 1
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    found = trained.load_params(policy.make_policy(config), work / "grpo")
  moved = {
    name: np.abs(np.asarray(leaf) - old).max()
    for (name, leaf), old in zip(
      flatten(found).items(), flatten(built[0][0]).values(), strict=True
    )
  }
  assert np.isfinite([*moved.values()]).all()
  for name in ("stem/kernel", "merger/fc1/kernel", "deepstack/fc2/kernel"):
    assert moved[f"params/vision/{name}"] > 0
  planned = importing.plan(folder.open_folder(path))
  leaves = {name: flatten(found)[name] for name in planned.keys}
  exporting.export(planned, leaves, tmp_path / "out")
  again = importing.read(importing.plan(folder.open_folder(tmp_path / "out")))
  for name in planned.keys:
    rows = len(again[name])
    np.testing.assert_array_equal(again[name], np.asarray(leaves[name])[:rows])
