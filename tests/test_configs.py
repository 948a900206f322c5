"""Every config builds, is locked, and its sections fit where they go."""

import importlib
import pathlib

import numpy as np
import pytest

from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.models.config import ModelConfig, VisionConfig
from cooper_jax.parallel import chips
from cooper_jax.parallel.mesh import MeshConfig, mesh_shape
from cooper_jax.rl.losses import LossConfig
from cooper_jax.tokenizers.map_tokenizer import MapTokenizerConfig
from cooper_jax.training import optim, stage_settings
from cooper_jax.world.config import WorldConfig

ROOT = pathlib.Path(__file__).parent.parent
NAMES = ["tokenizer", "pretrain", "sft", "grpo", "evaluate"]
VARIANTS = ["tiny", "long", "scratch", "smoke"]
SIZES = ["0p6b", "7b", "7b_mot"]


def get(name, *variant):
  return importlib.import_module(f"configs.{name}").get_config(*variant)


# "tiny" begins with the packaged model, whose stages these would train.
MADE = [
  (name, variant)
  for name in NAMES
  for variant in VARIANTS
  if variant != "tiny" or name in ("grpo", "evaluate")
]


@pytest.mark.parametrize(("name", "variant"), MADE)
def test_every_config_builds_and_is_locked(name, variant):
  config = get(name, variant)
  assert config.variant == variant
  with pytest.raises(AttributeError):
    config.sft.stps = 3
  MeshConfig(**config.mesh)
  for stage in config.pipeline:
    assert config[stage].expected_minutes > 0
    if "optim" in config[stage]:
      optim.OptimConfig(**config[stage].optim)
    assert stage_settings.of(config, stage)


def test_the_default_starts_from_the_package_or_trains_it_anew():
  assert get("grpo").to_dict() == get("grpo", "tiny").to_dict()
  assert get("sft").to_dict() == get("sft", "long").to_dict()
  for name in ("tokenizer", "pretrain", "sft"):
    with pytest.raises(UserError, match="begins with the packaged model"):
      get(name, "tiny")


def test_smoke_is_smaller_everywhere():
  scratch, smoke = get("grpo", "scratch"), get("grpo", "smoke")
  for stage in ("tokenizer", "pretrain", "sft", "grpo"):
    assert smoke[stage].steps < scratch[stage].steps
  assert smoke.model.d_model < scratch.model.d_model


def test_only_what_goes_on_from_the_package_starts_from_it():
  starts = {n: get(n).init_from for n in NAMES}
  assert {n for n in NAMES if starts[n]} == {"grpo", "evaluate"}
  for variant in VARIANTS[1:]:
    assert not get("grpo", variant).init_from
  # An evaluation takes up the workdir of the chain of its variant.
  for variant in VARIANTS:
    chain, alone = get("grpo", variant), get("evaluate", variant)
    for section in ("init_from", "data", "model", "sft", "evaluate"):
      assert chain[section] == alone[section]


@pytest.mark.parametrize("name", NAMES)
def test_configs_say_how_they_are_run(name):
  text = (ROOT / "configs" / f"{name}.py").read_text()
  head = text.split('"""')[1]
  assert f"--config=configs/{name}.py" in head
  assert "minute" in head and "GB" in head


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", SIZES)
def test_every_size_has_a_recipe_on_every_slice(name, size):
  for place in ("", *(f"@{each}" for each in chips.LISTED)):
    config = get(name, size + place)
    found = chips.find_slice(place[1:]) if place else chips.find_slice("h100:8")
    mesh = MeshConfig(**config.mesh)
    cuts = np.prod(mesh_shape(mesh, found.devices)[:2])
    for stage in ("pretrain", "sft", "grpo"):
      assert config[stage].batch % cuts == 0
    assert config.model.kv_heads % config.mesh.tensor == 0
    if place:
      widths = config.model.d_model, config.model.vision.width
      assert all(width % config.mesh.fsdp == 0 for width in widths)
      assert config.mesh.data % found.slices == 0


@pytest.mark.parametrize(
  ("variant", "said"),
  [
    ("smok", 'did you mean "smoke"'),
    ("7b@v6e:99x99", "has 9801 chips"),
    ("7b@v9:4x4", "with a chip of v4"),
    ("smoke@v6e:4x4", "no variant"),
  ],
)
def test_a_variant_that_is_none_is_refused(variant, said):
  with pytest.raises(UserError, match=said):
    get("grpo", variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_sections_fit_the_dataclasses_they_are_splatted_into(variant):
  config = get("grpo", variant)
  size = config.data.image_size
  world = WorldConfig(**config.world, image_size=size)
  DataConfig(**config.data, world=world)
  tokenizer = MapTokenizerConfig(
    channels=1,
    outputs=1,
    image_size=size,
    grid=config.model.map_grid,
    **config.tokenizer.network,
  )
  fields = dict(config.model)
  vision = VisionConfig(image_size=size, **fields.pop("vision"))
  made = ModelConfig(text=300, codes=tokenizer.codes, vision=vision, **fields)
  assert made.map_codes == tokenizer.grid**2
  LossConfig(**config.grpo.rl.loss)
