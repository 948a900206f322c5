"""Folders as others write them: full configs, tokenizers, heads, positions."""

import importlib.util

import numpy as np
import pytest

from cooper_jax import errors
from cooper_jax.weights import bagel, convert, folder, live, siglip, verify
from tests.weights import released, released_pictures
from tests.weights.test_convert import stored
from tests.weights.test_pictures import changed

OF_TEXT = {"file": "ema.safetensors", "config": "llm_config.json"}
HEAD, TABLE = bagel.HEAD, "language_model.model.embed_tokens.weight"
NOT_HERE = [
  name
  for name in ("torch", "transformers")
  if importlib.util.find_spec(name) is None
]


@pytest.mark.ci
def test_positions_are_those_of_the_imported_model(
  tmp_path, monkeypatch, capsys
):
  """Cells by row and column differ from BAGEL's, which share a position."""
  released_pictures.write_bagel(tmp_path / "a")
  config = bagel.config
  monkeypatch.setattr(
    bagel, "config", lambda *given: config(*given) | {"one_position": False}
  )
  assert verify.main([str(tmp_path / "a")]) == 1
  assert "differs first in position" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("change", "code", "said"),
  [
    (lambda t: None, 2, "llm_config.json says that they are one; write"),
    (lambda t: t.update({HEAD: t[TABLE]}), 0, "is the same, and is read as a"),
    (lambda t: t.pop(HEAD), 2, f"write {TABLE} there under that name, too"),
  ],
)
def test_a_head_that_bagels_config_says_is_the_embedding(
  change, code, said, tmp_path, capsys
):
  released_pictures.write_bagel(tmp_path / "a")

  def tied(config, tensors):
    config["tie_word_embeddings"] = True
    change(tensors)

  changed(tmp_path / "a", tied, **OF_TEXT)
  words = [f"--from={tmp_path / 'a'}", f"--to={tmp_path / 'b'}"]
  assert convert.main(words) == code
  assert said in "".join(capsys.readouterr())
  if not code:  # BAGEL's own code needs it
    assert HEAD in stored(tmp_path / "b")


def test_an_error_names_the_config_that_it_is_in(tmp_path, capsys):
  path = tmp_path / "a"
  released_pictures.write_bagel(path, window_size=3)
  assert verify.main([str(path)]) == 2
  assert f"{path}/vit_config.json: window_size is 3" in capsys.readouterr().err
  for name in folder.BAGEL:
    (path / name).unlink()
  said = {"model_type": "bagel", "llm_config": "x", "vit_config": {}}
  released.write_json(path / "config.json", said)
  assert verify.main([str(path)]) == 2
  error = capsys.readouterr().err
  assert f"{path}/config.json: llm_config is 'x'; allowed: an object" in error
  assert error.count("\n") == 1


@pytest.mark.ci
@pytest.mark.parametrize("name", ["fixed", "whole", "any_shape"])
def test_a_config_that_is_written_whole_is_known(name, tmp_path):
  """As transformers' `to_json_string(use_diff=False)` gives it."""
  released_pictures.write(tmp_path / "a", name)
  more = {"add_cross_attention": False, "is_encoder_decoder": False}
  more |= {"tie_word_embeddings": True, "cross_attention_hidden_size": None}

  def whole(config, _):
    config |= more
    if "vision_config" in config:
      config["vision_config"] |= more
    if name == "any_shape":  # its class has no such field
      config["image_size"] = 224

  changed(tmp_path / "a", whole)
  assert verify.main([str(tmp_path / "a")]) == 0


def test_the_tokenizer_of_a_text_tower_is_carried_not_read(tmp_path, capsys):
  released_pictures.write(tmp_path / "a", "whole")
  (tmp_path / "a/tokenizer.json").write_text("{}")  # none that could be read
  assert verify.main([str(tmp_path / "a")]) == 0
  words = [f"--from={tmp_path / 'a'}", f"--to={tmp_path / 'b'}"]
  assert convert.main(words) == 0
  said = capsys.readouterr().out
  assert said.count("note: the tokenizer is carried along, not read") == 2
  assert (tmp_path / "b/tokenizer.json").read_text() == "{}"


@pytest.mark.parametrize("name", ["fixed", "any_shape"])
def test_a_tower_is_compared_with_its_class_by_layers(
  name, tmp_path, monkeypatch, capsys
):
  """In the place of the class are the rules in numpy."""
  path = tmp_path / "a"
  released_pictures.write(path, name)
  with np.load(path / "io.npz") as file:
    given = dict(file)
  (path / "io.npz").unlink()
  monkeypatch.setattr(live, "run_tower", lambda *_: given)
  assert verify.main([str(path), "--live"]) == 0
  given["hidden"] = given["hidden"] + [[[[0.0]]], [[[1e-3]]]]
  assert verify.main([str(path), "--live"]) == 1
  said = capsys.readouterr().out.splitlines()
  assert said[-1] == "differs first in live hidden 1"


@pytest.mark.skipif(bool(NOT_HERE), reason=f"not installed: {NOT_HERE}")
@pytest.mark.parametrize("name", ["fixed", "whole", "any_shape"])
def test_a_tower_is_what_its_class_of_transformers_is(name, tmp_path, capsys):
  config, _, conv = released_pictures.CASES[name]
  path = tmp_path / "a"
  path.mkdir()
  released.write_json(path / "config.json", config)
  tensors = released_pictures.tower_tensors("vision_model.", conv)
  released.write_tensors(path, tensors)
  assert verify.main([str(path), "--live"]) == 0
  assert "live hidden 1: max difference" in capsys.readouterr().out
  # Names that the class doesn't know are no weights that it draws.
  tensors["embeddings.patch_embedding.bias"] = tensors.pop(
    "vision_model.embeddings.patch_embedding.bias"
  )
  released.write_tensors(path, tensors)
  with pytest.raises(errors.UserError, match="LookupError: it finds no"):
    sizes = siglip.config(config, "there")["vision"]
    live.run_tower(path, config, sizes)


def test_bagel_has_no_class_to_be_run(tmp_path, capsys):
  released_pictures.write_bagel(tmp_path / "a")
  assert verify.main([str(tmp_path / "a"), "--live"]) == 2
  assert "transformers, which has none of" in capsys.readouterr().err
