"""Towers and BAGEL: what they give, in and out again, and what is refused."""

import json

import numpy as np
import pytest
import safetensors.numpy

from cooper_jax.models import vision
from cooper_jax.weights import bagel, convert, folder, importing, verify
from tests.weights import released, released_pictures
from tests.weights.test_convert import stored

BAGEL = "bagel"


def write(path, name):
  if name == BAGEL:
    return released_pictures.write_bagel(path)
  return released_pictures.write(path, name)


@pytest.mark.ci
@pytest.mark.parametrize("name", [*released_pictures.CASES, BAGEL])
def test_every_family_gives_what_its_rules_give(name, tmp_path, capsys):
  write(tmp_path / "a", name)
  assert verify.main([str(tmp_path / "a")]) == 0
  said = capsys.readouterr().out
  wanted = ["hidden 0", "hidden 1", "last_hidden_state"]
  if name == BAGEL:
    wanted = ["image_features", "position", "group", "hidden", "logits"]
    wanted.append("text logits")
  elif name != "any_shape":
    wanted += ["last_hidden_state_u8"]
  lines = [line for line in said.splitlines() if not line.startswith("note")]
  assert [line.partition(":")[0] for line in lines[:-1]] == wanted
  assert "not compared:" not in said


@pytest.mark.ci
def test_text_alone_may_be_absent(tmp_path, capsys):
  write(tmp_path / "a", BAGEL)
  with np.load(tmp_path / "a/io.npz") as file:
    arrays = {k: v for k, v in file.items() if not k.startswith("text_")}
  np.savez(tmp_path / "a/io.npz", **arrays)
  assert verify.main([str(tmp_path / "a")]) == 0
  said = capsys.readouterr().out
  assert "\nlogits: max difference" in said and "text logits" not in said


@pytest.mark.parametrize("name", [*released_pictures.CASES, BAGEL])
def test_what_comes_out_is_what_went_in(name, tmp_path, capsys):
  tensors = write(tmp_path / "a", name)
  assert (
    convert.main([f"--from={tmp_path / 'a'}", f"--to={tmp_path / 'b'}"]) == 0
  )
  one, other = stored(tmp_path / "a"), stored(tmp_path / "b")
  assert one == other and one.keys() == tensors.keys()
  files = {file.name for file in (tmp_path / "a").iterdir()}
  assert {file.name for file in (tmp_path / "b").iterdir()} == files
  said = capsys.readouterr().out
  assert "pooling head" in said or name == BAGEL
  if name == BAGEL:
    for what in ("positions of latents", "times", "latents in", "latents out"):
      assert f"skipped: {what}: it draws by diffusion" in said


def test_a_convolution_and_a_product_are_the_same_weights(tmp_path):
  write(tmp_path / "a", "whole")
  write(tmp_path / "b", "product")
  leaves = [
    importing.read(importing.plan(folder.open_folder(tmp_path / name)))
    for name in ("a", "b")
  ]
  assert leaves[0].keys() == leaves[1].keys()
  for path, leaf in leaves[0].items():
    np.testing.assert_array_equal(leaf, leaves[1][path])


def changed(path, change, *, file="model.safetensors", config="config.json"):
  tensors = safetensors.numpy.load((path / file).read_bytes())
  said = json.loads((path / config).read_text("utf-8"))
  change(said, tensors)
  released.write_json(path / config, said)
  safetensors.numpy.save_file(tensors, path / file, {"format": "pt"})


def swap(one, other):
  def change(_, tensors):
    tensors[one], tensors[other] = tensors[other], tensors[one]

  return change


def zero(key):
  return lambda _, tensors: tensors[key].fill(0)


LAYER = "encoder.layers.1."
# Change -> what differs first; hidden 1 is what the second layer is given.
TOWER_CHANGES = {
  "eps": (lambda config, _: config.update(layer_norm_eps=1e-3), "hidden 1"),
  "q and k": (
    swap(f"{LAYER}self_attn.q_proj.weight", f"{LAYER}self_attn.k_proj.weight"),
    "last_hidden_state",
  ),
  "a bias": (zero(f"{LAYER}self_attn.v_proj.bias"), "last_hidden_state"),
  "positions": (zero("embeddings.position_embedding.weight"), "hidden 0"),
  "a norm of ones": (
    lambda _, t: t["post_layernorm.weight"].fill(1),
    "last_hidden_state",
  ),
}


@pytest.mark.parametrize("name", TOWER_CHANGES)
def test_a_change_of_a_tower_is_seen(name, tmp_path, capsys):
  change, first = TOWER_CHANGES[name]
  write(tmp_path / "a", "product")
  changed(tmp_path / "a", change)
  assert verify.main([str(tmp_path / "a")]) == 1
  assert capsys.readouterr().out.splitlines()[-1] == f"differs first in {first}"


DRAWING = "language_model.model.layers.1.{}.weight"
# Change -> what differs first.
BAGEL_CHANGES = {
  "both experts": (
    swap(DRAWING.format("mlp.up_proj"), DRAWING.format("mlp_moe_gen.up_proj")),
    "hidden",
  ),
  "the drawing one's q and k norm": (
    swap(
      DRAWING.format("self_attn.q_norm_moe_gen"),
      DRAWING.format("self_attn.k_norm_moe_gen"),
    ),
    "hidden",
  ),
  "table": (zero("vit_pos_embed.pos_embed"), "image_features"),
  "theta": (lambda c, _: c.update(rope_theta=600.0), "hidden"),
  "head": (
    swap(
      "language_model.lm_head.weight",
      "language_model.model.embed_tokens.weight",
    ),
    "hidden",
  ),
}


@pytest.mark.parametrize("name", BAGEL_CHANGES)
def test_a_change_of_bagel_is_seen(name, tmp_path, capsys):
  change, first = BAGEL_CHANGES[name]
  write(tmp_path / "a", BAGEL)
  options = {"file": "ema.safetensors", "config": "llm_config.json"}
  changed(tmp_path / "a", change, **options)
  assert verify.main([str(tmp_path / "a")]) == 1
  assert capsys.readouterr().out.splitlines()[-1] == f"differs first in {first}"


def test_positions_that_are_plain_are_seen(tmp_path, capsys):
  """Cells of a picture that don't share one, and don't see each other."""
  for name, change in (
    ("position", lambda x: np.arange(len(x), dtype=np.int32)),
    ("group", lambda x: np.arange(len(x), dtype=np.int32)),
  ):
    path = tmp_path / name
    write(path, BAGEL)
    with np.load(path / "io.npz") as file:
      arrays = dict(file)
    arrays[name] = change(arrays[name])
    np.savez(path / "io.npz", **arrays)
    assert verify.main([str(path)]) == 1
    assert f"differs first in {name}" in capsys.readouterr().out


def test_bagel_drops_the_last_layer_of_its_tower(tmp_path, capsys):
  path = tmp_path / "a"
  options = {"layers": released_pictures.LAYERS + 1, "file": folder.SINGLE}
  released_pictures.write_bagel(path, image_size=40, **options)
  assert verify.main([str(path)]) == 0
  said = capsys.readouterr().out
  assert "its config says one more" in said
  assert "5 x 5 cells, its config says 10 a side" in said


def test_the_table_is_that_of_sines():
  """Row 1, column 2 of a 3 x 3 grid, width 8: by the rule, one by one."""
  table = vision.sines(9, 8)
  angles = [2.0, 2.0 / 100, 1.0, 1.0 / 100]
  wanted = [*np.sin(angles[:2]), *np.cos(angles[:2])]
  wanted += [*np.sin(angles[2:]), *np.cos(angles[2:])]
  np.testing.assert_allclose(table[5], wanted, rtol=1e-6)


REFUSED = {
  "act": (
    "product",
    lambda c, _: c.update(hidden_act="gelu"),
    "hidden_act is 'gelu'",
  ),
  "unknown": (
    "product",
    lambda c, _: c.update(window_size=3),
    "window_size is 3; this field is not known",
  ),
  "grid": (
    "any_shape",
    lambda c, _: c.update(num_patches=15),
    "num_patches is 15; allowed: squares",
  ),
  "sizes": (
    "product",
    lambda c, _: c.update(image_size=24),
    "position_embedding.weight has shape [16, 12], by",
  ),
  "heads": (
    "product",
    lambda c, _: c.update(num_attention_heads=5),
    "width=12 is not divisible by",
  ),
  "key": (
    "product",
    lambda _, t: t.update(spare=np.ones(2, "f4")),
    "has spare, which the family siglip_vision_model does not know",
  ),
  "lack": (
    "product",
    lambda _, t: t.pop("post_layernorm.bias"),
    "lacks post_layernorm.bias",
  ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_read_is_refused_in_a_line(name, tmp_path, capsys):
  case, change, said = REFUSED[name]
  write(tmp_path / "a", case)
  changed(tmp_path / "a", change)
  target = tmp_path / "b"
  assert convert.main([f"--from={tmp_path / 'a'}", f"--to={target}"]) == 2
  error = capsys.readouterr().err
  assert said in error and error.count("\n") == 1
  assert not target.exists()


BAGEL_REFUSED = {
  "other decoder": ({"model_type": "llama"}, "model_type is 'llama'"),
  "other layer": (
    {"layer_module": "Qwen2DecoderLayer"},
    "layer_module is 'Qwen2DecoderLayer'",
  ),
  "window": ({"use_sliding_window": True}, "sliding windows"),
}


@pytest.mark.parametrize("name", BAGEL_REFUSED)
def test_another_bagel_is_refused(name, tmp_path, capsys):
  changes, said = BAGEL_REFUSED[name]
  write(tmp_path / "a", BAGEL)
  path = tmp_path / "a/llm_config.json"
  released.write_json(path, json.loads(path.read_text("utf-8")) | changes)
  assert verify.main([str(tmp_path / "a")]) == 2
  error = capsys.readouterr().err
  assert said in error and error.count("\n") == 1


def test_a_table_that_is_one_number_is_refused(tmp_path, capsys):
  write(tmp_path / "a", BAGEL)
  changed(
    tmp_path / "a",
    lambda _, t: t.update({bagel.POSITIONS: np.float32(1)[...]}),
    file="ema.safetensors",
    config="llm_config.json",
  )
  assert verify.main([str(tmp_path / "a")]) == 2
  error = capsys.readouterr().err
  assert f"{bagel.POSITIONS} has shape []; its rows" in error


def test_a_bagel_without_its_other_config_is_refused(tmp_path, capsys):
  write(tmp_path / "a", BAGEL)
  (tmp_path / "a/vit_config.json").unlink()
  assert verify.main([str(tmp_path / "a")]) == 2
  assert "vit_config.json does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"patch_position": np.full(6, 25, np.int32)}, "allowed: 0 to 24"),
    ({"kind": np.zeros(18, np.int32)}, "kind has 0 cells of a picture"),
    ({"patches": np.zeros((6, 5), "f4")}, "patches is [6, 5] of float32"),
    ({"kind": np.zeros(18)}, "kind is of float64; allowed: whole numbers"),
  ],
)
def test_what_is_expected_must_fit(change, said, tmp_path, capsys):
  write(tmp_path / "a", BAGEL)
  with np.load(tmp_path / "a/io.npz") as file:
    arrays = dict(file) | change
  np.savez(tmp_path / "a/io.npz", **arrays)
  assert verify.main([str(tmp_path / "a")]) == 2
  error = capsys.readouterr().err
  assert said in error and error.count("\n") == 1
