"""What maps may hold is set by a run, and kept with what was trained on it."""

import copy
import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from cooper_jax import modalities, package
from cooper_jax.data import fitting
from cooper_jax.errors import UserError
from cooper_jax.grading.map_quality import map_quality, mean_quality
from cooper_jax.modalities import class_lists, depth, segmentation
from cooper_jax.rollouts.response import DrawnMap, Responses
from cooper_jax.stages import tokenizer
from cooper_jax.tokenizers import map_tokenizer
from cooper_jax.training import json_files, settings_version, workdir

FAR = {"nearest": 0.5, "farthest": 80.0, "least_valid": 0.1}


def config_of(**changes):
  config = base.get_base("smoke", ("tokenizer",)).copy_and_resolve_references()
  config.unlock()
  config.data.update(image_size=16)
  config.model.map_grid = 4
  config.tokenizer.network.update(
    width=8, blocks=1, fine_width=4, fine_blocks=0
  )
  config.update_from_flattened_dict(changes)
  modalities.note(config)
  return config.lock()


def test_as_it_stands_a_modality_is_its_module():
  assert modalities.of(config_of()) == modalities.found()
  assert modalities.set_up("depth", depth.Config()) is depth
  assert modalities.set_up("segmentation", {"classes": "world"}) is segmentation
  assert modalities.settings_in(depth) == {}


def test_the_default_is_what_it_was_before_there_were_settings():
  # The formulas as they stood with constants: every bit is the same.
  rng = np.random.default_rng(0)
  metres = rng.uniform(0, 30, (2, 8, 8)).astype(np.float32)
  span = float(np.log(20.0 / 0.2))
  before = 2.0 * jnp.log(jnp.clip(metres, 0.2, 20.0) / 0.2) / span - 1.0
  np.testing.assert_array_equal(depth.to_log(metres), before)
  classes = rng.choice([*range(14), 255], (2, 8, 8)).astype(np.uint8)
  outputs = rng.normal(size=(2, 8, 8, 14)).astype(np.float32)
  log_prob = jax.nn.log_softmax(outputs)
  surprise = -jnp.sum(jax.nn.one_hot(classes, 14) * log_prob, -1)
  weight = jnp.where(classes >= 4, 2.0, 1.0) * (classes != 255)
  total, count = segmentation.loss(outputs, classes)
  np.testing.assert_array_equal(total, jnp.sum(surprise * weight))
  np.testing.assert_array_equal(count, jnp.sum(weight))


def test_a_set_up_modality_is_static_and_travels():
  far = modalities.set_up("depth", FAR)
  again = modalities.set_up("depth", dict(FAR))
  assert far == again and hash(far) == hash(again) and far != depth
  assert pickle.loads(pickle.dumps(far)) == copy.deepcopy(far) == far
  calls = []

  @jax.jit
  def traced(x):
    calls.append(1)
    return far.to_log(x)

  np.testing.assert_allclose(traced(jnp.array([0.5, 80.0])), [-1, 1], atol=1e-6)
  codec = map_tokenizer.Codec(far, None, None)
  assert dataclasses.replace(codec) == map_tokenizer.Codec(again, None, None)


def test_depth_reaches_as_far_as_it_is_set():
  far = modalities.set_up("depth", FAR)
  metres = jnp.array([0.6, 5.0, 60.0])
  np.testing.assert_allclose(
    far.from_log(far.to_log(metres)), metres, rtol=1e-5
  )
  # As it stands, 60 m is drawn at 20.
  np.testing.assert_allclose(depth.from_log(depth.to_log(metres))[2], 20, 1e-5)
  outputs = jnp.full((1, 1, 1, 4), 9.0)
  assert float(far.from_output(outputs)[0, 0, 0]) == pytest.approx(80.0, 1e-5)
  wrong = far.corrupt(
    np.full((4, 4), 70.0, np.float32), np.random.default_rng(0)
  )
  assert wrong.max() <= 80.0 + 1e-4
  assert far.facts() == {"nearest": 0.5, "farthest": 80.0}


@pytest.mark.parametrize("name", ["depth", "segmentation"])
def test_a_padded_map_earns_what_it_would_without_the_padding(name):
  rng = np.random.default_rng(2)
  module = modalities.set_up(name)
  true = rng.integers(1, 14, (20, 60)).astype(np.uint8)
  true = true.astype(np.float32) if name == "depth" else true
  for whole in (true, true.T):
    placed = fitting.place("pad", whole.shape[::-1], 32)
    padded = placed.array(whole, module.fill())
    assert module.quality(padded, padded) == 1.0
  # A fifth of the picture is too little, padded or not.
  true[rng.random(true.shape) < 0.8] = module.fill()
  padded = fitting.place("pad", (60, 20), 32).array(true, module.fill())
  assert np.isnan(module.quality(padded, padded))
  assert np.isnan(module.quality(true, true))


def test_sparse_readings_earn_a_reward_where_a_fifth_is_enough():
  rng = np.random.default_rng(1)
  true = rng.uniform(5, 60, (16, 16)).astype(np.float32)
  true[rng.random((16, 16)) < 0.8] = 0  # as KITTI
  far = modalities.set_up("depth", FAR)
  assert np.isnan(depth.quality(true, true)) and far.quality(true, true) == 1.0
  assert np.isnan(far.quality(true, np.zeros_like(true)))
  drawn = DrawnMap("depth", np.zeros(4, int), true, far)
  view = Responses.from_texts(["", ""], maps=[(drawn,), (drawn[:3],)[:0]])
  assert map_quality(view, {"depth": [true, true]})[0, 0] == 1.0
  assert mean_quality(view, {"depth": [true, true]}, "depth")[0] == 1.0
  plain = drawn._replace(set_up=None)
  view = Responses.from_texts([""], maps=[(plain,)])
  assert np.isnan(map_quality(view, {"depth": [true]})[0, 0])


@pytest.mark.parametrize(
  ("name", "given", "said"),
  [
    (
      "depth",
      {"nearest": 0.0},
      "nearest=0 and farthest=20: allowed are metres",
    ),
    ("depth", {"nearest": 30.0}, "the farthest at least a tenth beyond"),
    ("depth", {"farthest": 1e6}, "farthest=1e.06: allowed is less than 65504"),
    ("depth", {"least_valid": -1.0}, "least_valid=-1: allowed are 0 to 1"),
    ("depth", {"farest": 9.0}, "config.maps.depth: .*farest"),
    ("segmentation", {"classes": "ade20"}, "class list ade20 .*ade20k"),
  ],
)
def test_settings_that_can_not_be_are_refused(name, given, said):
  with pytest.raises(UserError, match=said):
    modalities.set_up(name, given)


@pytest.mark.ci
def test_tokenizers_are_as_wide_as_the_list_and_draw_its_classes():
  config = config_of(**{"maps.segmentation.classes": "ade20k"})
  assert len(config.maps.segmentation.names) == 151
  modules = tokenizer.find_modules(config)
  configs = tokenizer.make_configs(config, modules)
  wide = configs["segmentation"]
  assert wide.channels == wide.outputs == 151
  params = tokenizer.init_params(configs, jax.random.key(0))
  codec = tokenizer.codecs(configs, modules, params)["segmentation"]
  true = np.random.default_rng(0).integers(1, 151, (2, 16, 16)).astype(np.uint8)
  drawn, _ = map_tokenizer.redraw_maps(codec, true)
  assert drawn.shape == true.shape and drawn.dtype == np.uint8
  scores = codec.modality.metrics(codec.modality.statistics(drawn, true))
  assert 0 <= scores["miou"] < 0.2 and f"iou/{'coffee table'}" in scores
  facts = tokenizer.over(modules)
  assert facts["tokenizer/over/segmentation/classes_counted"] == 150
  assert facts["tokenizer/over/segmentation/class_0_counted"] == 0
  assert facts["tokenizer/over/depth/farthest"] == 20.0


def test_a_run_that_meets_another_range_or_list_is_refused(tmp_path):
  workdir.begin(config_of(), tmp_path, "tokenizer")
  workdir.check(config_of(), tmp_path)
  said = r"maps.depth.farthest is 20.0 there and 80.0 here"
  with pytest.raises(UserError, match=said):
    workdir.check(config_of(**{"maps.depth.farthest": 80.0}), tmp_path)
  with pytest.raises(UserError, match=r"least_valid is 0.5 there and 0.1 here"):
    workdir.check(config_of(**{"maps.depth.least_valid": 0.1}), tmp_path)
  with pytest.raises(UserError, match="names has 0 entries there and 151 here"):
    workdir.check(
      config_of(**{"maps.segmentation.classes": "ade20k"}), tmp_path
    )


def test_a_list_is_known_by_its_lines_not_by_its_file(tmp_path):
  one, other = tmp_path / "a.txt", tmp_path / "b.txt"
  for path in (one, other):
    path.write_text("ground [room]\ncup\nmug\n")
  made = config_of(**{"maps.segmentation.classes": str(one)})
  workdir.begin(made, tmp_path / "run", "tokenizer")
  moved = config_of(**{"maps.segmentation.classes": str(other)})
  workdir.check(moved, tmp_path / "run")
  other.write_text("ground [room]\ncup\njug\n")
  changed = config_of(**{"maps.segmentation.classes": str(other)})
  with pytest.raises(UserError, match=r"names is .*'mug'.*there and .*'jug'"):
    workdir.check(changed, tmp_path / "run")
  # What a run's config has noted holds, whatever became of the file.
  one.unlink()
  saved = workdir.to_config(json_files.plain(made))
  found = modalities.of(saved)["segmentation"]
  assert segmentation.listed(found.config).names == ("ground", "cup", "mug")


def test_a_copy_of_the_worlds_list_is_the_worlds_list(tmp_path):
  (tmp_path / "mine.txt").write_text("\n".join(class_lists.read("world").lines))
  which = {"maps.segmentation.classes": str(tmp_path / "mine.txt")}
  config = config_of(**which)
  assert config.maps.segmentation.classes == "world"
  assert modalities.of(config)["segmentation"] is segmentation


def test_names_that_are_set_and_not_those_of_the_list_are_refused():
  names = ("ground", "cup")
  with pytest.raises(UserError, match=r"segmentation: names is set.*not set"):
    config_of(**{"maps.segmentation.names": names})
  ade = config_of(**{"maps.segmentation.classes": "ade20k"})
  before = ade.maps.segmentation.names
  modalities.note(ade.unlock())  # again: the same
  assert ade.maps.segmentation.names == before


def test_packages_are_refused_by_the_name_of_what_differs():
  folder = package.find("tiny")
  same = base.get_base("tiny", ("evaluate",))
  package.check(same, folder)
  far = same.copy_and_resolve_references()
  far.maps.depth.farthest = 80.0
  with pytest.raises(UserError, match=r"farthest is 20.0 there and 80.0 here"):
    package.check(far, folder)
  other = same.copy_and_resolve_references()
  other.maps.segmentation.classes = "nyu40"
  modalities.note(other)
  with pytest.raises(UserError, match="names has 0 entries there and 41 here"):
    package.check(other, folder)
  padded = same.copy_and_resolve_references()
  padded.data.fit = "pad"
  with pytest.raises(UserError, match=r"data.fit is squash there and pad here"):
    package.check(padded, folder)


def test_older_runs_have_the_range_that_there_was():
  saved = json_files.plain(config_of())
  del saved["maps"]
  config = workdir.to_config(saved)
  assert modalities.of(config) == modalities.found()
  assert config.maps.depth.farthest == 20.0
  there, here = (
    {"seed": 0},
    json_files.flat({"maps": json_files.plain(config.maps)}),
  )
  one, other = settings_version.paired(there, here)
  assert {n: one[n] for n in here} == {n: other[n] for n in here}


def test_the_world_is_read_with_the_ids_of_another_list():
  lines = ["sky [room]", *reversed(class_lists.read("world").lines)]
  other = modalities.set_up("segmentation", {"names": tuple(lines)})
  table = other.renumber(segmentation.CLASSES)
  assert [other.legend([np.array([i])])[0][1] for i in table] == list(
    segmentation.CLASSES
  )
  assert segmentation.renumber(segmentation.CLASSES) is None
  # What a list ignores is ignored of the world's maps too.
  plain = class_lists.read("world").lines
  for place in (3, 5):
    lines = [f"{line.split(' [')[0]} [ignore]" if i == place else line
             for i, line in enumerate(plain)]  # fmt: skip
    other = modalities.set_up("segmentation", {"names": tuple(lines)})
    expected = [255 if i == place else i for i in range(14)]
    assert other.renumber(segmentation.CLASSES).tolist() == expected
  ade = modalities.set_up("segmentation", {"classes": "ade20k"})
  with pytest.raises(UserError, match="ade20k has no background, can, cone"):
    ade.renumber(segmentation.CLASSES)
