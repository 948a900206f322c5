"""Ranges of settings: what each number of the config may be.

`nan` is a number to Python and a step size to an optimiser; a run that begins
with it ends with a saved checkpoint of nothing. So no setting is left to the
stage that would find it, and a setting that is not in the table is refused by
the tests (tests/settings/test_ranges.py).
"""

import dataclasses
import fnmatch
import math
from collections.abc import Iterator

from ml_collections import ConfigDict

from cooper_jax.errors import UserError

LARGEST = 2**31 - 1  # of whole numbers: counters on the device have 32 bits
LARGEST_REAL = 3.4e38  # more is infinite in single precision


@dataclasses.dataclass(frozen=True)
class Range:
  """The numbers from `low` to `high`; `above`: not `low` itself."""

  low: float = -math.inf
  high: float = math.inf
  above: bool = False
  also: float | None = None  # one more number
  why: str = ""  # what a number stands for

  def __contains__(self, value) -> bool:
    if value == self.also:
      return True
    if self.above and value == self.low:
      return False
    return self.low <= value <= self.high

  def __str__(self) -> str:
    low = f"above {self.low:,}" if self.above else f"{self.low:,}"
    if math.isinf(self.low):
      said = "every number"
    elif math.isinf(self.high):
      said = low if self.above else f"{low} and more"
    else:
      said = f"{low} to {self.high:,}"
    if self.also is not None:
      said = f"{self.also:,}, and {said}"
    return f"{said} ({self.why})" if self.why else said


ANY = Range()
COUNT = Range(1)
AMOUNT = Range(0)
ABOVE = Range(0, above=True)
SHARE = Range(0, 1, why="a share")
SEED = Range(0, 2_000_000_000)

# The first pattern that fits a name is taken. A tuple is judged by its items.
TABLE = {
  "seed": SEED,
  "text_rows": Range(0, why="0 = as many as the text has"),
  # Devices along an axis; whether they divide up is seen with the devices.
  "mesh.*": Range(1, also=-1, why="-1 = all that are left"),
  "world.seed": SEED,
  "world.camera_height": ABOVE,  # WorldConfig looks at these three
  "world.field_of_view": ABOVE,
  "world.object_size": ABOVE,
  "world.*": COUNT,
  "maps.*.least_valid": SHARE,
  "maps.*": ANY,  # each modality looks at its own
  "data.weights": ABOVE,
  "data.workers": Range(0, why="0 = one per core"),
  "data.bad_samples": SHARE,
  "data.settings.*": ANY,  # each source's Config looks at its own
  "data.image_size": COUNT,
  "data.*_scenes": COUNT,
  "lora.rank": Range(0, why="0 = off"),
  "lora.alpha": ABOVE,
  "model.rope_theta": ABOVE,
  "model.rope_llama3": ABOVE,  # ModelConfig looks at the four together
  "model.norm_eps": ABOVE,
  "model.rope_sections": AMOUNT,
  "model.vision.norm_eps": ABOVE,
  "model.vision.mean": ANY,
  "model.vision.deviation": ABOVE,
  "model.vision.position_side": Range(0, why="0 = the picture's own"),
  "model.vision.rope_theta": Range(0, why="0 = no rotary positions"),
  "model.vision.merge": Range(0, why="0 = no merger"),
  "model.vision.deepstack": AMOUNT,
  "model.vision.window": Range(0, why="0 = no windows"),
  "model.vision.full_layers": AMOUNT,
  "model.kept_logits_mib": Range(0, why="0 = none are kept"),
  "model.*": COUNT,
  "sampling.temperature": Range(0, why="0 = the most likely token"),
  "sampling.code_temperature": Range(0, why="0 = the most likely code"),
  "sampling.*top_k": Range(0, why="0 = all"),
  "sampling.*top_p": Range(0, 1, above=True, why="1 = all"),
  "sampling.*min_p": Range(0, 1, why="0 = all"),
  "sampling.maps": AMOUNT,
  "sampling.*": COUNT,
  "tokenizer.network.levels": Range(2),
  "tokenizer.network.*blocks": AMOUNT,
  "tokenizer.network.*width": COUNT,
  "tokenizer.network.*_weight": AMOUNT,
  "grpo.rl.group_size": COUNT,  # 2 and more where there is reinforcement
  "grpo.rl.updates": COUNT,
  "grpo.rl.minibatches": COUNT,  # a divisor of grpo.batch
  "grpo.rl.resample": Range(0, why="0 = off"),
  "grpo.rl.advantage_eps": AMOUNT,
  "grpo.rl.map_weight": AMOUNT,
  "grpo.rl.rewards.*": Range(why="None = not computed"),
  "grpo.rl.code.weight": AMOUNT,
  "grpo.rl.code.*": Range(0, also=-1, why="-1 = as in config.grpo.rl.loss"),
  "grpo.rl.loss.sapo": ABOVE,
  "grpo.rl.loss.vespo": AMOUNT,
  "grpo.rl.loss.top_entropy": Range(0, 1, above=True, why="a share"),
  "grpo.rl.loss.max_length": COUNT,
  "grpo.rl.loss.*": AMOUNT,
  "grpo.rl.settings.*": ANY,  # each reward's Config looks at its own
  "evaluate.heldout_questions": Range(0, why="0 = none"),
  "evaluate.gallery": Range(0, why="0 = none"),
  "*.optim.*": ANY,  # OptimConfig looks at them
  "*.expected_minutes": AMOUNT,
  "*.image_every": Range(0, why="0 = none"),
  "*.steps": COUNT,
  "*.batch": COUNT,
  "*.log_every": COUNT,
  "*.save_every": COUNT,
  "*.keep": COUNT,
  "*.bin": COUNT,
  "*.bins": COUNT,
  "*.rows": COUNT,
  "*.texts": COUNT,
  "pretrain.text_bins": AMOUNT,
  "sft.maps": AMOUNT,
  "grpo.flag_margin": Range(0, 1, why="of right answers"),
  "grpo.flag_questions": Range(0, why="0 = off"),
  "grpo.flag_rollouts": Range(0, why="0 = off"),
  "grpo.skip_scenes": Range(0, why="0 = none"),
  "grpo.validate_every": Range(0, why="0 = none"),
  "grpo.validation_questions": COUNT,
  "sft.scenes": Range(0, why="0 = all"),
  "sft.self_map_scenes": Range(0, why="0 = none"),
  "*.extra_counting": AMOUNT,
  "*.extra_sizes": AMOUNT,
  "sft.self_map_share": SHARE,
  "sft.corrupted": SHARE,
  "sft.view_dropout": SHARE,
  "*.code_noise": SHARE,
  "pretrain.map_context": SHARE,
  "pretrain.single_object": SHARE,
  "*.counterfactual": SHARE,
  "*.z_weight": AMOUNT,
  "*.map_weight": AMOUNT,
  "*.modality_weights.*": AMOUNT,
  "*.weights.*": AMOUNT,
  "sft.shares.*": AMOUNT,
  "evaluate.*": COUNT,
}
# Of weights that share something out, one at least must count.
SHARED_OUT = ("sft.shares", "sft.weights", "pretrain.weights")


def numbers(config, prefix: str = "") -> Iterator[tuple[str, float]]:
  """Every number of a config with its name; those of a tuple one by one."""
  for name, value in config.items():
    name = f"{prefix}{name}"
    if isinstance(value, (ConfigDict, dict)):
      yield from numbers(value, f"{name}.")
      continue
    for item in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(item, (int, float)) and not isinstance(item, bool):
        yield name, item


def find(name: str) -> Range | None:
  """The range of a setting; None where the table does not know it."""
  fits = (r for each, r in TABLE.items() if fnmatch.fnmatchcase(name, each))
  return next(fits, None)


def check(config: ConfigDict) -> None:
  """Raises UserError with the first number that its setting can't be."""
  for name, value in numbers(config):
    largest = LARGEST if isinstance(value, int) else LARGEST_REAL
    if not abs(value) <= largest:  # nan is no number at all
      raise UserError(
        f"config.{name} is {value}; allowed: finite numbers, up to"
        f" {largest:.2g} in size"
      )
    allowed = find(name) or ANY
    if value not in allowed:
      raise UserError(f"config.{name} is {value}; allowed: {allowed}")
  for name in SHARED_OUT:
    section, key = name.split(".")
    shared = config.get(section, {}).get(key, {})
    # Without a word in the loss maps may be: auxiliary generation alone.
    maps = key == "weights" and config[section].map_weight > 0
    if shared and not any(shared.values()) and not maps:
      raise UserError(
        f"config.{name} are all 0, so nothing is left; give one of"
        f" {', '.join(shared)} a weight above 0"
      )
