"""A packaged model gives back what was trained, or says why it can't."""

import json

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors import numpy as safetensors

from configs import grpo
from cooper_jax import ask, command, package
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.eval import stage_scores
from cooper_jax.parallel import shard
from cooper_jax.policy import init_params, make_policy
from cooper_jax.stages import tokenizer
from cooper_jax.tokenizers import text_files
from cooper_jax.trained import load_stage
from cooper_jax.training import json_files, workdir
from cooper_jax.training.checkpoint import Checkpoints
from cooper_jax.world.scenes import generate
from tests import tiny  # noqa: F401  sets the mesh

SETTINGS = (
  "data.train_scenes=16",
  "data.validation_scenes=4",
  "data.test_scenes=6",
  "data.workers=1",
  "model.d_model=32",
  "model.layers=1",
  "sampling.text=12",
)


def random_like(abstract, seed):
  """Every parameter random, so that a swapped or zeroed one shows."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda a: rng.normal(0, 0.1, a.shape).astype(np.float32), abstract
  )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """(config, workdir, parameters) of a run that was never trained."""
  folder = tmp_path_factory.mktemp("run")
  settings = [f"--config.{each}" for each in SETTINGS]
  settings.append(f"--config.data.cache={folder / 'cache'}")
  asked = command.parse(
    ["--config=configs/grpo.py:smoke", f"--workdir={folder / 'a'}", *settings]
  )
  config, here = asked.config, workdir.prepare(asked.config, asked.workdir)
  policy = make_policy(config)
  configs = tokenizer.make_configs(config, tokenizer.find_modules(config))
  trees = {
    "tokenizer": jax.eval_shape(
      lambda: tokenizer.init_params(configs, jax.random.key(0))
    ),
    "sft": shard.unbox(
      jax.eval_shape(lambda: init_params(policy, jax.random.key(0)))
    ),
  }
  for seed, stage in enumerate(package.STAGES):
    workdir.begin(config, here, stage)
    if stage in trees:
      trees[stage] = random_like(trees[stage], seed)
      averaged = stage == "sft" and config.sft.optim.ema_decay > 0
      saved = Checkpoints(here / stage / "checkpoints")
      part = "ema" if averaged else "params"
      saved.save(3, {part: trees[stage]}, data_state={}, meta={})
      saved.close()
    workdir.finish(config, here, stage, seconds=1.0)
    workdir.add_summary(here, {f"speed/{stage}/seconds": 1800.0})
  workdir.add_summary(here, {"depth/tokenizer_abs_rel": 0.5, "reward/last": 1})
  return config, here, trees


@pytest.fixture(scope="module")
def packed(run, tmp_path_factory):
  out = tmp_path_factory.mktemp("packed") / "model"
  assert package.main([f"--workdir={run[1]}", f"--out={out}"]) == 0
  return out


def equal(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def copy_of(folder, tmp_path):
  there = tmp_path / "copy"
  there.mkdir()
  for path in folder.iterdir():
    (there / path.name).write_bytes(path.read_bytes())
  return there


def rewrite(there, change):
  """Passes the manifest of a package through change(manifest)."""
  manifest = json.loads((there / "manifest.json").read_text())
  change(manifest)
  (there / "manifest.json").write_text(json.dumps(manifest))


def test_what_is_packed_is_what_is_loaded(run, packed):
  config, _, trees = run
  codecs, params = package.load(config, make_policy(config), packed)
  equal(params, trees["sft"])
  equal({n: c.params for n, c in codecs.items()}, trees["tokenizer"])
  manifest = json.loads((packed / "manifest.json").read_text())
  assert manifest["figures"] == {"depth/tokenizer_abs_rel": 0.5}
  assert manifest["maps"] == ["depth", "segmentation"]
  made = manifest["made"]["sft"]
  assert made["hours"] == 0.5
  (by,) = made["by"]
  assert by["command"].startswith("python -m cooper_jax.main")
  assert by.keys() == {"command", "commit", "dtypes", "machine"}
  count = sum(leaf.size for leaf in jax.tree.leaves(trees))
  assert manifest["parameters"] == count


def test_a_modality_without_training_maps_is_not_drawn(run, packed, tmp_path):
  config, *_ = run
  there = copy_of(packed, tmp_path)
  rewrite(there, lambda manifest: manifest.update(maps=["depth"]))
  config = config.copy_and_resolve_references()
  config.init_from = str(there)
  here = workdir.prepare(config, tmp_path / "b")
  package.install(config, here, jax.sharding.get_mesh())
  trained = tokenizer.trained_on(here, tokenizer.load(config, here))
  assert trained.keys() == {"depth"}


def test_installed_it_is_a_run_whose_sft_is_done(run, packed, tmp_path):
  config, _, trees = run
  config = config.copy_and_resolve_references()
  config.init_from = str(packed)
  here = workdir.prepare(config, tmp_path / "b")
  mesh = jax.sharding.get_mesh()
  package.install(config, here, mesh)
  lines, todo = workdir.plan(config, here)
  assert todo == ["grpo", "evaluate"]
  assert f"from package {packed.name}, skipped" in lines[0]
  policy = make_policy(config)
  equal(load_stage(policy, config, here, "sft"), trees["sft"])
  codecs = tokenizer.load(config, here)
  equal({n: c.params for n, c in codecs.items()}, trees["tokenizer"])
  # Measured here and not believed: the package says .5.
  summary = json_files.read_json(here / "summary.json")
  assert summary["depth/tokenizer_abs_rel"] != 0.5
  assert summary["depth/abs_rel_constant"] > 0
  before = (here / "sft" / "stage.json").stat().st_mtime_ns
  package.install(config, here, mesh)  # nothing to do
  assert (here / "sft" / "stage.json").stat().st_mtime_ns == before
  # Packed again, it still says who trained it, and for how long.
  again = package.pack(here, tmp_path / "again")
  assert again["made"] == package.read_manifest(packed)["made"]
  assert again["sha256"] == package.read_manifest(packed)["sha256"]


def test_installed_as_pretraining_it_is_trained_anew(run, packed, tmp_path):
  config, _, trees = run
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.init_as = "pretrain"
    config.sft.steps = 7
    config.pretrain.optim.ema_decay = 0.9
    packed = copy_of(packed, tmp_path)
    rewrite(
      packed, lambda m: m["config"]["pretrain"]["optim"].update(ema_decay=0.9)
    )
    config.init_from = str(packed)
  here = workdir.prepare(config, tmp_path / "c")
  package.install(config, here, jax.sharding.get_mesh())
  assert workdir.plan(config, here)[1] == ["sft", "grpo", "evaluate"]
  policy = make_policy(config)
  equal(load_stage(policy, config, here, "pretrain"), trees["sft"])
  came = workdir.record(here, "pretrain")["package"]
  made = package.read_manifest(packed)["made"]
  assert came["by"] == made["pretrain"]["by"] + made["sft"]["by"]
  assert came["hours"] == made["pretrain"]["hours"] + made["sft"]["hours"]
  noted = (here / "pretrain" / "stage.json").read_bytes()
  package.install(config, here, jax.sharding.get_mesh())  # nothing to do
  assert (here / "pretrain" / "stage.json").read_bytes() == noted
  with config.unlocked():
    config.pretrain.steps = 5
  with pytest.raises(UserError, match=r"pretrain\.steps is .* and 5 here"):
    package.check(config, packed)


def test_a_package_from_before_it_could_stand_for_pretraining(
  run, packed, tmp_path
):
  older = copy_of(packed, tmp_path)
  rewrite(older, lambda m: m["config"].pop("init_as"))
  config = workdir.to_config(package.read_manifest(older)["config"])
  _, params = package.load(config, make_policy(config), older)
  equal(params, run[2]["sft"])


@pytest.mark.parametrize(
  ("key", "value"),
  [("model.d_model", 48), ("sft.steps", 9), ("world.max_objects", 7)],
)
def test_another_architecture_recipe_or_world_is_named(run, packed, key, value):
  config = run[0].copy_and_resolve_references()
  with config.unlocked():
    section, name = key.split(".")
    config[section][name] = value
  with pytest.raises(UserError, match=f"{key} is .* there and {value} here"):
    package.check(config, packed)


def test_another_view_of_the_world_is_accepted_and_said(run, packed, capsys):
  config = run[0].copy_and_resolve_references()
  with config.unlocked():
    config.world.camera_height, config.world.object_size = (2.0, 2.4), 1.2
  for _ in range(2):
    package.check(config, packed)
  said = capsys.readouterr().err
  assert said.count("\n") == 1 and "another view of the world" in said
  assert "camera_height is [0.9, 2.2] there and [2.0, 2.4] here" in said
  with config.unlocked():
    config.world.max_objects = 5
  with pytest.raises(UserError, match="max_objects is 6 there and 5 here"):
    package.check(config, packed)


def test_a_setting_of_training_that_came_later_is_no_difference(
  run, packed, tmp_path
):
  there = copy_of(packed, tmp_path)
  rewrite(there, lambda m: m["config"]["pretrain"].pop("extra_counting"))
  package.check(run[0], there)
  rewrite(there, lambda m: m["config"]["model"].pop("map_lookup"))
  with pytest.raises(UserError, match=r"model\.map_lookup is absent there"):
    package.check(run[0], there)


def test_a_package_of_older_names_says_what_made_it(run, packed, tmp_path):
  there = copy_of(packed, tmp_path)

  def rename(manifest):
    manifest["config"]["model"]["read"] = True
    del manifest["config"]["model"]["map_lookup"], manifest["version"]
    manifest["made"]["sft"]["by"] = [{"commit": "c0ffee"}]

  assert json.loads((there / "manifest.json").read_text())["version"] == 2
  rewrite(there, rename)
  with pytest.raises(UserError, match=r"\(version 1, commit c0ffee\)") as error:
    package.check(run[0], there)
  said = str(error.value)
  assert "model.read is True there and absent here" in said
  assert "\n" not in said


@pytest.mark.parametrize("missing", ["config", "made", "data"])
def test_a_manifest_with_a_part_missing_is_refused(packed, tmp_path, missing):
  there = copy_of(packed, tmp_path)
  rewrite(
    there, lambda m: (m["config"] if missing == "data" else m).pop(missing)
  )
  with pytest.raises(UserError, match="does not say how the model was made"):
    package.read_manifest(there)


@pytest.mark.parametrize("name", ["format", "world"])
def test_a_package_of_another_version_is_refused(run, packed, tmp_path, name):
  there = copy_of(packed, tmp_path)
  rewrite(there, lambda m: m.update({name: "else"}))
  with pytest.raises(UserError, match=f"of {name} else.*config.init_from"):
    package.check(run[0], there)
  rewrite(there, lambda m: m.update(version="0.0.7"))
  with pytest.raises(UserError, match=r"made by version 0\.0\.7"):
    package.check(run[0], there)


def test_a_name_is_not_taken_for_a_path_that_leads_to_it(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "tiny").mkdir()
  assert package.find("tiny").parent.name == "assets"
  with pytest.raises(UserError, match=r"no packaged model \./tiny"):
    package.find("./tiny")


def test_a_changed_byte_is_noticed(run, packed, tmp_path):
  there = copy_of(packed, tmp_path)
  data = bytearray((there / package.WEIGHTS).read_bytes())
  data[-5] ^= 1
  (there / package.WEIGHTS).write_bytes(data)
  with pytest.raises(UserError, match="is not what manifest"):
    package.load(run[0], make_policy(run[0]), there)
  (there / package.WEIGHTS).write_bytes(data[:100])
  with pytest.raises(UserError, match="can't be read"):
    package.load(run[0], make_policy(run[0]), there)


def test_other_tensors_are_named(run, packed, tmp_path):
  there, config = copy_of(packed, tmp_path), run[0]
  arrays = safetensors.load((there / package.WEIGHTS).read_bytes())
  name = sorted(arrays)[0]
  arrays[name] = arrays[name][..., :-1]
  data = safetensors.save(arrays)
  (there / package.WEIGHTS).write_bytes(data)
  rewrite(there, lambda m: m.update(sha256=package.digest(data)))
  with pytest.raises(UserError, match=f"does not fit this model: {name} is"):
    package.load(config, make_policy(config), there)


@pytest.mark.parametrize("name", ["model.safetensors", *text_files.KEPT])
def test_it_writes_over_no_other_folder_s_files(run, tmp_path, name):
  (tmp_path / name).write_text("of another model")
  with pytest.raises(UserError, match=rf"no package, and has a {name} that"):
    package.pack(tmp_path / "unread", tmp_path)
  assert [each.name for each in tmp_path.iterdir()] == [name]
  assert (tmp_path / name).read_text() == "of another model"


def test_the_folder_to_write_is_named_and_its_tilde_expanded(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setenv("HOME", str(tmp_path))
  asked = []

  def pack(workdir, out):
    asked.append(out)
    out.mkdir()
    (out / package.WEIGHTS).write_bytes(b"")
    return {"parameters": 0}

  monkeypatch.setattr(package, "pack", pack)
  assert package.main(["--workdir=a", "--out=~/packed"]) == 0
  assert asked == [tmp_path / "packed"]
  monkeypatch.undo()
  assert package.main(["--workdir=a", "--out="]) == 2
  assert "--out is empty" in capsys.readouterr().err


def test_an_unfinished_run_is_not_packed(run, tmp_path, capsys):
  here = workdir.prepare(run[0], tmp_path / "c")
  assert package.main([f"--workdir={here}", f"--out={tmp_path / 'd'}"]) == 2
  assert "has no finished tokenizer" in capsys.readouterr().err
  assert not (tmp_path / "d").exists()


def test_it_answers_about_a_picture(packed, run, tmp_path, capsys):
  rng = np.random.default_rng(0)
  photo = tmp_path / "photo.png"
  picture = rng.integers(0, 256, (40, 70, 3), np.uint8)  # not square
  Image.fromarray(picture).save(photo)
  asked = [f"--image={photo}", "How far is the ball?", "Count the cans."]
  asked.append(f"--out={tmp_path / 'answer.png'}")
  mode = "--mode=both" if run[0].sampling.maps > 1 else "--mode=depth"
  assert ask.main([*asked, f"--package={packed}", mode]) == 0
  said = capsys.readouterr().out
  assert "How far is the ball?" in said and "draws:  depth" in said
  for number in (1, 2):
    with Image.open(tmp_path / f"answer-{number}.png") as drawn:
      assert drawn.width > 2 * 490  # the picture, seven times, and a map
  # The same policy, from the workdir that it was packed of.
  assert ask.main([*asked, f"--workdir={run[1]}", mode]) == 0
  again = capsys.readouterr().out
  assert again.splitlines()[1:] == said.splitlines()[1:]


def test_it_answers_about_a_scene(packed, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  words = [f"--package={packed}", "--scene=4", "--mode=direct"]
  assert ask.main([*words, "--all"]) == 0
  said = capsys.readouterr().out
  drawn = sorted(path.name for path in tmp_path.glob("runs/ask/*.png"))
  asked = said.count("  true:   ")
  assert len(drawn) == asked > 1 and drawn[0].startswith("scene-4-")


@pytest.mark.ci
def test_the_packaged_model_fits_this_version_and_sees():
  """What configs/grpo.py starts from: small, whole, and it draws depth."""
  folder = package.find("tiny")
  size = sum(path.stat().st_size for path in folder.iterdir())
  assert size <= 12e6
  config = grpo.get_config()
  manifest = package.check(config, folder)
  for stage in package.STAGES:
    made = manifest["made"][stage]
    assert made["hours"] > 0
  policy = make_policy(config)
  codecs, params = package.load(config, policy, folder)
  world = DataConfig.from_config(config).world
  samples = list(generate(world, split="test", start=0, count=16))
  scores = stage_scores.score_maps(
    policy, params, samples, codecs, {"batch": 16, "buckets": (96,)}
  )
  # Far from the best constant map, which is .5 off and overlaps by a tenth.
  assert scores["depth"]["abs_rel"] < 0.15
  assert scores["segmentation"]["miou"] > 0.5
