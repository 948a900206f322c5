"""PEFT's form of an adapter, and merged weights, give the adapter's logits."""

import json

import numpy as np
import pytest
import safetensors.numpy

from cooper_jax.errors import UserError
from cooper_jax.models import lora
from cooper_jax.weights import (
  adapter,
  exporting,
  folder,
  importing,
  text_model,
)
from tests import tiny  # noqa: F401  sets the mesh
from tests.weights import released, released_seeing

ALPHA, RANK, CLOSE = 12.0, 3, 1e-5
CASES = [
  ("qwen3", True, "model."),
  pytest.param("qwen2", False, "", marks=pytest.mark.slow),
]


class Problem:
  """A folder of released weights, and A and B of every layer of its decoder."""

  def __init__(self, path, family="qwen3", tied=True, prefix="model."):
    self.config = released.text(family, tied)
    self.tensors = released.random_tensors(self.config, prefix=prefix)
    path.mkdir(parents=True)
    released.write_json(path / "config.json", self.config)
    released.write_tensors(path, self.tensors)
    self.planned = importing.plan(folder.open_folder(path))
    self.leaves = importing.read(self.planned)
    rng = np.random.default_rng(3)
    self.updates = {}
    for name in self.leaves:
      if name.endswith("/kernel"):
        layers, into, out = self.leaves[name].shape
        a = rng.normal(0, 0.3, (layers, into, RANK)).astype("f4")
        b = rng.normal(0, 0.3, (layers, RANK, out)).astype("f4")
        self.updates[name.removesuffix("/kernel")] = adapter.LayerUpdate(a, b)
    self.ids = rng.integers(0, self.config["vocab_size"], (2, 9))
    made = text_model.make_config(self.planned.sizes)
    self.model = text_model.make_model(made)

  def frozen(self):
    """(what is frozen, A and B beside it) as the model has them."""
    base = text_model.fill(self.model, self.leaves)
    flat = {}
    for path, update in self.updates.items():
      name = path.removeprefix("params/")
      flat |= {f"{name}/{lora.A}": update.a, f"{name}/{lora.B}": update.b}
    return lora.Frozen(base, ALPHA / RANK), lora.unflatten(flat)

  def logits(self, params):
    return text_model.run(self.model, params, self.ids)[0]

  def logits_of(self, path):
    """Of a folder's weights, as they are."""
    leaves = importing.read(importing.plan(folder.open_folder(path)))
    return self.logits(text_model.fill(self.model, leaves))


@pytest.mark.ci
@pytest.mark.parametrize(("family", "tied", "prefix"), CASES)
def test_adapter_and_merged_folder_have_the_same_logits(
  tmp_path, family, tied, prefix
):
  made = Problem(tmp_path / "base", family, tied, prefix)
  beside = made.logits(lora.laid_over(*made.frozen()))
  assert np.abs(beside - made.logits_of(tmp_path / "base")).max() > 0.1
  # Merged: out in the folder's form, and in again.
  whole = lora.flatten(lora.merged(*made.frozen()))
  leaves = {path: whole[path.removeprefix("params/")] for path in made.leaves}
  exporting.export(made.planned, leaves, tmp_path / "merged")
  found = made.logits_of(tmp_path / "merged")
  np.testing.assert_allclose(found, beside, atol=CLOSE)
  # PEFT's: its weights are W + alpha / r * B A, under its class's names.
  left = adapter.write(
    made.planned,
    tmp_path / "peft",
    updates=made.updates,
    whole={},
    scale=ALPHA / RANK,
  )
  assert left == []
  said = json.loads((tmp_path / "peft" / adapter.ADAPTER_CONFIG).read_text())
  assert (said["r"], said["lora_alpha"]) == (RANK, ALPHA)
  assert {"q_proj", "down_proj"} < set(said["target_modules"])
  parts = safetensors.numpy.load_file(
    tmp_path / "peft" / adapter.ADAPTER_WEIGHTS
  )
  inside = adapter.INSIDE + adapter.CLASS_PREFIX[family]
  tensors = dict(made.tensors)
  for key, a in parts.items():
    if "lora_A" not in key:
      continue
    b = parts[key.replace("lora_A", "lora_B")]
    assert key.startswith(inside)
    own = key.removeprefix(inside).replace(".lora_A", "")
    tensors[prefix + own] = tensors[prefix + own] + ALPHA / RANK * b @ a
  (tmp_path / "added").mkdir()
  released.write_json(tmp_path / "added/config.json", made.config)
  released.write_tensors(tmp_path / "added", tensors)
  found = made.logits_of(tmp_path / "added")
  np.testing.assert_allclose(found, beside, atol=CLOSE)


def test_merging_rounds_once_to_the_folders_dtype(tmp_path):
  made = Problem(tmp_path / "base")
  half = {k: x.astype("bfloat16") for k, x in made.tensors.items()}
  (tmp_path / "half").mkdir()
  released.write_json(tmp_path / "half/config.json", made.config)
  released.write_tensors(tmp_path / "half", half)
  planned = importing.plan(folder.open_folder(tmp_path / "half"))
  made.leaves = importing.read(planned)
  whole = lora.flatten(lora.merged(*made.frozen()))
  leaves = {path: whole[path.removeprefix("params/")] for path in made.leaves}
  exporting.export(planned, leaves, tmp_path / "merged")
  out = importing.read(importing.plan(folder.open_folder(tmp_path / "merged")))
  path = "params/decoder/blocks/q/main"
  update = made.updates[path]
  base = np.asarray(made.leaves[f"{path}/kernel"], np.float64)
  exact = base + ALPHA / RANK * update.a.astype("f8") @ update.b.astype("f8")
  found = out[f"{path}/kernel"]
  assert str(found.dtype) == "bfloat16"
  error = np.abs(found.astype("f8") - exact) / np.abs(exact)
  assert error.max() <= 2.0**-8 * 1.001


def test_what_peft_does_not_hold_is_named(tmp_path):
  made = Problem(tmp_path / "base")
  q, k = "params/decoder/blocks/q/main", "params/decoder/blocks/k/main"
  updates = {q: made.updates[q], "params/align": made.updates[k]}
  norm = "params/decoder/norm_final/main/scale"
  whole = {
    norm: made.leaves[norm] + 1,
    "params/map_query": np.ones((4, 4), np.float32),
    f"{q}/bias": np.ones(4, np.float32),
  }
  left = adapter.write(
    made.planned,
    tmp_path / "peft",
    updates=updates,
    whole=whole,
    scale=ALPHA / RANK,
  )
  assert left == [
    "A and B of params/align: the folder's model has no such layer",
    "params/map_query: the folder's model has it not",
    f"{q}/bias: the folder's model has it not",
  ]
  said = json.loads((tmp_path / "peft" / adapter.ADAPTER_CONFIG).read_text())
  assert said["modules_to_save"] == ["model.norm"]
  parts = safetensors.numpy.load_file(
    tmp_path / "peft" / adapter.ADAPTER_WEIGHTS
  )
  saved = parts["base_model.model.model.norm.weight"]
  np.testing.assert_array_equal(saved, made.leaves[norm] + 1)
  assert said["target_modules"] == ["q_proj"]
  with pytest.raises(UserError, match="has none of the layers"):
    adapter.write(
      made.planned,
      tmp_path / "none",
      updates={"params/align": made.updates[k]},
      whole={},
      scale=ALPHA / RANK,
    )
  assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("tied", [True, False])
def test_a_table_that_is_trained_in_full_is_the_tied_head_too(tmp_path, tied):
  """PEFT trains a copy of a table, to which no head is tied any more."""
  made = Problem(tmp_path / "base", tied=tied)
  table = made.leaves[adapter.EMBEDDING] + 1
  given = {"updates": made.updates, "scale": ALPHA / RANK}
  whole = {adapter.EMBEDDING: table}
  assert not adapter.write(
    made.planned, tmp_path / "peft", whole=whole, **given
  )
  said = json.loads((tmp_path / "peft" / adapter.ADAPTER_CONFIG).read_text())
  names = [*["lm_head"] * tied, "model.embed_tokens"]
  assert said["modules_to_save"] == names
  parts = safetensors.numpy.load_file(
    tmp_path / "peft" / adapter.ADAPTER_WEIGHTS
  )
  saved = [key for key in parts if "lora_" not in key]
  assert saved == [f"{adapter.INSIDE}{name}.weight" for name in names]
  for key in saved:
    np.testing.assert_array_equal(parts[key], table)


def seeing(tmp_path, name):
  """(plan, leaves, A and B of every layer) of a folder of Qwen-VL."""
  released_seeing.write(tmp_path / "base", name)
  planned = importing.plan(folder.open_folder(tmp_path / "base"))
  leaves, rng = importing.read(planned), np.random.default_rng(4)
  updates = {}
  for path, leaf in leaves.items():
    if path.endswith("/kernel"):
      *front, into, out = leaf.shape
      updates[path.removesuffix("/kernel")] = adapter.LayerUpdate(
        rng.normal(0, 0.3, (*front, into, RANK)).astype("f4"),
        rng.normal(0, 0.3, (*front, RANK, out)).astype("f4"),
      )
  return planned, leaves, updates


def check_added(leaves, updates, found):
  """Leaves are those of before, with A B added wherever a layer has them."""
  for path, leaf in leaves.items():
    update, wanted = updates.get(path.removesuffix("/kernel")), leaf
    if update and not path.endswith("/bias"):
      wanted = leaf + ALPHA / RANK * update.a @ update.b
    np.testing.assert_allclose(found[path], wanted, atol=CLOSE, err_msg=path)


@pytest.mark.parametrize("name", list(released_seeing.CASES))
def test_layers_that_are_one_in_the_folder_are_one_update(tmp_path, name):
  planned, leaves, updates = seeing(tmp_path, name)
  bias = "params/vision/blocks/q/bias"
  left = adapter.write(
    planned,
    tmp_path / "peft",
    updates=updates,
    whole={bias: leaves[bias]},
    scale=ALPHA / RANK,
  )
  stem = "params/vision/stem"
  assert left == [
    f"A and B of {stem}: it is no product there",
    f"{bias}: PEFT adapts that layer or trains it",
  ]
  said = json.loads((tmp_path / "peft" / adapter.ADAPTER_CONFIG).read_text())
  qkv = "model.visual.blocks.0.attn.qkv"
  assert said["rank_pattern"][qkv] == 3 * said["r"] == 3 * RANK
  assert said["alpha_pattern"][qkv] == 3 * said["lora_alpha"] == 3 * ALPHA
  assert all(".attn.qkv" in module for module in said["rank_pattern"])
  _, prefix, tower, _ = released_seeing.CASES[name]
  tensors = safetensors.numpy.load_file(
    tmp_path / "peft" / adapter.ADAPTER_WEIGHTS
  )
  added = {k: planned.source.mapped(k) for k in planned.source.tensors}
  for key, a in tensors.items():
    if ".lora_A." in key:
      own = key.removeprefix(adapter.INSIDE).replace(".lora_A", "")
      own = own.replace("model.language_model.", prefix)
      own = own.replace("model.visual.", tower)
      b = tensors[key.replace("lora_A", "lora_B")]
      added[own] = added[own] + ALPHA / RANK * b @ a
  (tmp_path / "added").mkdir()
  released.write_json(tmp_path / "added/config.json", planned.source.config)
  released.write_tensors(tmp_path / "added", added)
  found = importing.read(importing.plan(folder.open_folder(tmp_path / "added")))
  del updates[stem]
  check_added(leaves, updates, found)


def test_what_is_a_part_of_a_tensor_is_not_saved_for_the_whole(tmp_path):
  planned, leaves, updates = seeing(tmp_path, "qwen3_vl")
  bias, q = "params/vision/blocks/q/bias", "params/decoder/blocks/q/main"
  left = adapter.write(
    planned,
    tmp_path / "peft",
    updates={q: updates[q]},
    whole={bias: leaves[bias]},
    scale=1.0,
  )
  assert left == [f"{bias}: it is a part of a tensor there"]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(released_seeing.CASES))
def test_peft_adds_it_to_every_layer_of_a_model_that_sees(tmp_path, name):
  torch = pytest.importorskip("torch")
  peft = pytest.importorskip("peft")
  transformers = pytest.importorskip("transformers")
  planned, leaves, updates = seeing(tmp_path, name)
  adapter.write(
    planned,
    tmp_path / "peft",
    updates=updates,
    whole={},
    scale=ALPHA / RANK,
  )
  model = transformers.AutoModelForImageTextToText.from_pretrained(
    tmp_path / "base", dtype=torch.float32
  )
  loaded = peft.PeftModel.from_pretrained(model, tmp_path / "peft")
  loaded.merge_and_unload().save_pretrained(tmp_path / "out")
  del updates["params/vision/stem"]
  found = importing.read(importing.plan(folder.open_folder(tmp_path / "out")))
  check_added(leaves, updates, found)


def test_names_are_written_whole_where_short_ones_would_name_more(tmp_path):
  made = Problem(tmp_path / "base")
  ranks = {"model.layers.0.self_attn.q_proj": 2}
  said = adapter.settings(made.planned, ranks, (), scale=0.5)
  assert said["target_modules"] == [*ranks]


def test_peft_loads_it_to_the_same_logits(tmp_path):
  torch = pytest.importorskip("torch")
  peft = pytest.importorskip("peft")
  transformers = pytest.importorskip("transformers")
  for family, tied in (("qwen3", True), ("qwen2", False), ("llama", False)):
    made = Problem(tmp_path / family / "base", family, tied)
    norm = "params/decoder/norm_final/main/scale"
    whole = {norm: made.leaves[norm] * 1.5}
    adapter.write(
      made.planned,
      tmp_path / family / "peft",
      updates=made.updates,
      whole=whole,
      scale=ALPHA / RANK,
    )
    frozen, trained = made.frozen()
    changed = lora.flatten(frozen.base)
    changed[norm.removeprefix("params/")] = whole[norm]
    frozen = frozen.replace(base=lora.unflatten(changed))
    ours = made.logits(lora.laid_over(frozen, trained))
    model = transformers.AutoModelForCausalLM.from_pretrained(
      tmp_path / family / "base", dtype=torch.float32
    )
    loaded = peft.PeftModel.from_pretrained(model, tmp_path / family / "peft")
    with torch.no_grad():
      theirs = loaded.eval()(torch.tensor(made.ids)).logits.numpy()
    difference = np.abs(theirs - ours).max()
    print(f"{family}: max difference with PEFT {difference:.1e}")
    assert difference < CLOSE
