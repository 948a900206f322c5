"""Image tokenizers of others stand in for those that are trained here."""

import json

import jax
import numpy as np
import pytest

from cooper_jax import modalities, package, plugins, policy
from cooper_jax.errors import UserError
from cooper_jax.modalities import colour_codes
from cooper_jax.parallel import mesh, shard
from cooper_jax.stages import tokenizer
from cooper_jax.tokenizers import map_tokenizer, picture_tokenizer
from cooper_jax.training import workdir
from cooper_jax.training.checkpoint import Checkpoints
from cooper_jax.weights import folder, importing, picture_codes
from tests.weights import released_codes, starts

VQ16, EMU3 = released_codes.CASES
DEPTH, CLASSES = modalities.names()
FOUR = {"channel_multiplier": [1, 1, 1, 1]}  # a code is of 8 x 8 pixels
SIZES = {
  VQ16: FOUR,
  EMU3: FOUR | {"hidden_size": 32, "attn_resolutions": []},
}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
  path = tmp_path_factory.mktemp("hub")
  for name, changes in SIZES.items():
    released_codes.write_weights(path / name, name, **changes)
  return path


def made(here, work, changes=None, pipeline=("tokenizer", "pretrain")):
  named = {
    f"init.tokenizer.{DEPTH}": str(here / VQ16),
    f"init.tokenizer.{CLASSES}": str(here / EMU3),
  }
  return starts.make(work, named | (changes or {}), pipeline=pipeline)


def run(config, work, *stages):
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    for stage in stages:
      plugins.find("stages", stage).run(config, work)


def assert_same_codes(codec, path, targets):
  """A codec gives the codes that the network of its folder gives."""
  planned = importing.plan(folder.open_folder(path))
  pictures = codec.modality.to_colours(targets)
  wanted = picture_codes.run(
    picture_codes.tree(importing.read(planned)),
    pictures,
    config=planned.sizes[picture_codes.SIZES],
    method="encode",
  )
  codes = map_tokenizer.encode_maps(codec, targets)
  np.testing.assert_array_equal(codes, np.reshape(wanted, codes.shape))


def metres(count):
  """Maps [n, 64, 64] of depth."""
  rng = np.random.default_rng(0)
  return rng.uniform(0.3, 15, (count, 64, 64)).astype(np.float32)


@pytest.mark.ci
def test_what_is_imported_is_kept_for_later_stages(here, tmp_path, capsys):
  config = made(here, tmp_path)
  assert config.model.map_grid == 8
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    tokenizer.imported(config, tmp_path / "tokenizer")
    said = capsys.readouterr().out
    assert f"{DEPTH}: 30 codes of {here / VQ16}; there is nothing" in said
    assert f"{CLASSES}: 30 codes of {here / EMU3}; there is nothing" in said
    for name in (DEPTH, CLASSES):  # which need no folder
      config.init.tokenizer[name] = ""
    codecs = tokenizer.load(config, tmp_path)
    spoken = policy.make_policy(config)
    tokenizer.imported(config, tmp_path / "tokenizer")  # nor does it, again
  assert capsys.readouterr().out == ""
  assert spoken.form.model.codes == 30 and spoken.form.model.digits == ()
  assert_same_codes(codecs[DEPTH], here / VQ16, metres(1))


@pytest.mark.slow
def test_both_are_imported_and_a_stage_learns_to_draw_their_codes(
  here, tmp_path, capsys
):
  config = made(here, tmp_path)
  workdir.prepare(config, tmp_path)
  config.pretrain.steps = 1
  run(config, tmp_path, "tokenizer")
  said = capsys.readouterr().out
  assert said.count("there is nothing to train") == 2
  assert "train longer" not in said
  summary = json.loads((tmp_path / "summary.json").read_text())
  for key in ("abs_rel", "usage"):
    assert np.isfinite(summary[f"{DEPTH}/tokenizer_{key}"])
  assert 0 < summary[f"{CLASSES}/tokenizer_miou"] < 1
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    codecs = tokenizer.load(config, tmp_path)
  assert_same_codes(codecs[DEPTH], here / VQ16, metres(3))
  run(config, tmp_path, "pretrain")
  assert (tmp_path / "pretrain/checkpoints/1").is_dir()


@pytest.mark.slow
def test_one_may_be_imported_and_the_other_trained(here, tmp_path, capsys):
  changes = {
    f"init.tokenizer.{CLASSES}": "",
    "tokenizer.network.levels": (2, 3, 5),
  }
  config = made(here, tmp_path, changes)
  run(config, tmp_path, "tokenizer")
  assert capsys.readouterr().out.count("there is nothing to train") == 1
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    codecs = tokenizer.load(config, tmp_path)
    spoken = policy.make_policy(config)
  assert codecs[CLASSES].config.codes == codecs[DEPTH].config.codes == 30
  # Codes of a book are in no order: they share no digits.
  assert spoken.form.model.code_levels == ()
  assert isinstance(
    codecs[DEPTH].config, picture_tokenizer.PictureTokenizerConfig
  )
  assert isinstance(codecs[CLASSES].config, map_tokenizer.MapTokenizerConfig)


def test_the_rule_of_codes_can_be_chosen(here, tmp_path):
  noted = [
    picture_tokenizer.networks(made(here, tmp_path, {"init.by_angle": each}))
    for each in (True, False)
  ]
  assert [each[DEPTH].by_angle for each in noted] == [True, False]


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({f"init.tokenizer.{CLASSES}": ""}, "trained here 1,000; modalities share"),
    ({"model.map_grid": 4}, "gives 8 codes a side for pictures of"),
    ({f"init.tokenizer.{DEPTH}": "gone"}, "gone is no folder"),
    ({"init_from": "tiny"}, "begins with a package"),
    (
      {"maps.segmentation.classes": "ade20k"},
      "classes, and pictures tell 27 colours apart",
    ),
    (
      {f"init.networks.{DEPTH}": '{"kind": "vqgan", "digest": "other"}'},
      "is not what this was begun with",
    ),
  ],
)
def test_what_cannot_be_is_named(changes, said, here, tmp_path):
  with pytest.raises(UserError) as caught:
    config = made(here, tmp_path, changes)
    modalities.note(config)
    modules = tokenizer.find_modules(config)
    tokenizer.make_configs(config, modules)
  assert said in str(caught.value) and "config." in str(caught.value)


def test_other_folders_are_no_image_tokenizers(here, tmp_path):
  starts.write_vision(tmp_path / "vision")
  with pytest.raises(UserError, match="is no image tokenizer; name a"):
    path = str(tmp_path / "vision")
    made(here, tmp_path, {f"init.tokenizer.{DEPTH}": path})
  with pytest.raises(UserError, match="name it as config"):
    made(here, tmp_path, {"init.text": str(here / VQ16)})


def test_depth_in_grey_comes_back():
  module = plugins.find("modalities", DEPTH)
  true = np.random.default_rng(0).uniform(0.2, 20, (2, 5, 7)).astype("f4")
  true[0, 1, 2] = 0
  pictures = module.to_colours(true)
  assert pictures.shape == (2, 5, 7, 3)
  assert np.abs(pictures).max() <= 1
  assert (np.ptp(np.asarray(pictures), axis=-1) == 0).all()
  noise = np.array([-0.1, 0.0, 0.1], np.float32)  # its mean is nothing
  found = np.asarray(module.from_colours(pictures + noise))
  assert found[0, 1, 2] == pytest.approx(20)  # no reading: the farthest
  known = true > 0
  np.testing.assert_allclose(found[known], true[known], rtol=1e-4)


@pytest.mark.parametrize("classes", [2, 14, 27])
def test_classes_in_colours_come_back(classes):
  colours = colour_codes.colours(classes)
  apart = np.abs(colours[:, None] - colours).sum(-1) + 9 * np.eye(classes)
  assert apart.min() >= (2 if classes <= 8 else 1)
  rng = np.random.default_rng(0)
  ids = rng.integers(0, classes, (2, 6, 5)).astype(np.uint8)
  ids[0, 0, 0] = 255
  pictures = np.asarray(colour_codes.of_ids(ids, classes))
  assert (pictures[0, 0, 0] == 0).all()
  noise = rng.uniform(-0.28, 0.28, pictures.shape)  # shorter than half a step
  found = np.asarray(colour_codes.nearest(pictures + noise, classes))
  known = ids != 255
  np.testing.assert_array_equal(found[known], ids[known])


def test_more_classes_than_colours_are_refused():
  with pytest.raises(UserError, match="28 classes, and pictures tell 27"):
    colour_codes.colours(28)


def test_parameters_made_elsewhere_are_kept_apart(here, tmp_path):
  """As a package's are: imported ones beside the checkpoints of the others."""
  changes = {
    f"init.tokenizer.{CLASSES}": "",
    "tokenizer.network.levels": (2, 3, 5),
  }
  config = made(here, tmp_path, changes)
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    modules = tokenizer.find_modules(config)
    configs = tokenizer.make_configs(config, modules)
    abstract = jax.eval_shape(
      lambda: tokenizer.init_params(configs, jax.random.key(0))
    )
    rng = np.random.default_rng(0)
    params = jax.tree.map(
      lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), abstract
    )
    tokenizer.keep(config, tmp_path / "tokenizer", params)
    codecs = tokenizer.load(config, tmp_path)
  for name, found in params.items():
    jax.tree.map(np.testing.assert_array_equal, codecs[name].params, found)
  assert (tmp_path / "tokenizer/imported").is_dir()


@pytest.mark.slow
def test_a_package_holds_them_and_a_run_begins_with_it(here, tmp_path, capsys):
  config = made(here, tmp_path, {"init.digests.text": ""}, package.STAGES)
  run_folder = workdir.prepare(config, tmp_path / "run")
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    spoken = policy.make_policy(config)
    params = shard.unbox(policy.init_params(spoken, jax.random.key(0)))
    for stage in package.STAGES:
      workdir.begin(config, run_folder, stage)
      if stage == "sft":
        saved = Checkpoints(run_folder / stage / "checkpoints")
        part = "ema" if config.sft.optim.ema_decay > 0 else "params"
        saved.save(3, {part: params}, data_state={}, meta={})
        saved.close()
      elif stage == "tokenizer":
        tokenizer.imported(config, run_folder / stage)
      workdir.finish(config, run_folder, stage, seconds=1.0)
    workdir.add_summary(run_folder, {"speed/sft/seconds": 1.0})
    codecs = tokenizer.load(config, run_folder)
    manifest = package.pack(run_folder, tmp_path / "packed")
  begun = manifest["config"]["init"]
  assert set(begun["tokenizer"].values()) == {""}
  assert begun["networks"] == dict(config.init.networks)
  # A run begins with the package, and needs no folder.
  asked = {"init_from": str(tmp_path / "packed")}
  other = starts.make(tmp_path, asked, (*package.STAGES, "grpo"))
  assert dict(other.init.networks) == dict(config.init.networks)
  there = workdir.prepare(other, tmp_path / "other")
  place = mesh.make_mesh(devices=jax.devices()[:1])
  package.install(other, there, place)
  with jax.set_mesh(place):
    again = tokenizer.load(other, there)
  for name, codec in codecs.items():
    jax.tree.map(
      np.testing.assert_array_equal, again[name].params, codec.params
    )
  # Trained tokenizers are no start for such a package.
  plain = starts.make(tmp_path, {}, package.STAGES)
  plain.init_from = str(tmp_path / "packed")
  with pytest.raises(UserError, match="networks"):
    package.check(plain, tmp_path / "packed")
