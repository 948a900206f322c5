"""Every setting of every stage, with its default and its unit.

A section is made from the frozen dataclass that it is splatted into where it is
used (ModelConfig, DataConfig, OptimConfig, ...), so that a default stands once,
at its field, and a typo dies at start-up naming the field; what has no such
class has one here. `docs/settings.md` lists them all, with what they may be.

Those of sampling and GRPO stand in `reinforcement.py`. The other files of this
folder choose a pipeline; `variants.py` says what the variants `tiny` (the
default run), `long`, `scratch` and `smoke` change of this and why, `sizes.py`
what the sizes `0p6b`, `7b` and `7b_mot` do, on a named slice as
`7b@v6e:16x16`.
"""

import dataclasses

from ml_collections import ConfigDict

from configs import sizes, variants
from configs.reinforcement import (
  CodeLossSettings,
  GRPOSettings,
  SamplingSettings,
)
from configs.stage import StageSettings
from cooper_jax import plugins
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError, nearest
from cooper_jax.modalities import default_settings
from cooper_jax.models.config import ModelConfig, VisionConfig
from cooper_jax.models.lora import LoraConfig
from cooper_jax.parallel.mesh import MeshConfig
from cooper_jax.rl.losses import LossConfig
from cooper_jax.settings import meaning
from cooper_jax.tokenizers.map_tokenizer import MapTokenizerConfig
from cooper_jax.training import start_folders
from cooper_jax.training.optim import OptimConfig
from cooper_jax.world.config import WorldConfig

VARIANTS = tuple(variants.CHANGES)


@dataclasses.dataclass(frozen=True)
class RunSettings:
  """What stands at the top of the config, beside `variant` and `pipeline`."""

  # Packaged model to start from; "" = train every stage.
  init_from: str = "tiny"
  # Stage that the package stands for: sft | pretrain (SFT is trained here).
  init_as: str = "sft"
  seed: int = 0  # random seed of parameters, batches and sampling
  # Type that is computed in: f32 | bf16 | auto (f32 on a CPU, else bf16); on a
  # CPU bf16 is for products alone, if faster.
  precision: str = "auto"
  quick_compile: bool = False  # compile sooner, run slower (CPU)
  # Folder of a downloaded model whose tokenizer.json is used; "" = our own.
  text_folder: str = ""
  # Digest of that tokenizer, noted when a run begins; "" = any.
  text_digest: str = ""
  # Rows of text in the embedding table; 0 = as the folder's, or a row a token.
  text_rows: int = 0
  modalities: tuple[str, ...] = ("depth", "segmentation")  # maps to draw
  # Where metrics go beside the workdir: wandb | mlflow, where installed.
  trackers: tuple[str, ...] = ()
  # What maps may hold (each modality's Config in modalities/).
  maps: dict = dataclasses.field(default_factory=default_settings)


@dataclasses.dataclass(frozen=True)
class TokenizerSettings(StageSettings):
  """Stage 0, one tokenizer per modality."""

  steps: int = 6000
  batch: int = 16
  expected_minutes: float = 18.0
  optim: OptimConfig = OptimConfig(
    name="muon",
    learning_rate=2e-2,
    adam_learning_rate=3e-3,
    decay_start=0.3,
    warmup_steps=100,
  )


@dataclasses.dataclass(frozen=True)
class TokenWeights:
  """Loss weight of a text token by what it says."""

  text: float = 0.3  # weight of words that are none of the following
  name: float = 1.0  # weight of a colour or a shape
  location: float = 1.0  # weight of a location token
  reading: float = 1.0  # weight of a number or a comparison ("closer")
  answer: float = 1.0  # weight of the answer


def modality_weights() -> dict[str, float]:
  """How the codes' loss is shared among the modalities that there are."""
  named = dict.fromkeys(plugins.names("modalities"), 1.0)
  return named | dict(segmentation=1.5)


def mode_shares() -> dict[str, float]:
  """Shares of the questions by mode of their trace; a modality is a mode."""
  named = dict.fromkeys(plugins.names("modalities"), 0.0)
  named |= dict(depth=0.4, segmentation=0.08)
  return dict(direct=0.1, text=0.3, needed=0.0) | named | dict(both=0.12)


@dataclasses.dataclass(frozen=True)
class SupervisedSettings(StageSettings):
  """What pretraining and SFT share."""

  z_weight: float = 1e-4  # loss weight of logsumexp^2 of the logits
  weights: TokenWeights = TokenWeights()
  # Loss weight of a modality's codes among the modalities.
  modality_weights: dict[str, float] = dataclasses.field(
    default_factory=modality_weights
  )
  families: tuple[str, ...] = ()  # question families asked; () = all
  # What is counted is pointed at in a random order, not from left to right.
  any_order: bool = False


@dataclasses.dataclass(frozen=True)
class PretrainSettings(SupervisedSettings):
  """Stage 1: image and request -> map; grounding in the same rows."""

  steps: int = 6000
  batch: int = 12
  expected_minutes: float = 95.0
  optim: OptimConfig = OptimConfig(
    name="muon",
    learning_rate=1e-2,
    adam_learning_rate=6e-3,
    schedule="linear",
    decay_start=0.5,
    warmup_steps=100,
  )
  bin: int = 88  # tokens of a bin, a block of a row that holds whole branches
  text_bins: int = 2  # bins of text in a row, beside one for each map
  texts: int = 140  # scored text tokens of a row, at most
  map_weight: float = 1.5  # loss weight of codes beside the text's 1
  code_noise: float = 0.05  # share of the codes read that are replaced
  # Chance that a text is given a map, which its places read (map_lookup).
  map_context: float = 0.5
  counterfactual: float = 0.5  # share of those depth maps that were edited
  single_object: float = 0.05  # chance that a map marks one object alone
  extra_counting: int = 3  # counting questions added per image
  # Height and width questions added per image, of those in `world.derive`.
  extra_sizes: int = 0
  # Control: each image is trained to draw the maps of another image.
  exchanged_maps: bool = False
  # Text tells no length: "list" and "where" go without, and questions whose
  # trace or answer tells one are left out.
  without_lengths: bool = False


@dataclasses.dataclass(frozen=True)
class SftSettings(SupervisedSettings):
  """Stage 2: question -> think, draw, think, answer."""

  steps: int = 500
  batch: int = 10
  expected_minutes: float = 12.0
  optim: OptimConfig = OptimConfig(
    name="muon",
    learning_rate=5e-3,
    adam_learning_rate=1.5e-3,
    schedule="linear",
    decay_start=0.3,
    warmup_steps=100,
  )
  bin: int = 224  # tokens of a bin, a block of a row that holds whole branches
  bins: int = 2  # bins (blocks of whole branches) of a row
  texts: int = 192  # scored text tokens of a row, at most
  maps: int = 4  # maps of a row in the loss, at most
  map_weight: float = 1.0  # loss weight of codes beside the text's 1
  code_noise: float = 0.1  # share of the codes read that are replaced
  # Question families answered at once, without a trace; `shares` are then of
  # the other families.
  direct_families: tuple[str, ...] = ()
  # Training scenes that are asked about, the first so many; 0 = all. Maps of
  # pretraining come from all.
  scenes: int = 0
  # Words of the questions: usual | heldout, those of the held-out split.
  phrasings: str = "usual"
  # Training scenes whose maps the policy draws as its own before SFT; 0 = none.
  self_map_scenes: int = 4000
  self_map_share: float = 0.5  # share of these maps that are read as drawn
  # Share of the depth maps that were edited. The image does not show what they
  # say, so that they have to be read.
  counterfactual: float = 0.5
  extra_counting: int = 2  # counting questions added per image
  # Height and width questions added per image, of those in `world.derive`.
  extra_sizes: int = 0
  corrupted: float = 0.03  # share of traces that show a faulty map and say so
  # Share of the traces with all maps they need whose rest sees no image.
  view_dropout: float = 0.0
  # Modality whose map must be drawn before a trace may state a measured length;
  # "" = no condition. When drawing pays is then for GRPO to find.
  lengths_need_map: str = "depth"
  # Share of the questions by the mode of their trace ("needed": the maps that a
  # question needs). Every way of answering is shown for all questions alike.
  shares: dict[str, float] = dataclasses.field(default_factory=mode_shares)


@dataclasses.dataclass(frozen=True)
class EvaluateSettings:
  """Test split: maps, answers per family and mode, report."""

  # Benchmarks that are asked (eval/benchmarks); embedded is the test split.
  benchmarks: tuple[str, ...] = ("embedded",)
  questions: int = 1024  # questions of the test split; whole batches
  heldout_questions: int = 512  # questions of the held-out split; 0 = none
  batch: int = 256  # rollouts at once
  # Training scenes, of each source, that the blind baseline sees.
  blind_scenes: int = 2000
  # What replaces a drawn map in the token replacement test; also: zero, random,
  # first (code repeated).
  replacements: tuple[str, ...] = ("own", "other", "true")
  gallery: int = 60  # questions shown in the report
  # Whether a packaged model's answers are kept in ~/.cache/cooper_jax.
  reuse: bool = True
  expected_minutes: float = 8.0  # minutes on two cores, for the plan alone


# Section -> the class that it is made from.
SECTION_CLASSES = {
  "": RunSettings,
  "init": start_folders.InitSettings,
  "lora": LoraConfig,
  "mesh": MeshConfig,
  "data": DataConfig,
  "world": WorldConfig,
  "model": ModelConfig,
  "model.vision": VisionConfig,
  "sampling": SamplingSettings,
  "tokenizer": TokenizerSettings,
  "tokenizer.network": MapTokenizerConfig,
  "pretrain": PretrainSettings,
  "sft": SftSettings,
  "grpo": GRPOSettings,
  "grpo.rl.loss": LossConfig,
  "grpo.rl.code": CodeLossSettings,
  "evaluate": EvaluateSettings,
}
# Fields that are no settings: derived from others where the class is used, or
# what makes the world the one that it is.
DERIVED_FIELDS = {
  "data": ("world", "maps"),
  "world": (
    "image_size", "pixels_to_name", "held_out", "near", "far", "pitch", "roll",
    "shaded",
  ),
  "model": ("text", "codes", "code_levels", "dtype", "operands"),
  "model.vision": ("image_size", "shapes"),
  "tokenizer.network": ("channels", "outputs", "image_size", "grid"),
  "grpo.rl.loss": ("weight",),
}  # fmt: skip
# Values of fields that have no default, for only a device tells them.
WITHOUT_DEFAULT = {"model.attention": "auto", "model.unroll": "auto"}


def get_base(variant: str, pipeline: tuple[str, ...]) -> ConfigDict:
  """Builds the whole config, locked; raises UserError for a wrong variant."""
  named = variant.partition("@")[0]
  known = (*VARIANTS, *sizes.SIZES)
  if named not in known or (named in VARIANTS and named != variant):
    raise UserError(
      f'no variant "{variant}"; available: {", ".join(known)}, and sizes on a'
      f" slice, as in 7b@v6e:16x16{nearest(variant, known)}"
    )
  config = defaults()
  config.variant, config.pipeline = variant, pipeline
  if named in variants.CHANGES:
    variants.CHANGES[named](config)
  else:
    variants.scratch(config)
    sizes.grow(config, variant)
  if config.init_from and pipeline[-1] != "evaluate":
    raise UserError(
      'variant "tiny" begins with the packaged model, whose stages are done;'
      " long trains them as it was trained, scratch in less, smoke in minutes"
    )
  config.lock()
  return config


def defaults() -> ConfigDict:
  """Every default, less `variant` and `pipeline`; not locked."""
  config = ConfigDict()
  for path, cls in SECTION_CLASSES.items():
    here, made = config, make_section(cls, DERIVED_FIELDS.get(path, ()))
    *above, name = path.split(".")
    for each in above:
      here = here[each]
    if name:
      here[name] = made
    else:
      here.update(made)
  config.update_from_flattened_dict(WITHOUT_DEFAULT)
  return config


def make_section(cls, derived=()) -> ConfigDict:
  """The defaults of a dataclass's fields, less the derived ones."""
  values = {}
  for field in dataclasses.fields(cls):
    if field.name in derived:
      continue
    name = meaning.setting(field)
    if field.default_factory is not dataclasses.MISSING:
      values[name] = field.default_factory()
    elif field.default is not dataclasses.MISSING:
      values[name] = field.default
  return _to_config(values)


def _to_config(value):
  if dataclasses.is_dataclass(value):
    value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
  if isinstance(value, dict):
    return ConfigDict({name: _to_config(each) for name, each in value.items()})
  return value
