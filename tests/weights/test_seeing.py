"""Qwen2.5-VL and Qwen3-VL whole: what they give, out again, and refusals."""

import dataclasses
import importlib.util
import json
import shutil

import jax
import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.models import layers, patches, transformer, vision
from cooper_jax.models.config import VisionConfig
from cooper_jax.parallel import mesh
from cooper_jax.sequences import segments
from cooper_jax.weights import (
  convert,
  folder,
  importing,
  live,
  qwen_vl,
  rows_with_pictures,
  text_model,
  verify,
  vision_model,
)
from tests.weights import released, released_seeing
from tests.weights.test_convert import stored

own_axes = layers.turning_axes
NOT_HERE = [
  name
  for name in ("torch", "transformers") if not importlib.util.find_spec(name)
]  # fmt: skip
NEWER, OLDER = "qwen3_vl", "qwen2_5_vl"
PICTURES = {NEWER: ["features", "deepstack_0", "deepstack_1"]}
PICTURES[OLDER] = ["features"]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
  """Folders of both; gives their path and their tensors."""
  path = tmp_path_factory.mktemp("hub")
  made = {
    name: released_seeing.write(path / name, name)
    for name in released_seeing.CASES
  }
  return path, made


@pytest.fixture(scope="module")
def older(here):
  planned = importing.plan(folder.open_folder(here[0] / OLDER))
  model = text_model.make_model(text_model.make_config(planned.sizes))
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    return model, text_model.fill(model, importing.read(planned))


@pytest.mark.ci
@pytest.mark.parametrize("name", released_seeing.CASES)
def test_every_family_gives_what_its_rules_give(name, here, capsys):
  assert verify.main([str(here[0] / name)]) == 0
  said = capsys.readouterr().out.splitlines()
  found = [line.partition(":")[0] for line in said if ": max diff" in line]
  assert found == [*PICTURES[name], "position", "logits", "text logits"]
  assert "position: max difference 0" in said
  assert "not compared:" not in "\n".join(said)


@pytest.mark.parametrize("name", released_seeing.CASES)
def test_what_comes_out_is_what_went_in(name, here, tmp_path, capsys):
  path, made = here
  assert convert.main([f"--from={path / name}", f"--to={tmp_path / 'b'}"]) == 0
  assert stored(path / name) == stored(tmp_path / "b")
  assert stored(tmp_path / "b").keys() == made[name].keys()
  said = capsys.readouterr().out
  assert "blocks.{0..3}.attn.qkv.weight (2 of 3)" in said
  stacked = "deepstack_merger_list.{0..1}.norm.weight"
  assert (stacked in said) == (name == NEWER)


# Of the changes those that the default suite has; a start of a name will do.
BY_DEFAULT = ("chunked", "without ", "plain positions")


def some_slow(changes):
  """The names of changes, the others marked as slow."""
  slow = pytest.mark.slow
  return [
    name if name.startswith(BY_DEFAULT) else pytest.param(name, marks=slow)
    for name in changes
  ]


def plain(_, height, width):
  """A picture's cells one after the other, as text has its positions."""
  at = np.arange(height * width)
  return segments.ImageLayout(at, at, at, height * width)


def chunked(sections, interleaved):
  return own_axes(sections, not interleaved)


def no_turns(row, column, *, head_dim, theta):
  del column, theta
  return np.zeros((*row.shape, head_dim // 2), np.float32)


def nearest(place, size, side):
  at = place * side // size
  return 2 * ((at, 0.5 + 0 * at),)


# Change -> (folder, what is replaced and by what, what differs first).
CHANGES = {
  "chunked turns": (NEWER, (layers, "turning_axes", chunked), "logits"),
  "interleaved turns": (OLDER, (layers, "turning_axes", chunked), "logits"),
  "without DeepStack": (
    NEWER,
    (transformer, "_deep_of", lambda *_: 0.0),
    "logits",
  ),
  "without windows": (
    OLDER,
    (patches, "same_window", lambda *_: np.ones((1, 1, 1), bool)),
    "features",
  ),
  "plain positions": (NEWER, (segments, "image_layout", plain), "position"),
  "also plain positions": (
    OLDER,
    (segments, "image_layout", plain),
    "position",
  ),
  "a tower that does not turn": (
    NEWER,
    (layers, "tower_angles", no_turns),
    "features",
  ),
  "tanh": (
    OLDER,
    (vision.nn, "gelu", lambda x, approximate: vision.nn.tanh(x)),
    "features",
  ),
  "a table by its middles": (
    NEWER,
    (patches, "_neighbours", nearest),
    "features",
  ),
}


@pytest.mark.ci
@pytest.mark.parametrize("name", some_slow(CHANGES))
def test_another_rule_is_seen(name, here, monkeypatch, capsys):
  case, (where, what, other), first = CHANGES[name]
  monkeypatch.setattr(where, what, other)
  assert verify.main([str(here[0] / case)]) == 1
  assert capsys.readouterr().out.splitlines()[-1] == f"differs first in {first}"


def swap(one, other):
  def change(_, tensors):
    tensors[one], tensors[other] = tensors[other], tensors[one]

  return change


def thirds(_, tensors):
  key = "model.visual.blocks.1.attn.qkv.weight"
  tensors[key] = np.roll(tensors[key], released_seeing.WIDE, axis=0)


MERGERS = "model.visual.deepstack_merger_list.{}.norm.weight"
# Change of (config, tensors) of Qwen3-VL -> what differs first.
FOLDER_CHANGES = {
  "theta": (
    lambda c, _: c["text_config"]["rope_parameters"].update(rope_theta=800.0),
    "logits",
  ),
  "the tower's theta": (
    lambda c, _: c["vision_config"]["rope_parameters"].update(rope_theta=40.0),
    "features",
  ),
  "sections": (
    lambda c, _: c["text_config"]["rope_parameters"].update(
      mrope_section=[4, 4, 4]
    ),
    "logits",
  ),
  "stacked layers": (
    lambda c, _: c["vision_config"].update(deepstack_visual_indexes=[0, 1]),
    "deepstack_1",
  ),
  "mergers": (swap(MERGERS.format(0), MERGERS.format(1)), "deepstack_0"),
  "queries, keys and values": (thirds, "features"),
  "a bias": (
    lambda _, t: t["model.visual.merger.linear_fc1.bias"].fill(0),
    "features",
  ),
}


def changed(here, path, name, change):
  """The folder of a case in one file, changed; with the io.npz it had."""
  path = shutil.copytree(here[0] / name, path)
  tensors = {key: array.copy() for key, array in here[1][name].items()}
  config = json.loads((path / "config.json").read_text("utf-8"))
  for file in path.glob("model*"):
    file.unlink()
  change(config, tensors)
  released.write_json(path / "config.json", config)
  released.write_tensors(path, tensors)
  return path


@pytest.mark.parametrize("name", some_slow(FOLDER_CHANGES))
def test_a_change_of_a_folder_is_seen(name, here, tmp_path, capsys):
  change, first = FOLDER_CHANGES[name]
  path = changed(here, tmp_path / "a", NEWER, change)
  assert verify.main([str(path)]) == 1
  assert capsys.readouterr().out.splitlines()[-1] == f"differs first in {first}"


@pytest.mark.skipif(bool(NOT_HERE), reason=f"not installed: {NOT_HERE}")
@pytest.mark.parametrize("name", released_seeing.CASES)
def test_it_is_what_its_class_of_transformers_is(name, here, tmp_path, capsys):
  path = shutil.copytree(here[0] / name, tmp_path / "a")
  (path / "io.npz").unlink()
  assert verify.main([str(path), "--live"]) == 0
  said = capsys.readouterr().out
  for each in ("features", "position", "logits", "hidden 1"):
    assert f"live {each}: max difference" in said


def test_its_class_is_run_on_pictures_where_that_is_asked_for(
  here, tmp_path, monkeypatch, capsys
):
  """In the place of the class are the rules in numpy."""
  path = shutil.copytree(here[0] / NEWER, tmp_path / "a")
  given = verify.expected(path)
  text = {"logits": given["text_logits"]}
  np.savez(path / "io.npz", **{k: given[k] for k in given if "text" in k})
  given["features"] += 1e-3
  monkeypatch.setattr(live, "run_pictures", lambda *_: given)
  monkeypatch.setattr(live, "run", lambda *_: text)
  monkeypatch.setattr(text_model, "run", lambda *_: (text["logits"], None))
  assert verify.main([str(path), "--live"]) == 1
  assert capsys.readouterr().out.endswith("first in live features\n")
  sizes = importing.plan(folder.open_folder(path)).sizes
  row = live._row(released_seeing.NEWER, sizes)
  np.testing.assert_array_equal(row["ids"] == 3, row["kind"] == 1)


def of_vision(**changes):
  return lambda config, _: config["vision_config"].update(changes)


REFUSED = {
  "act": (NEWER, of_vision(hidden_act="gelu"), "hidden_act is 'gelu'"),
  "unknown": (NEWER, of_vision(registers=4), "vision_config: registers is 4"),
  "films": (NEWER, of_vision(in_channels=4), "in_channels is 4"),
  "out": (NEWER, of_vision(out_hidden_size=40), "the decoder has 48 channels"),
  "stacked": (
    NEWER,
    of_vision(deepstack_visual_indexes=[0, 4]),
    "deepstack_visual_indexes is [0, 4]; there are 4 layers",
  ),
  "order": (
    NEWER,
    of_vision(deepstack_visual_indexes=[2, 0]),
    "allowed: layers from 0 on, in order",
  ),
  "table": (NEWER, of_vision(num_position_embeddings=24), "allowed: squares"),
  "rope": (
    NEWER,
    of_vision(rope_parameters={"rope_type": "yarn"}),
    "rope_type is 'yarn'; allowed: axial",
  ),
  "tower": (NEWER, of_vision(model_type="qwen2_vl"), "that is another tower"),
  "heads": (NEWER, of_vision(num_heads=4), "heads of a multiple of 4"),
  "window": (OLDER, of_vision(window_size=5), "a cell has 6 pixels"),
  "wide": (OLDER, of_vision(window_size=2**40), "allowed: 6 to 1,048,576"),
  "patch": (OLDER, of_vision(spatial_patch_size=4), "spatial_patch_size is 4"),
  "sections": (
    OLDER,
    lambda c, _: c["rope_scaling"].update(mrope_section=[4, 4, 2]),
    "mrope_section is [4, 4, 2]; half a head has 12 channels",
  ),
  "interleaved": (
    OLDER,
    lambda c, _: c["rope_scaling"].update(mrope_interleaved=True),
    "mrope_interleaved is True",
  ),
  "no tower": (OLDER, lambda c, _: c.pop("vision_config"), "vision_config is"),
  "key": (
    NEWER,
    lambda _, t: t.update({"model.visual.spare": np.ones(2, "f4")}),
    "has model.visual.spare, which the family qwen3_vl does not know",
  ),
  "lack": (
    NEWER,
    lambda _, t: t.pop("model.visual.deepstack_merger_list.1.norm.bias"),
    "lacks model.visual.deepstack_merger_list.1.norm.bias",
  ),
  "shape": (
    OLDER,
    of_vision(intermediate_size=21),
    "mlp.gate_proj.weight has shape [20, 24], by",
  ),
  "frames": (OLDER, of_vision(temporal_patch_size=1), "by"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_read_is_refused_in_a_line(
  name, here, tmp_path, capsys
):
  case, change, said = REFUSED[name]
  path = changed(here, tmp_path / "a", case, change)
  assert convert.main([f"--from={path}", f"--to={tmp_path / 'b'}"]) == 2
  error = capsys.readouterr().err
  assert said in error and error.count("\n") == 1
  assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (lambda a: a["grid_thw"].__setitem__((0, 0), 2), "has films"),
    (lambda a: a["grid_thw"].__setitem__((0, 1), 5), "2 x 2 patches don't"),
    (lambda a: a["kind"].fill(0), "more pictures than kind"),
    (lambda a: a["kind"].fill(1), "kind has"),
    (lambda a: a.update(grid_thw=a["grid_thw"][:2]), "more pictures than grid"),
    (lambda a: a.update(patches=a["patches"][:-1]), "patches is [55, 54]"),
    (lambda a: a["ids"].fill(40), "allowed: 0 to 39"),
    (lambda a: a.update(deepstack_0=a["features"]), "has deepstack_0, and"),
  ],
)
def test_what_is_expected_must_fit(change, said, here, older):
  arrays = verify.expected(here[0] / OLDER)
  change(arrays)
  with pytest.raises(UserError) as error:
    rows_with_pictures.compare(*older, vision_model.Expected(arrays))
  assert said in str(error.value) and "\n" not in str(error.value)


def test_half_of_a_model_can_be_taken(here):
  opened = folder.open_folder(here[0] / NEWER)
  whole = importing.plan(opened)
  halves = {only: importing.plan(opened, only) for only in ("text", "vision")}
  assert halves["text"].keys | halves["vision"].keys == whole.keys
  assert not halves["text"].keys.keys() & halves["vision"].keys.keys()
  assert halves["vision"].sizes == {"vision": whole.sizes["vision"]}
  assert "vision" not in halves["text"].sizes
  for planned in halves.values():
    keys = {key for each in planned.keys.values() for key in each}
    assert keys | set(planned.carried) == opened.tensors.keys()


def test_the_processor_says_what_the_colours_are(here, tmp_path):
  said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]}
  path = changed(here, tmp_path / "a", OLDER, lambda *_: None)
  opened = folder.open_folder(path)
  vision = importing.plan(opened).sizes["vision"]
  assert vision["mean"] == qwen_vl.CLIP_MEAN
  released.write_json(path / qwen_vl.PROCESSOR, said)
  vision = importing.plan(opened).sizes["vision"]
  assert vision["mean"] == (0.1, 0.2, 0.3)
  assert vision["deviation"] == (1.0, 2.0, 3.0)
  for change, why in (
    ({"patch_size": 14}, "patch_size is 14; .* has 3; one of them"),
    ({"image_mean": "no"}, "image_mean is 'no'; allowed: three numbers"),
  ):
    released.write_json(path / qwen_vl.PROCESSOR, said | change)
    with pytest.raises(UserError, match=why):
      importing.plan(opened)


def test_colours_are_less_their_mean_by_their_deviation():
  image = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), np.uint8)
  config = VisionConfig(4, patch=4, stem="linear")
  half = patches.normalised(image, config, "float32")
  np.testing.assert_array_equal(half, image / np.float32(127.5) - 1)
  config = dataclasses.replace(
    config, mean=(0.4, 0.5, 0.6), deviation=(0.2, 0.3, 0.4)
  )
  found = patches.normalised(image, config, "float32")
  wanted = (image / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.3, 0.4]
  np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_which_frequency_turns_with_which_axis():
  found = layers.turning_axes((1, 2, 2), False)
  assert found.tolist() == [0, 1, 1, 2, 2]
  # Qwen3-VL's own, by its class: h at 1, 4, .. 58, w at 2, 5, .. 59.
  found = layers.turning_axes((24, 20, 20), True)
  assert np.flatnonzero(found == 1).tolist() == [*range(1, 60, 3)]
  assert np.flatnonzero(found == 2).tolist() == [*range(2, 60, 3)]
