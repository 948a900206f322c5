"""Settings of GRPO and of the sampling of rollouts, with their defaults."""

import dataclasses

from ml_collections import config_dict

from configs.stage import StageSettings
from cooper_jax import plugins
from cooper_jax.settings import reinforcing
from cooper_jax.training.optim import OptimConfig


@dataclasses.dataclass(frozen=True)
class SamplingSettings:
  """Rollouts; lengths in tokens."""

  temperature: float = 1.0  # temperature of text tokens; 0 = greedy
  code_temperature: float = 1.0  # temperature of map codes; 0 = greedy
  # Likeliest text tokens that are drawn from, then top_p of these, then min_p;
  # rollouts are scored under the same; 0 = all.
  top_k: int = 0
  top_p: float = 1.0  # probability of the text tokens that are drawn from
  min_p: float = 0.0  # least share of the likeliest's probability, of text
  code_top_k: int = 0  # likeliest codes that are drawn from; 0 = all
  code_top_p: float = 1.0  # probability of the codes that are drawn from
  code_min_p: float = (
    0.0  # least share of the likeliest's probability, of codes
  )
  text: int = 40  # tokens in one turn of text, at most
  maps: int = 2  # maps in one answer, at most
  prompt_buckets: tuple[int, ...] = (96, 160)  # lengths of padded prompts


def rewards() -> dict:
  """Weights of all rewards there are; those not named are not computed."""
  none = {n: config_dict.placeholder(float) for n in plugins.names("rewards")}
  return none | dict(
    answer=1.0, format=0.2, exploration=1.0, depth=0.0, segmentation=0.0
  )


def reward_settings() -> dict:
  """The Config of every reward there is."""
  return {
    name: plugins.find("rewards", name).Config()
    for name in plugins.names("rewards")
  }


@dataclasses.dataclass(frozen=True)
class CodeLossSettings:
  """The loss of codes where it differs from that of text."""

  weight: float = 0.5  # loss weight of codes beside the text's 1
  clip_low: float = -1.0  # clip below a ratio of 1; -1 = as grpo.rl.loss
  clip_high: float = -1.0  # clip above a ratio of 1; -1 = as grpo.rl.loss
  kl_weight: float = -1.0  # weight of the KL penalty; -1 = as grpo.rl.loss


@dataclasses.dataclass(frozen=True)
class RLSettings:
  """Rewards, advantages and the policy loss."""

  group_size: int = 8  # rollouts of one prompt
  # Advantage (rl/advantages.py: ADVANTAGES). Divided by its std, a group whose
  # maps alone differ would count as much as one whose answers do.
  advantage: str = "mean_only"
  advantage_eps: float = 1e-4  # added to the std that rewards are divided by
  shuffle_rewards: bool = False  # control: rewards go to other rollouts
  resample: int = 0  # rounds that replace groups of equal rewards, at most
  pipeline: bool = False  # sample a step ahead, from parameters one step old
  overlong_filter: bool = False  # rollouts that were cut off: not in the loss
  # Weight of each reward in the sum; 0 = only logged, None = not computed. Map
  # quality counts through the advantages of the maps' own codes (map_weight):
  # in the sum it would pay for drawing as such.
  rewards: dict[str, float | None] = dataclasses.field(default_factory=rewards)
  # Settings of each reward (its Config in rl/rewards/).
  settings: dict = dataclasses.field(default_factory=reward_settings)
  # Weight of a map's own advantage beside the answer's. Maps of one image
  # differ by .02 to .04 in quality; this makes up for it (recipe.md).
  map_weight: float = 20.0
  text_only: bool = False  # no gradient through codes
  updates: int = 1  # times that a batch of rollouts is gone through
  # Parts of a batch, whole prompts, with an optimiser step each. All but the
  # first are learned from by newer parameters than sampled them: clips work.
  minibatches: int = 1


@dataclasses.dataclass(frozen=True)
class GRPOSettings(StageSettings):
  """Stage 3: when to draw, what to draw, what to answer."""

  steps: int = 84
  batch: int = 16
  expected_minutes: float = 10.0
  optim: OptimConfig = OptimConfig(
    learning_rate=1e-4, schedule="linear", warmup_steps=4
  )
  log_every: int = 2
  save_every: int = 100
  image_every: int = 20
  bins: int = 2  # bins (blocks) of a row of the update; one holds any rollout
  rows: int = 4  # rows of the update at once; more on an accelerator
  families: tuple[str, ...] = ()  # question families reinforced; () = all
  # Words of the questions: usual | heldout, those of the held-out split.
  phrasings: str = "usual"
  # Order of the questions: random | epochs (each once before any again) |
  # difficulty (most often those that are neither sure nor hopeless).
  order: str = "random"
  # Rollouts that are held to draw, and to text, to measure a question's flag;
  # 0 = the data's flags.
  flag_rollouts: int = 0
  # Validation questions, asked of the start with maps and without, by which
  # each family's flag is measured; 0 = off.
  flag_questions: int = 0
  # Difference in shares right up to which a flag is "boundary"; by family 0.02
  # to 0.05 suits.
  flag_margin: float = reinforcing.FLAG_MARGIN
  # Training scenes that are not asked about, the first so many (of SFT).
  skip_scenes: int = 0
  # Steps between greedy answers to the validation split; 0 = none. The first
  # are those of the stage before.
  validate_every: int = 0
  validation_questions: int = 256  # questions of it, always the same
  # Parameters that later stages take: last | best, by validation.
  result: str = "last"
  rl: RLSettings = dataclasses.field(default_factory=RLSettings)
