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
from tests.weights import released

ALPHA, RANK, CLOSE = 12.0, 3, 1e-5
CASES = [
  ("qwen3", True, "model."),
  pytest.param("qwen2", False, "", marks=pytest.mark.slow),
  pytest.param("qwen2_5_vl", False, "language_model.", marks=pytest.mark.slow),
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
    made.planned, tmp_path / "peft", updates=made.updates, whole={}, alpha=ALPHA
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
    made.planned, tmp_path / "peft", updates=updates, whole=whole, alpha=ALPHA
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
      alpha=ALPHA,
    )
  assert not (tmp_path / "none").exists()


def test_names_are_written_whole_where_short_ones_would_name_more(tmp_path):
  made = Problem(tmp_path / "base")
  modules = ["model.layers.0.self_attn.q_proj"]
  said = adapter.settings(made.planned, modules, (), rank=2, alpha=1.0)
  assert said["target_modules"] == modules


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
      alpha=ALPHA,
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
