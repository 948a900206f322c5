"""A run that starts from folders: sizes, text, our own rows, and refusals."""

import json
import pathlib

import jax
import numpy as np
import pytest

from cooper_jax import main, policy
from cooper_jax.errors import UserError
from cooper_jax.models.config import VisionConfig
from cooper_jax.training import json_files, stage_settings, workdir
from cooper_jax.training.manifest import flatten
from cooper_jax.weights import (
  decoder,
  exporting,
  folder,
  importing,
  starting,
  text_model,
)
from tests import tiny
from tests.sampling import test_exactness
from tests.weights import released, released_pictures, starts

STAGES = ("pretrain", "sft", "grpo")


@pytest.fixture(scope="module")
def here(tmp_path_factory):
  """Folders of text and of a tower."""
  path = tmp_path_factory.mktemp("hub")
  starts.write_text(path / "text")
  starts.write_vision(path / "vision")
  return path


def composed(here, changes=None, work=None, **options):
  named = {
    "init.text": str(here / "text"), "init.vision": str(here / "vision")
  }  # fmt: skip
  return starts.make(work or here / "work", named | (changes or {}), **options)


def built(config):
  """(policy, parameters, origins by path) that a run begins with.

  What would be drawn is zeros here.
  """
  made = policy.make_policy(config)
  zeros = jax.tree.map(
    lambda leaf: np.zeros(leaf.shape, leaf.dtype), policy.abstract_params(made)
  )
  params, table = starting.build(config, zeros)
  return made, params, {row.path: row for row in table}


def test_sizes_and_text_are_the_folders(here):
  config = composed(here)
  model = config.model
  assert (model.d_model, model.layers, model.head_dim) == (24, 2, 8)
  assert (model.qk_norm, model.tied_head, model.smear) == (True, True, False)
  assert (model.rope_theta, model.norm_eps) == (500.0, 1e-4)
  vision = model.vision
  assert (vision.patch, vision.width, vision.stem) == (16, 12, "linear")
  assert (vision.norm_eps, config.data.image_size) == (1e-5, 64)
  assert config.text_folder == str(here / "text")
  assert config.text_rows == starts.ROWS
  assert config.init.digests.text and config.init.digests.vision
  # As they are is no disagreement, and more rows may be asked for.
  again = composed(here, {"model.d_model": 24, "text_rows": 900})
  assert again.text_rows == 900


def test_every_array_has_an_origin_and_our_rows_are_like_the_old(here):
  config = composed(here, {"model.mixture_of_transformers": True})
  made, params, table = built(config)
  leaves = flatten(params)
  assert table.keys() == leaves.keys()
  assert all(row.imported or row.initialised for row in table.values())
  for path, row in table.items():
    assert row.shape == leaves[path].shape
  rows = np.asarray(leaves["params/embedding"])
  old, own = rows[: starts.ROWS], rows[starts.ROWS :]
  read = importing.read(importing.plan(folder.open_folder(here / "text")))
  np.testing.assert_array_equal(old, read["params/embedding"])
  # 64 specials, 16 locations and all codes: the means of so many, a column.
  assert len(own) == 64 + 16 + made.form.vocabulary.codes
  error = old.std(axis=0) / len(own) ** 0.5
  assert (np.abs(own.mean(axis=0) - old.mean(axis=0)) < 5 * error).all()
  np.testing.assert_allclose(own.std(axis=0), old.std(axis=0), rtol=0.2)
  said = table["params/embedding"]
  assert said.imported == "text: model.embed_tokens.weight"
  assert said.initialised == (
    f"last {len(own):,} rows drawn from mean and variance of those imported"
  )
  assert not np.any(leaves["params/embedding_digits"])
  for path in ("blocks/q/{}/kernel", "norm_final/{}/scale"):
    path = f"params/decoder/{path}"
    main_path, code = path.format("main"), path.format("code")
    np.testing.assert_array_equal(leaves[code], leaves[main_path])
    assert table[code].initialised == f"copy of {main_path}"
  assert table["params/vision/position"].imported.startswith("vision: ")
  assert table["params/vision/connector1/kernel"].imported == ""
  # Drawn anew, they are the same.
  again = flatten(built(config)[1])
  np.testing.assert_array_equal(again["params/embedding"], rows)


@pytest.mark.ci
def test_text_alone_gives_what_the_folder_gives(here):
  config, tensors = starts.write_text(here / "again")
  made, params, _ = built(composed(here))
  ids = np.random.default_rng(0).integers(0, starts.ROWS, (2, 11))
  logits, _ = text_model.run(made.model, params, ids)
  wanted, _ = released.reference(config, tensors, ids)
  np.testing.assert_allclose(logits, wanted, atol=2e-5)


def whole(here, side=4):
  """A run from a folder like BAGEL's, of pictures of 4 x 4 cells."""
  released_pictures.write_bagel(here / "bagel")
  starts.write_tokenizer(here / "spoken")
  changes = {
    "init.from": str(here / "bagel"),
    "text_folder": str(here / "spoken"),
    "data.image_size": side * released_pictures.PATCH,
    "model.map_grid": 2,
  }
  return starts.make(here / "work", changes)


def test_pictures_have_a_corner_of_bagels_tables(tmp_path, monkeypatch):
  # Its tokenizer, which has more tokens than its 40 rows, is not the matter.
  monkeypatch.setattr(policy, "find_text", lambda _: Words())
  monkeypatch.setattr(starting, "_take_text", lambda *_: None)
  config = whole(tmp_path)
  config.text_rows = released.ROWS
  model = config.model
  assert model.mixture_of_transformers and model.one_position
  assert model.qk_norm and model.qkv_bias and model.vision.cell_table
  _, params, table = built(config)
  tensors = released_pictures.bagel_tensors()
  cells = [5 * row + column for row in range(4) for column in range(4)]
  found = params["params"]["vision"]
  for name, key in (
    ("cell_table", "vit_pos_embed.pos_embed"),
    (
      "position",
      f"{released_pictures.VIT_PREFIX}embeddings.position_embedding.weight",
    ),
  ):
    np.testing.assert_array_equal(found[name], tensors[key][cells])
    assert table[f"params/vision/{name}"].shape == found[name].shape
  code = table["params/decoder/blocks/q/code/kernel"]
  assert "q_proj_moe_gen" in code.imported and not code.initialised
  # What was seen of the table changes on the way out, and nothing else of it.
  planned = importing.plan(folder.open_folder(tmp_path / "bagel"))
  leaves = {
    path: np.asarray(leaf)
    for path, leaf in flatten(params).items()
    if path in planned.keys
  }
  leaves["params/vision/position"] = leaves["params/vision/position"] + 1
  exporting.export(planned, leaves, tmp_path / "out")
  out = folder.open_folder(tmp_path / "out")
  table = out.read(key) - tensors[key]
  assert sorted(np.flatnonzero(table.any(axis=1))) == cells
  np.testing.assert_allclose(table[cells], 1, atol=1e-5)
  same = "vit_pos_embed.pos_embed"
  np.testing.assert_array_equal(out.read(same), tensors[same])


class Words:
  """A text of 40 tokens, for models as small."""

  size = rows = released.ROWS
  absent = ()

  def encode(self, text):
    return [sum(map(ord, text)) % self.size]


@pytest.mark.ci
def test_cells_of_a_picture_share_a_position_and_the_table_stays(tmp_path):
  """The sampler's log-probabilities are the trainer's, and see the table."""
  released_pictures.write_bagel(tmp_path / "a")
  planned = importing.plan(folder.open_folder(tmp_path / "a"))
  sizes = dict(planned.sizes, vision=VisionConfig(**planned.sizes["vision"]))
  model, form, params = tiny.make(3, **sizes)
  params = text_model.placed(params, importing.read(planned))
  params = test_exactness.eager_to_draw(params, form)
  made = test_exactness.trunks(np.random.default_rng(1), form, 2)
  row = test_exactness.packing.pack(
    [test_exactness.segments.Document(made[0])],
    form=form,
    shape=test_exactness.packing.Shape(length=48, texts=8, codes=0),
    rows=1,
  )
  seen = row["kind"][0] == test_exactness.token_kinds.IMAGE
  assert seen.sum() == 25 and not row["row"][0, seen].any()
  assert not row["column"][0, seen].any() and row["row"][0, 25] == 1
  out = test_exactness.run(model, form, params, made, range(6), length=48)
  assert (out.map_modality >= 0).any() and out.trainable.sum() > 20
  found = test_exactness.trainer_log_probs(
    model, form, params, out, made, group=3
  )
  np.testing.assert_allclose(
    found[out.trainable], out.log_prob[out.trainable], atol=1e-5, rtol=1e-5
  )
  images = row["images"]

  def features(params):
    return model.apply(params, images, method="see")

  table = params["params"]["vision"]["cell_table"]
  inner = dict(params["params"]["vision"], cell_table=0 * table)
  without = {"params": dict(params["params"], vision=inner)}
  np.testing.assert_allclose(
    features(params) - features(without), table[None], atol=1e-5
  )
  gradient = jax.grad(lambda p: features(p).sum())(params)["params"]["vision"]
  assert not np.any(gradient["cell_table"]) and np.any(gradient["position"])


REFUSED = {
  "size": (
    {"model.layers": 3},
    r"config\.model\.layers is 3, .*text has 2; leave it out",
  ),
  "patch": (
    {"model.vision.patch": 8},
    r"config\.model\.vision\.patch is 8, .*vision has 16",
  ),
  "pixels": (
    {"data.image_size": 32},
    r"config\.data\.image_size is 32, .*vision has 64",
  ),
  "grid": (
    {"model.map_grid": 3},
    r"map_grid=3 can't divide .*allowed with this tower: 1, 2, 4$",
  ),
  "rows": ({"text_rows": 839}, r"text_rows is 839, .*text has 840"),
  "smear": ({"model.smear": True}, r"model\.smear is True, .*False"),
  "maps": (
    {"init.tokenizer.depth": "there"},
    r"config\.init\.tokenizer\.depth: there is no folder",
  ),
  "both": (
    {"init.from": "there"},
    r"init\.from is a whole model, and config\.init\.text and config\.init\.v",
  ),
  "package": (
    {"init_from": "tiny"},
    r"config\.init_from=tiny begins with a package, and config\.init\.text",
  ),
  "text": (
    {"init.text": "{here}/vision"},
    r"init\.text: .*vision is a model of vision; name it as config\.init\.vis",
  ),
  "absent": (
    {"init.vision": "{here}/nowhere"},
    r"config\.init\.vision: .*nowhere is no folder",
  ),
  "digest": (
    {"init.digests.vision": "abc"},
    r"config\.init\.vision: .* has the weights \w+, and this was begun with ab",
  ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_by_name(name, here):
  changes, said = REFUSED[name]
  changes = {
    name: value.format(here=here) if isinstance(value, str) else value
    for name, value in changes.items()
  }
  with pytest.raises(UserError, match=said) as caught:
    composed(here, changes)
  assert "\n" not in str(caught.value)


def test_pictures_that_bagel_has_no_cells_for_are_refused(tmp_path):
  with pytest.raises(UserError, match=r"image_size is 24, .*4 up to 20"):
    whole(tmp_path, side=6)


def test_text_without_a_tokenizer_is_refused(tmp_path):
  starts.write_text(tmp_path / "text")
  (tmp_path / "text/tokenizer.json").unlink()
  starts.write_vision(tmp_path / "vision")
  with pytest.raises(UserError, match=r"text has no tokenizer\.json"):
    composed(tmp_path)
  with pytest.raises(
    UserError, match=r"small: its tokenizer has \d+ tokens, its"
  ):
    starts.write_tokenizer(tmp_path / "text")
    starts.write_text(tmp_path / "small", vocab_size=40)
    composed(tmp_path, {"init.text": str(tmp_path / "small")})


def test_a_run_goes_on_with_its_own_weights_alone(tmp_path):
  starts.write_text(tmp_path / "text")
  starts.write_vision(tmp_path / "vision")
  config = composed(tmp_path)
  work = tmp_path / "work"
  workdir.begin(config, workdir.prepare(config, work), "pretrain")
  # Elsewhere they are the same.
  (tmp_path / "text").rename(tmp_path / "moved")
  moved = {"init.text": str(tmp_path / "moved")}
  workdir.check(composed(tmp_path, moved), work)
  starts.write_text(tmp_path / "text", seed=1)
  with pytest.raises(UserError, match=r"init\.digests\.text is \w+ there and"):
    workdir.check(composed(tmp_path), work)
  with pytest.raises(UserError, match=r"init\.digests\.text is \w+ there and"):
    workdir.check(starts.make(work, {}), work)
  # A folder that changes while a run waits for it.
  config.init.text = str(tmp_path / "text")
  with pytest.raises(UserError, match="and this was begun with"):
    starting.build(config, {})


def test_older_runs_start_from_no_folder():
  config = starts.make(pathlib.Path("work"), {})
  saved = json_files.plain(config)
  for name in ("init", "text_digest"):
    del saved[name]
  del saved["model"]["one_position"]
  again = workdir.to_config(saved)
  assert again.init["from"] == again.init.digests.text == ""
  for stage in STAGES:
    settings = stage_settings.of(config, stage)
    assert not [name for name in settings if name.startswith("init.")]
    assert "model.one_position" not in settings


def test_a_wrong_folder_is_one_line_and_exit_code_2(tmp_path, capsys):
  (tmp_path / "pickles").mkdir()
  (tmp_path / "pickles/config.json").write_text('{"model_type": "qwen3"}')
  (tmp_path / "pickles/pytorch_model.bin").write_bytes(b"\x80")
  words = ["--config=configs/sft.py:smoke", f"--workdir={tmp_path / 'w'}"]
  words.append(f"--config.init.from={tmp_path / 'pickles'}")
  assert main.main(words) == 2
  said = capsys.readouterr().err
  assert "config.init.from: " in said and "pytorch_model.bin" in said
  assert said.count("\n") == 1 and not (tmp_path / "w").exists()


def test_a_digest_is_of_what_is_computed(tmp_path):
  starts.write_text(tmp_path)
  said = json.loads((tmp_path / "config.json").read_text())

  def digest(**changes):
    released.write_json(tmp_path / "config.json", said | changes)
    return starting.digest(folder.open_folder(tmp_path))

  again = digest(transformers_version="9.0", torch_dtype="x", _name_or_path="y")
  assert digest() == again
  assert digest(rms_norm_eps=1e-3) != again != digest(model_type="qwen2")


def test_the_corner_of_a_table():
  assert decoder.corner(4, 2).tolist() == [0, 1, 4, 5]
  assert decoder.corner(3, 3).tolist() == list(range(9))
