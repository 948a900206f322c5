"""A folder in and out again has the same names, dtypes and bits."""

import errno
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors

from cooper_jax.weights import convert, folder, headers, importing, writing
from tests.weights import released

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def stored(path):
  """(file, dtype, shape, bytes) of each key, as the library reads them."""
  found = {}
  for file in sorted(path.glob("*.safetensors")):
    for key, one in safetensors.deserialize(file.read_bytes()):
      assert key not in found
      found[key] = (file.name, one["dtype"], one["shape"], bytes(one["data"]))
  return found


def run(source, target, *flags):
  return convert.main([f"--from={source}", f"--to={target}", *flags])


@pytest.mark.parametrize("name", released.CASES)
def test_what_comes_out_is_what_went_in(name, tmp_path, capsys):
  config, _, shards, _ = released.CASES[name]
  released.write(tmp_path / "a", name)
  assert run(tmp_path / "a", tmp_path / "b") == 0
  one, other = stored(tmp_path / "a"), stored(tmp_path / "b")
  assert {k: v[1:] for k, v in one.items()} == {
    k: v[1:] for k, v in other.items()
  }
  files = {"config.json", "io.npz"} | {v[0] for v in other.values()}
  if shards > 1:
    files.add(INDEX)
    index = json.loads((tmp_path / "b" / INDEX).read_text("utf-8"))
    assert index["weight_map"] == {k: v[0] for k, v in other.items()}
    assert index["metadata"] == {
      "total_size": sum(len(v[3]) for v in other.values()),
      "total_parameters": sum(math.prod(v[2]) for v in other.values()),
    }
  assert {file.name for file in (tmp_path / "b").iterdir()} == files
  assert sorted(f.name for f in tmp_path.iterdir()) == ["a", "b"]
  # What loads it, asks which library wrote it.
  with safetensors.safe_open(
    min((tmp_path / "b").glob("*.safetensors")), "np"
  ) as file:
    assert file.metadata() == {"format": "pt"}
  copied = json.loads((tmp_path / "b/config.json").read_text("utf-8"))
  assert copied == config
  said = capsys.readouterr().out
  assert "layers.{0..1}.mlp.down_proj.weight" in said
  assert ("vision tower" in said) == ("vision_config" in config)


def test_a_head_that_is_the_embedding_is_not_written(tmp_path, capsys):
  tensors = released.write(tmp_path / "a", "llama")
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
  released.write_tensors(tmp_path / "a", tensors, shards=3)
  (tmp_path / "a" / SINGLE).unlink()
  assert run(tmp_path / "a", tmp_path / "b") == 0
  assert "lm_head.weight is left out" in capsys.readouterr().out
  assert stored(tmp_path / "b").keys() == tensors.keys() - {"lm_head.weight"}


def test_frequencies_of_old_folders_are_left_out(tmp_path, capsys):
  tensors = released.write(tmp_path / "a", "llama")
  key = "model.layers.0.self_attn.rotary_emb.inv_freq"
  released.write_tensors(tmp_path / "a", tensors | {key: np.ones(4, "f4")})
  assert run(tmp_path / "a", tmp_path / "b") == 0
  assert "computed from the config" in capsys.readouterr().out
  assert stored(tmp_path / "b").keys() == tensors.keys()


def test_layers_of_several_dtypes_keep_theirs(tmp_path):
  tensors = released.write(tmp_path / "a", "llama")
  key = "model.layers.1.mlp.up_proj.weight"
  tensors[key] = tensors[key].astype(jnp.bfloat16)
  key = "model.norm.weight"
  tensors[key] = tensors[key].astype(np.float16)
  released.write_tensors(tmp_path / "a", tensors)
  assert run(tmp_path / "a", tmp_path / "b") == 0
  one, other = stored(tmp_path / "a"), stored(tmp_path / "b")
  assert one == other
  assert len({v[1] for v in other.values()}) == 3


def test_trained_leaves_are_rounded_to_the_dtype_of_the_folder(tmp_path):
  released.write(tmp_path / "a", "qwen3_bf16")
  planned = importing.plan(folder.open_folder(tmp_path / "a"))
  leaves = importing.read(planned)
  path = "params/decoder/norm_final/main/scale"
  trained = leaves | {path: leaves[path].astype(np.float32) + 1e-3}
  # Rows of our own behind the folder's are not the folder's.
  table = leaves["params/embedding"].astype(np.float32)
  trained["params/embedding"] = np.concatenate([table, np.ones_like(table)])
  importing.export(planned, trained, tmp_path / "b")
  one, other = stored(tmp_path / "a"), stored(tmp_path / "b")
  changed = [key for key in one if one[key][3] != other[key][3]]
  assert changed == ["model.norm.weight"]
  written = np.frombuffer(other["model.norm.weight"][3], jnp.bfloat16)
  assert np.array_equal(written, trained[path].astype(jnp.bfloat16))


def test_the_target_must_be_new_and_have_a_place(tmp_path, capsys):
  released.write(tmp_path / "a", "llama")
  (tmp_path / "b").mkdir()
  assert run(tmp_path / "a", tmp_path / "b") == 2
  assert f"{tmp_path}/b exists" in capsys.readouterr().err
  (tmp_path / "link").symlink_to("nowhere")
  assert run(tmp_path / "a", tmp_path / "link") == 2
  assert "link exists" in capsys.readouterr().err
  assert run(tmp_path / "a", tmp_path / "none/b") == 2
  assert "none is no folder; make it first" in capsys.readouterr().err
  assert not list((tmp_path / "b").iterdir())


def test_a_disk_without_room_is_seen_first(tmp_path, monkeypatch, capsys):
  released.write(tmp_path / "a", "llama")
  usage = writing.shutil.disk_usage(tmp_path)
  full = usage._replace(free=2**20 + 4096)
  monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: full)
  assert run(tmp_path / "a", tmp_path / "b") == 2
  assert "the disk of" in capsys.readouterr().err
  assert [f.name for f in tmp_path.iterdir()] == ["a"]


def test_what_fails_halfway_leaves_nothing(tmp_path, monkeypatch, capsys):
  released.write(tmp_path / "a", "mistral")

  def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(headers.os, "fsync", full)
  assert run(tmp_path / "a", tmp_path / "b") == 2
  assert "No space left" in capsys.readouterr().err
  assert [f.name for f in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named_and_can_be_allowed(
  value, tmp_path, capsys
):
  tensors = released.write(tmp_path / "a", "llama")
  tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = value
  released.write_tensors(tmp_path / "a", tensors)
  assert run(tmp_path / "a", tmp_path / "b") == 2
  said = capsys.readouterr().err
  assert "model.layers.1.mlp.up_proj.weight has 1 of 480 values" in said
  assert "--allow_nonfinite" in said and said.count("\n") == 1
  assert not (tmp_path / "b").exists()
  assert run(tmp_path / "a", tmp_path / "b", "--allow_nonfinite") == 0
  assert stored(tmp_path / "a") == stored(tmp_path / "b")
