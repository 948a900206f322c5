"""Image tokenizers of others: what they give, in and out, and refusals."""

import json

import numpy as np
import pytest

from cooper_jax.tokenizers import movq, picture_layers
from cooper_jax.weights import folder, importing, picture_codes, verify
from tests.weights import released_codes
from tests.weights.test_convert import run, stored
from tests.weights.test_verify import changed

VQ16, EMU3 = released_codes.CASES


@pytest.fixture(scope="module")
def here(tmp_path_factory):
  path = tmp_path_factory.mktemp("codes")
  for name in released_codes.CASES:
    released_codes.write(path / name, name)
  return path


def copied(here, name, target):
  """A copy of a folder, to be changed."""
  target.mkdir()
  for file in (here / name).iterdir():
    (target / file.name).write_bytes(file.read_bytes())
  return target


@pytest.mark.parametrize("name", released_codes.CASES)
def test_each_gives_what_its_rules_give(name, here, capsys):
  assert verify.main([str(here / name)]) == 0
  said = capsys.readouterr().out
  codes = ("codes_raw", "codes_l2") if name == VQ16 else ("codes",)
  for each in codes:
    assert f"{each}: 24 of 24 equal" in said
  for each in ("latent", *codes, "decoded"):
    assert f"{each}: max difference" in said
  assert "not compared" not in said


def test_the_two_rules_differ_here(here):
  found = verify.expected(here / VQ16)
  assert (found["codes_raw"] != found["codes_l2"]).mean() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "changes"),
  [
    (VQ16, {"channel_multiplier": [1], "num_res_blocks": 2}),
    (VQ16, {"channel_multiplier": [1, 2, 3], "embed_dim": 8}),
    (EMU3, {"temporal_downsample_factor": 1, "attn_resolutions": []}),
    (
      EMU3,
      {
        "temporal_downsample_factor": 8,
        "channel_multiplier": [2, 1, 2],
        "attn_resolutions": [0, 2, 5],
        "num_res_blocks": 2,
        "embed_dim": 5,
        "latent_channels": 5,
      },
    ),
  ],
)
def test_other_shapes_give_what_their_rules_give(name, changes, tmp_path):
  released_codes.write(tmp_path / "a", name, **changes)
  assert verify.main([str(tmp_path / "a")]) == 0
  assert run(tmp_path / "a", tmp_path / "b") == 0
  assert stored(tmp_path / "a") == stored(tmp_path / "b")


@pytest.mark.parametrize("name", released_codes.CASES)
def test_what_comes_out_is_what_went_in(name, here, tmp_path, capsys):
  assert run(here / name, tmp_path / "b") == 0
  assert stored(here / name) == stored(tmp_path / "b")
  said = capsys.readouterr().out
  assert ("num_batches_tracked are skipped" in said) == (name == EMU3)
  files = {file.name for file in (tmp_path / "b").iterdir()}
  assert files == {"config.json", "io.npz", "model.safetensors"}


def swap(one, other):
  def change(tensors):
    tensors[one], tensors[other] = tensors[other], tensors[one]

  return change


def zero(key):
  return lambda tensors: tensors[key].fill(0)


FILM = "decoder.time_res_stack.0.norm1"


@pytest.mark.parametrize(
  ("name", "change", "first"),
  [
    (
      VQ16,
      swap("encoder.mid.attn_1.q.weight", "encoder.mid.attn_1.k.weight"),
      "latent",
    ),
    (VQ16, zero("decoder.up.1.block.1.conv2.bias"), "decoded"),
    (VQ16, zero("encoder.down.1.attn.0.norm.bias"), "latent"),
    (
      EMU3,
      swap(
        "decoder.middle_block.block_2.norm1.conv_y.weight",
        "decoder.middle_block.block_2.norm1.conv_b.weight",
      ),
      "decoded",
    ),
    (EMU3, swap(f"{FILM}.running_mean", f"{FILM}.bias"), "decoded"),
    (EMU3, zero("encoder.time_conv.0.conv.conv.bias"), "latent"),
  ],
)
def test_a_tensor_that_is_changed_is_seen(
  name, change, first, here, tmp_path, capsys
):
  path = copied(here, name, tmp_path / "a")
  changed(path, lambda _, tensors: change(tensors))
  assert verify.main([str(path)]) == 1
  said = capsys.readouterr().out
  assert said.splitlines()[-1] == f"differs first in {first}"


@pytest.mark.parametrize(
  ("name", "module", "constant", "value"),
  [
    (VQ16, picture_layers, "EPS", 1e-3),
    (EMU3, movq, "BATCH_EPS", 1e-3),
  ],
)
def test_an_epsilon_that_is_another_is_seen(
  name, module, constant, value, here, monkeypatch
):
  monkeypatch.setattr(module, constant, value)
  picture_codes.run.clear_cache()
  try:
    assert verify.main([str(here / name)]) == 1
  finally:
    picture_codes.run.clear_cache()


def test_the_other_rule_of_codes_is_seen(here, monkeypatch, capsys):
  rules = {"codes_raw": {"by_angle": False}, "codes_l2": {"by_angle": False}}
  network = type(
    importing.plan(folder.open_folder(here / VQ16)).sizes["tokenizer"]
  )
  monkeypatch.setitem(picture_codes.CODES, network, rules)
  assert verify.main([str(here / VQ16)]) == 1
  said = capsys.readouterr().out
  assert said.splitlines()[-1] == "differs first in codes_l2"


@pytest.mark.parametrize(
  ("name", "changes", "said"),
  [
    (VQ16, {"double_latent": True}, "double_latent is True"),
    (VQ16, {"in_channels": 4}, "in_channels is 4; pictures have three"),
    (VQ16, {"channel_multiplier": [1, 0]}, "channel_multiplier is [1, 0]"),
    (VQ16, {"channel_multiplier": [1] * 40}, "allowed: 1 to 10 numbers"),
    (VQ16, {"channel_multiplier": [2**20]}, "more than 65,536 channels"),
    (VQ16, {"num_embeddings": 10**30}, "allowed: 1 to 16,777,216"),
    (EMU3, {"embed_dim": 10**9}, "embed_dim is 1000000000; allowed: 1 to"),
    (EMU3, {"temporal_downsample_factor": 2**70}, "allowed: 1 to 64"),
    (VQ16, {"base_channels": 24}, "base_channels is 24; times 1 it does not"),
    (VQ16, {"attn_type": "linear"}, "attn_type is 'linear'; this field is"),
    (VQ16, {"embed_dim": 5}, "post_quant_conv.weight has shape [6, 4, 1, 1]"),
    (VQ16, {"num_res_blocks": 33}, "allowed: 64 of 2 levels in all"),
    (VQ16, {"num_res_blocks": 2}, "lacks decoder.up.0.attn.2.k.bias"),
    (EMU3, {"hidden_size": 32}, "hidden_size is 32; the level 1 has 64"),
    (EMU3, {"num_attention_heads": 5}, "heads is 5; it does not divide 64"),
    (EMU3, {"temporal_downsample_factor": 3}, "factor is 3; allowed: powers"),
    (EMU3, {"latent_channels": 4}, "latent_channels is 4; the decoder reads"),
    (EMU3, {"attn_resolutions": [0, 1]}, "hidden_size is 64; the level 0 has"),
    (EMU3, {"attn_resolutions": []}, "does not know"),
  ],
)
def test_what_cannot_be_is_named(name, changes, said, here, tmp_path, capsys):
  path = copied(here, name, tmp_path / "a")
  config = json.loads((path / "config.json").read_text("utf-8")) | changes
  (path / "config.json").write_text(json.dumps(config))
  assert verify.main([str(path)]) == 2
  told = capsys.readouterr().err
  assert said in told and told.count("\n") == 1


def test_keys_are_all_known(here, tmp_path, capsys):
  path = copied(here, VQ16, tmp_path / "a")
  changed(path, lambda _, t: t.update({"quantize.count": np.ones(3, "f4")}))
  assert verify.main([str(path)]) == 2
  assert "quantize.count, which the family" in capsys.readouterr().err
  changed(
    path, lambda _, t: (t.pop("quantize.count"), t.pop("quant_conv.bias"))
  )
  assert verify.main([str(path)]) == 2
  assert "lacks quant_conv.bias" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("name", "prefix", "rest"),
  [
    (VQ16, "model.vqmodel.", "model.language_model.norm.weight"),
    (EMU3, "vqmodel.", "text_model.lm_head.weight"),
  ],
)
def test_of_a_whole_model_the_tokenizer_is_taken(
  name, prefix, rest, here, tmp_path, capsys
):
  path = copied(here, name, tmp_path / "a")

  def whole(config, tensors):
    own = dict(config)
    config.clear()
    whole = name.split("_")[0]
    config.update(model_type=whole, vq_config=own, tie_word_embeddings=False)
    config.update(text_config={"model_type": "llama"}, image_token_id=3)
    for key in list(tensors):
      tensors[f"{prefix}{key}"] = tensors.pop(key)
    tensors[rest] = np.ones(5, "f4")

  changed(path, whole)
  assert verify.main([str(path)]) == 0
  assert f"the rest of {'Janus' if name == VQ16 else 'Emu3'}" in (
    capsys.readouterr().out
  )
  assert run(path, tmp_path / "b") == 0
  assert stored(path) == stored(tmp_path / "b")
