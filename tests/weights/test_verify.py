"""A released model gives in our decoder what its published rules give."""

import io
import json
import types
import zipfile
from unittest import mock

import numpy as np
import pytest

from cooper_jax import errors
from cooper_jax.weights import verify
from tests.tokenizers import folders
from tests.weights import released


def changed(folder, change):
  """Rewrites a folder of one file: change(config, tensors)."""
  import safetensors.numpy

  path = folder / "model.safetensors"
  tensors = safetensors.numpy.load(path.read_bytes())
  config = json.loads((folder / "config.json").read_text("utf-8"))
  change(config, tensors)
  released.write_json(folder / "config.json", config)
  released.write_tensors(folder, tensors)


@pytest.mark.parametrize("name", released.CASES)
def test_every_family_gives_what_its_rules_give(name, tmp_path, capsys):
  released.write(tmp_path / name, name)
  assert verify.main([str(tmp_path / name)]) == 0
  said = capsys.readouterr().out
  assert "logits: max difference" in said
  seeing = "vision_config" in released.CASES[name][0]
  # Of a model that sees, hidden states are of pictures, too.
  layers = [f"hidden {i}: max" in said for i in range(released.LAYERS + 1)]
  assert layers == [not seeing] * len(layers)


def theta(config, _):
  config["rope_parameters"]["rope_theta"] *= 1.1


def eps(config, _):
  config["rms_norm_eps"] *= 2


def swap(one, other):
  def change(_, tensors):
    a, b = (f"model.layers.1.{each}.weight" for each in (one, other))
    tensors[a], tensors[b] = tensors[b], tensors[a]

  return change


def ones(_, tensors):
  tensors["model.layers.0.post_attention_layernorm.weight"][:] = 1


def no_bias(_, tensors):
  tensors["model.layers.1.self_attn.k_proj.bias"][:] = 0


def square(config, tensors):
  """As many key heads as heads, so that q and k have one shape."""
  config["num_key_value_heads"] = released.HEADS
  for key in list(tensors):
    if "k_proj" in key or "v_proj" in key:
      tensors[key] = np.concatenate([tensors[key]] * released.HEADS)


# Change -> (folder, the first that differs).
CHANGES = {
  "theta": ("qwen3", theta, "hidden 1"),
  "eps": ("qwen3", eps, "hidden 1"),
  "q and k norms": (
    "qwen3",
    swap("self_attn.q_norm", "self_attn.k_norm"),
    "hidden 2",
  ),
  "gate and up": ("llama", swap("mlp.gate_proj", "mlp.up_proj"), "hidden 2"),
  "a norm of ones": ("llama", ones, "hidden 1"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen_in_the_first_layer_that_it_is_in(
  name, tmp_path, capsys
):
  case, change, first = CHANGES[name]
  released.write(tmp_path / "a", case)
  changed(tmp_path / "a", change)
  assert verify.main([str(tmp_path / "a")]) == 1
  assert capsys.readouterr().out.splitlines()[-1] == f"differs first in {first}"


def test_a_bias_that_is_zeroed_is_seen(tmp_path, capsys):
  released.write(tmp_path / "a", "qwen2_older")
  changed(
    tmp_path / "a",
    lambda _, t: t["layers.1.self_attn.v_proj.bias"].fill(0),
  )
  assert verify.main([str(tmp_path / "a")]) == 1
  assert "differs first in hidden 2" in capsys.readouterr().out


def test_queries_and_keys_swapped_are_seen(tmp_path, capsys):
  released.write(tmp_path / "a", "llama")
  changed(tmp_path / "a", square)
  # Keys and values of one head, for each head: the same model.
  assert verify.main([str(tmp_path / "a")]) == 0
  changed(tmp_path / "a", swap("self_attn.q_proj", "self_attn.k_proj"))
  assert verify.main([str(tmp_path / "a")]) == 1
  assert "differs first in hidden 2" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("name", "tied", "said"),
  [
    ("llama", False, '"tie_word_embeddings": true'),
    ("mistral", True, '"tie_word_embeddings": false'),
  ],
)
def test_a_wrong_flag_of_the_head_names_the_fix(
  name, tied, said, tmp_path, capsys
):
  released.write(tmp_path / "a", name)
  changed(tmp_path / "a", lambda c, _: c.update(tie_word_embeddings=tied))
  assert verify.main([str(tmp_path / "a")]) == 2
  assert said in capsys.readouterr().err


def test_what_is_allowed_can_be_said(tmp_path, capsys):
  released.write(tmp_path / "a", "llama")
  changed(tmp_path / "a", eps)
  folder = str(tmp_path / "a")
  assert verify.main([folder, "--tolerance=1e-1"]) == 0
  assert "allowed 0.1" in capsys.readouterr().out
  assert verify.main([folder, "--tolerance=nan"]) == 2
  assert "--tolerance is nan" in capsys.readouterr().err


def test_values_that_are_not_finite_are_a_difference():
  nothing = np.zeros((2, 3), np.float32)
  assert verify.difference(nothing, nothing) == 0
  assert verify.difference(nothing + np.nan, nothing) == np.inf
  assert verify.difference(nothing, nothing + np.nan) == np.inf


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (None, "io.npz does not exist"),
    (
      {"ids": np.full((1, 2), 99)},
      "has ids from 99 to 99, the embedding 40 rows",
    ),
    ({"ids": np.zeros((1, 2))}, "ids are not whole numbers"),
    ({"logits": np.zeros((1, 2, 3))}, "has no ids, only logits"),
    ({"ids": np.zeros((1, 2), int)}, "has nothing to compare with"),
    (
      {"ids": np.zeros((1, 2), int), "logits": np.zeros((1, 2, 3))},
      "its shape is [1, 2, 3] of float64, ours [1, 2, 40]",
    ),
    (
      {"ids": np.zeros((1, 2), int), "hidden": np.zeros((6, 1, 2, 24))},
      "hidden states of 5 layers, ours 2",
    ),
  ],
)
def test_what_is_expected_must_fit(change, said, tmp_path, capsys):
  released.write(tmp_path / "a", "llama")
  (tmp_path / "a/io.npz").unlink()
  if change:
    np.savez(tmp_path / "a/io.npz", **change)
  assert verify.main([str(tmp_path / "a")]) == 2
  assert said in capsys.readouterr().err


def packed(folder, *, at, value):
  """The archive of a folder, compressed, with some bytes changed."""
  with np.load(folder / "io.npz") as file:
    found = dict(file)
  np.savez_compressed(folder / "io.npz", **found)
  made = bytearray((folder / "io.npz").read_bytes())
  made[at : at + len(value)] = value
  if at < 20:  # flags and method are noted a second time in the directory
    again = made.index(b"PK\x01\x02") + at + 2
    made[again : again + len(value)] = value
  return bytes(made)


HEADER = "{{'descr': '<f4', 'fortran_order': False, 'shape': ({},)}}"


def member(header):
  """An archive of one array that has nothing but its header."""
  made, text = io.BytesIO(), header.encode() + b"\n"
  with zipfile.ZipFile(made, "w") as archive:
    head = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little")
    archive.writestr("ids.npy", head + text)
  return made.getvalue()


@pytest.mark.parametrize(
  "damage",
  [
    lambda _: b"",
    lambda _: b"PK\x03\x04 and no more",
    lambda path: packed(path, at=60, value=b"\xff" * 20),
    lambda path: packed(path, at=8, value=b"\x63\x00"),  # method 99
    lambda path: packed(path, at=6, value=b"\x01\x00"),  # encrypted
    lambda _: member("{'descr': '<f4', 'shape': (1"),
    lambda _: member(HEADER.format(10**13)),
    lambda _: member(HEADER.format(10**22)),
  ],
)
def test_an_archive_that_is_none_is_said(damage, tmp_path, capsys):
  released.write(tmp_path / "a", "llama")
  (tmp_path / "a/io.npz").write_bytes(damage(tmp_path / "a"))
  assert verify.main([str(tmp_path / "a")]) == 2
  assert "can't be read" in capsys.readouterr().err


def test_an_archive_of_no_arrays_is_said(tmp_path, capsys):
  released.write(tmp_path / "a", "llama")
  for files, said in (
    ({}, "io.npz has no arrays; write it with numpy.savez"),
    ({"ids": "1 2"}, "io.npz: ids is no array; write it with numpy.savez"),
  ):
    with zipfile.ZipFile(tmp_path / "a/io.npz", "w") as archive:
      for name, text in files.items():
        archive.writestr(name, text)
    assert verify.main([str(tmp_path / "a")]) == 2
    assert said in capsys.readouterr().err


def test_rows_with_pictures_are_no_text(tmp_path):
  """Their ids stand for pictures, and a decoder of text gives other logits."""
  arrays = {"ids": 1, "kind": 2, "patches": 3, "logits": 4}
  assert verify.of_text(arrays, tmp_path) == {}
  text = np.zeros((1, 2)), np.zeros((1, 2, 3))
  arrays |= dict(zip(("text_ids", "text_logits"), text))
  assert verify.of_text(arrays, tmp_path).keys() == {"ids", "logits"}


def test_the_own_class_is_run_where_that_is_asked_for(
  tmp_path, monkeypatch, capsys
):
  released.write(tmp_path / "a", "llama")
  with np.load(tmp_path / "a/io.npz") as file:
    given = dict(file)
  asked = []

  def run(path, config, ids):
    asked.append((path, config["model_type"], ids))
    return {"logits": given["logits"] + 1e-3, "hidden": given["hidden"]}

  monkeypatch.setattr(verify.live, "run", run)
  assert verify.main([str(tmp_path / "a"), "--live"]) == 1
  said = capsys.readouterr().out.splitlines()
  assert said[-1] == "differs first in live logits"
  assert "live hidden 2: max difference" in "\n".join(said)
  assert asked[0][:2] == (tmp_path / "a", "llama")
  np.testing.assert_array_equal(asked[0][2], given["ids"])
  # Without an io.npz, of ids that are drawn: another model than the stub's.
  (tmp_path / "a/io.npz").unlink()
  assert verify.main([str(tmp_path / "a"), "--live"]) == 1
  assert "differs first in live hidden 0" in capsys.readouterr().out


def test_where_the_own_class_fails_the_cause_is_said(
  tmp_path, monkeypatch, capsys
):
  released.write(tmp_path / "a", "llama")
  monkeypatch.setitem(verify.sys.modules, "torch", None)
  assert verify.main([str(tmp_path / "a"), "--live"]) == 2
  assert "--live needs torch and a transformers" in capsys.readouterr().err

  def older(*_, **__):
    raise TypeError("unexpected keyword\nargument 'dtype'")

  causal = types.SimpleNamespace(from_pretrained=older)
  fake = types.SimpleNamespace(AutoModelForCausalLM=causal)
  monkeypatch.setitem(verify.sys.modules, "torch", mock.MagicMock())
  monkeypatch.setitem(verify.sys.modules, "transformers", fake)
  assert verify.main([str(tmp_path / "a"), "--live"]) == 2
  said = capsys.readouterr().err
  assert "TypeError: unexpected keyword argument" in said
  assert said.count("\n") == 1
  try:
    try:
      raise RuntimeError("operator torchvision::nms does not exist")
    except RuntimeError as error:
      raise ImportError("cannot import name 'LlamaConfig'") from error
  except ImportError as error:
    assert errors.cause(error) == (
      "RuntimeError: operator torchvision::nms does not exist"
    )


def test_a_text_that_is_not_the_folders_own_is_refused(tmp_path, capsys):
  """The tokenizer is of another model: it has more tokens than rows."""
  folder = tmp_path / "a"
  released.write(folder, "llama")
  written = tmp_path / "text"
  folders.write(written)
  (folder / "tokenizer.json").write_bytes(
    (written / "tokenizer.json").read_bytes()
  )
  assert verify.main([str(folder)]) == 2
  said = capsys.readouterr()
  assert said.out == "" and said.err.count("\n") == 1
  assert said.err.startswith("error: ") and "of one model" in said.err
