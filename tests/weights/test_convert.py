"""A folder in and out again has the same names, dtypes and bits."""

import copy
import errno
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors

from cooper_jax.errors import UserError
from cooper_jax.weights import (
  convert,
  exporting,
  folder,
  headers,
  importing,
  writing,
)
from tests.tokenizers import folders
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
  (tmp_path / "a/LICENCE").write_text("free")
  assert run(tmp_path / "a", tmp_path / "b") == 0
  one, other = stored(tmp_path / "a"), stored(tmp_path / "b")
  assert {k: v[1:] for k, v in one.items()} == {
    k: v[1:] for k, v in other.items()
  }
  files = {"config.json", "io.npz", "LICENCE"} | {v[0] for v in other.values()}
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
  assert ("there is no tower" in said) == ("vision_config" in config)


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
  exporting.export(planned, trained, tmp_path / "b")
  assert not (tmp_path / "b/io.npz").exists()  # it is of the old leaves
  one, other = stored(tmp_path / "a"), stored(tmp_path / "b")
  changed = [key for key in one if one[key][3] != other[key][3]]
  assert changed == ["model.norm.weight"]
  written = np.frombuffer(other["model.norm.weight"][3], jnp.bfloat16)
  assert np.array_equal(written, trained[path].astype(jnp.bfloat16))


NORM = "params/decoder/norm_final/main/scale"
TABLE = "params/embedding"
QUERY = "params/decoder/blocks/q/main/kernel"


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (lambda leaves: leaves.pop(NORM), f"leaf {NORM} is missing, which model.n"),
    (lambda leaves: leaves.update(x=leaves[NORM]), "place for the leaf x;"),
    (
      lambda leaves: leaves.update({NORM: np.ones(25)}),
      f"leaf {NORM} has shape [25], ",
    ),
    (
      lambda leaves: leaves.update({QUERY: leaves[QUERY].repeat(2, 0)}),
      f"leaf {QUERY} has shape [4, 24, 24], ",
    ),
    (
      lambda leaves: leaves.update({TABLE: leaves[TABLE][1:]}),
      f"leaf {TABLE} has shape [39, 24], ",
    ),
    (
      lambda leaves: leaves.update({TABLE: leaves[TABLE][:, 1:]}),
      f"leaf {TABLE} has shape [40, 23], ",
    ),
    (lambda leaves: leaves.update({TABLE: np.ones(())}), "has shape [], "),
    (
      # The largest of float32 is none of bfloat16.
      lambda leaves: leaves.update({NORM: np.full(24, 3.4e38, "f4")}),
      f"of the leaf {NORM}, would have 24 of 24 values that are NaN or inf",
    ),
  ],
)
def test_leaves_that_are_not_the_folders_are_named(change, said, tmp_path):
  released.write(tmp_path / "a", "qwen3_bf16")
  planned = importing.plan(folder.open_folder(tmp_path / "a"))
  leaves = importing.read(planned)
  change(leaves)
  with pytest.raises(UserError) as caught:
    exporting.export(planned, leaves, tmp_path / "b")
  assert said in str(caught.value)
  assert [f.name for f in tmp_path.iterdir()] == ["a"]


def test_values_that_are_not_finite_are_written_where_they_may(tmp_path):
  released.write(tmp_path / "a", "qwen3_bf16")
  opened = folder.open_folder(tmp_path / "a", nonfinite=True)
  planned = importing.plan(opened)
  leaves = importing.read(planned) | {NORM: np.full(24, np.inf)}
  exporting.export(planned, leaves, tmp_path / "b")
  other = stored(tmp_path / "b")["model.norm.weight"][3]
  assert np.isposinf(np.frombuffer(other, jnp.bfloat16)).all()


def test_a_tensor_of_another_size_is_never_written(tmp_path):
  entries = {"a": ("F32", (2,))}
  with pytest.raises(ValueError, match="a has 4 bytes, not 8"):
    headers.write_file(tmp_path / "f", entries, lambda _: np.ones(1, "f4"), {})


def without_words(config, _):
  for part in (config, config["text_config"]):
    del part["tie_word_embeddings"]


def of_two_words(config, tensors):
  config["tie_word_embeddings"] = False
  table = tensors["model.language_model.embed_tokens.weight"]
  tensors["lm_head.weight"] = table[::-1].copy()


@pytest.mark.parametrize(
  ("change", "said", "tied"),
  [
    (without_words, "lm_head.weight is not there: the embedding is", True),
    (of_two_words, "lm_head.weight is there", False),
  ],
)
def test_where_the_config_is_of_two_minds_the_tensors_tell_of_the_head(
  change, said, tied, tmp_path, capsys
):
  config = copy.deepcopy(released.CASES["qwen3_vl"][0])
  tensors = released.write(tmp_path / "a", "qwen3_vl")
  change(config, tensors)
  released.write_json(tmp_path / "a/config.json", config)
  released.write_tensors(tmp_path / "a", tensors, 2)
  planned = importing.plan(folder.open_folder(tmp_path / "a"))
  assert planned.sizes["tied_head"] is tied
  assert run(tmp_path / "a", tmp_path / "b") == 0
  assert said in capsys.readouterr().out
  assert stored(tmp_path / "b").keys() == tensors.keys()


def test_text_is_looked_at_before_the_tensors(tmp_path, monkeypatch, capsys):
  """The tokenizer is of another model: it has more tokens than rows."""
  released.write(tmp_path / "a", "llama")
  assert run(tmp_path / "a", tmp_path / "b") == 0
  assert "note: no tokenizer.json" in capsys.readouterr().out
  folders.write(tmp_path / "text")
  (tmp_path / "text/tokenizer.json").rename(tmp_path / "a/tokenizer.json")
  monkeypatch.delattr(importing, "read")
  assert run(tmp_path / "a", tmp_path / "c") == 2
  assert "the two are not of one model" in capsys.readouterr().err
  assert not (tmp_path / "c").exists()


def test_a_target_in_the_source_is_refused(tmp_path, capsys):
  released.write(tmp_path / "a", "llama")
  before = sorted((tmp_path / "a").iterdir())
  assert run(tmp_path / "a", tmp_path / "a/b") == 2
  assert "name a folder outside of it" in capsys.readouterr().err
  assert sorted((tmp_path / "a").iterdir()) == before


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
  assert run(tmp_path / "a", "~nobody-here/b") == 2
  assert "~nobody-here is no folder; make it first" in capsys.readouterr().err
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
  said = capsys.readouterr().err
  assert f"{tmp_path}/b can't be written: No space left on device; make" in said
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
