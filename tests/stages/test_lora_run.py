"""Runs with LoRA: stopped and resumed, loaded, exported, refused."""

import json
import shutil

import jax
import numpy as np
import pytest

from cooper_jax import lora_export, main, plugins, policy, trained
from cooper_jax.errors import Preempted, UserError
from cooper_jax.models import lora
from cooper_jax.parallel import mesh
from cooper_jax.runtime import interrupt
from cooper_jax.settings import adapting
from cooper_jax.training import lora_record, workdir
from cooper_jax.training.checkpoint import Checkpoints
from cooper_jax.weights import adapter, folder, importing
from tests.weights import starts

STAGES = ("tokenizer", "sft", "grpo")


def one():
  return jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1]))


def settings(here, work, **changes):
  named = {f"init.{role}": str(here / role) for role in ("text", "vision")}
  made = {"lora.rank": 2, "sft.optim.ema_decay": 0.5} | named | changes
  return starts.make(work, made, STAGES)


def run(config, work, *stages):
  with one():
    for stage in stages:
      workdir.begin(config, work, stage)
      plugins.find("stages", stage).run(config, work)
      workdir.finish(config, work, stage, seconds=1.0)


def parameters(config, work, stage):
  with one():
    made = policy.make_policy(config)
    found = trained.load_stage(made, config, work, stage)
  return {name: np.asarray(x) for name, x in lora.flatten(found).items()}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  """(folders, config, workdir) of a run in which LoRA trained every stage."""
  here = tmp_path_factory.mktemp("hub")
  starts.write_text(here / "text")
  starts.write_vision(here / "vision")
  config = settings(here, here)
  work = workdir.prepare(config, here / "run")
  run(config, work, *STAGES)
  return here, config, work


@pytest.mark.slow
def test_checkpoints_hold_what_is_trained_and_name_what_it_is_beside(done):
  _, config, work = done
  found = {
    stage: json.loads((work / stage / lora_record.RECORD_FILE).read_text())
    for stage in ("sft", "grpo")
  }
  assert found["sft"]["base"]["digests"]["text"] == config.init.digests.text
  assert found["grpo"]["base"]["stage"] == "sft"
  assert found["grpo"]["base"]["averaged"]
  state = sorted((work / f"sft/checkpoints/{starts.STEPS}").rglob("*"))
  assert state
  names = Checkpoints(work / "sft/checkpoints")
  described = json.loads(
    (names.directory / f"{starts.STEPS}/meta/metadata").read_text()
  )["manifest"]
  held = [n for n in described if n.startswith("params/")]
  assert any(n.endswith(lora.A) for n in held)
  assert not any(n.startswith("params/params/decoder/norm") for n in held)
  assert not any("decoder" in n and n.endswith("/kernel") for n in described)


@pytest.mark.slow
def test_what_is_frozen_is_the_folders_to_the_bit_and_the_rest_has_moved(done):
  here, config, work = done
  found = parameters(config, work, "grpo")
  planned = importing.plan(folder.open_folder(here / "text"))
  leaves = importing.read(planned)
  for path, leaf in leaves.items():
    ours = found[path.removeprefix("params/")]
    if path.endswith("/kernel"):
      assert np.any(ours != leaf), path
    else:
      np.testing.assert_array_equal(ours[: len(leaf)], leaf)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_stopped_and_resumed_is_uninterrupted(
  done, stage, tmp_path, monkeypatch
):
  _, config, work = done
  for before in STAGES[: STAGES.index(stage)]:
    (tmp_path / before).symlink_to(work / before)
  shutil.copy(work / "config.json", tmp_path)
  module = plugins.find("stages", stage)
  with one():
    with monkeypatch.context() as patch:
      patch.setattr(interrupt.StopRequest, "made", lambda self, step: step == 2)
      with pytest.raises(Preempted):
        module.run(config, tmp_path)
    module.run(config, tmp_path)
  resumed = parameters(config, tmp_path, stage)
  for name, wanted in parameters(config, work, stage).items():
    np.testing.assert_array_equal(resumed[name], wanted)


@pytest.mark.slow
def test_exports_are_what_the_stages_ended_with(done):
  _, config, work = done
  with one():
    for form in ("adapter", "merged"):
      asked = config.copy_and_resolve_references()
      asked.lora.export = form
      said = lora_export.export(asked, work)
      assert any("map_query" in line for line in said)
      assert lora_export.export(asked, work) == []  # it is there
  found = parameters(config, work, "grpo")
  merged = importing.read(
    importing.plan(
      folder.open_folder(work / f"grpo/merged-{starts.STEPS}/text")
    )
  )
  for path, leaf in merged.items():
    ours = found[path.removeprefix("params/")][: len(leaf)]
    np.testing.assert_allclose(leaf, ours, atol=1e-6)
  # Of two stages, each of rank 2.
  told = json.loads(
    (
      work / f"grpo/adapter-{starts.STEPS}/text" / adapter.ADAPTER_CONFIG
    ).read_text()
  )
  assert told["r"] == 4 and told["lora_alpha"] == 64
  assert not (work / f"grpo/adapter-{starts.STEPS}/vision").exists()


@pytest.mark.slow
def test_another_base_is_refused(done, tmp_path):
  _, config, work = done
  other = tmp_path / "hub"
  starts.write_text(other / "text", seed=5)
  for stage in STAGES:
    shutil.copytree(work / stage, tmp_path / "run" / stage)
  moved = config.copy_and_resolve_references()
  moved.init.text = str(other / "text")
  with pytest.raises(UserError, match="has the weights"):
    parameters(moved, tmp_path / "run", "sft")
  moved.init.digests.text = "0123456789abcdef"
  with pytest.raises(UserError, match="belong to the text weights"):
    parameters(moved, tmp_path / "run", "sft")
  record = tmp_path / "run/grpo" / lora_record.RECORD_FILE
  said = json.loads(record.read_text())
  said["base"]["checksum"] += 1
  record.write_text(json.dumps(said))
  with pytest.raises(UserError, match=f"belong to sft, step {starts.STEPS}"):
    parameters(config, tmp_path / "run", "grpo")


@pytest.mark.slow
def test_another_rank_or_match_is_refused(done):
  here, _, work = done
  for name, value in (
    ("lora.rank", 3),
    ("lora.match", "decoder/blocks/q/*"),
    ("lora.alpha", 3.0),
  ):
    other = settings(here, here, **{name: value})
    with pytest.raises(UserError, match=f"{name} is .* there and .* here"):
      workdir.check(other, work)
  exported = settings(here, here, **{"lora.export": "adapter"})
  assert workdir.is_finished(exported, work, "grpo")


def test_a_note_of_other_layers_is_refused(tmp_path):
  base = {"stage": "sft", "step": 3, "checksum": 7, "averaged": False}
  trains = {"rank": 2, "layers": ("a", "b")}
  lora_record.note(tmp_path, trains, base)
  lora_record.note(tmp_path, trains, base)
  with pytest.raises(UserError, match="rank is 2 there and 4 here"):
    lora_record.note(tmp_path, trains | {"rank": 4}, base)
  with pytest.raises(UserError, match=r"belong to sft, step 3 \(7\), and th"):
    lora_record.note(tmp_path, trains, base | {"checksum": 8})
  # Where folders lie may change.
  folders = {"folders": {"text": "a"}, "digests": {"text": "12"}}
  lora_record.note(tmp_path / "x", trains, folders)
  lora_record.note(tmp_path / "x", trains, folders | {"folders": {"text": "b"}})
  (tmp_path / "x" / lora_record.RECORD_FILE).write_text("{}")
  with pytest.raises(UserError, match="is damaged"):
    lora_record.read(tmp_path / "x")


@pytest.mark.parametrize(
  ("words", "said"),
  [
    (["lora.rank=-2"], "config.lora.rank is -2; allowed: 0 and more (0 = off)"),
    (["lora.rank=2", "lora.stages=('tokenizer',)"], "names tokenizer, whose"),
    (
      ["lora.rank=2", "pipeline=('tokenizer',)"],
      "names none; put pretrain or sft or grpo into config.pipeline, or set",
    ),
    (
      ["lora.rank=2", "lora.stages=('grpo',)", "pipeline=('tokenizer','sft')"],
      "(tokenizer, sft) config.lora.stages (grpo) names none; add sft to",
    ),
    (["lora.rank=2", "lora.export=adapter"], "it began with none"),
    (["lora.export=adapter"], "config.lora.rank 0: there is no A and B"),
    (["lora.rank=2"], "pretrain begins with new parameters"),
    (
      ["lora.rank=2", "lora.match=decoder/block/*"],
      'config.lora.match names no layer with "decoder/block/*"; did you mean',
    ),
  ],
)
def test_bad_settings_are_one_line(words, said, tmp_path, capsys):
  given = [f"--config.{word}" for word in words]
  given += ["--config=configs/grpo.py:smoke", f"--workdir={tmp_path / 'run'}"]
  assert main.main(given) == 2
  error = capsys.readouterr().err
  assert said in error and error.count("\n") == 1
  assert not (tmp_path / "run").exists()


def test_only_whole_stages_of_the_policy_are_named():
  config = starts.base.get_base("smoke", ("sft",)).copy_and_resolve_references()
  config.lora.stages = ("sft", "grp")
  with pytest.raises(UserError, match=r'names "grp"; allowed: .*mean "grpo"'):
    adapting.check(config)
