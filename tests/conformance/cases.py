"""The losses that a file of expected values may name."""

import dataclasses

from cooper_jax.rl.losses import LossConfig

OFF_POLICY = 0.1  # largest mean log gap of the off-policy mask


@dataclasses.dataclass(frozen=True)
class Case:
  """One named loss: its settings and which advantages and rows it has."""

  config: LossConfig
  advantage: str = "grpo"
  empty_row: int | None = None  # a row without a live token


def loss_cases(longest: int) -> dict[str, Case]:
  """Every loss by its name in the files."""

  def case(kind, *, advantage="grpo", empty_row=None, **settings):
    config = LossConfig(kind, max_length=longest, **settings)
    return Case(config, advantage, empty_row)

  kl = {"kl_weight": 0.04}
  return {
    "grpo": case("grpo"),
    "grpo_clip_higher_0.28": case("grpo", clip_high=0.28),
    "grpo_two_sided_delta_1.5": case("grpo", delta=1.5),
    "grpo_dual_clip_3": case("grpo", dual_clip=3.0),
    "grpo_beta0.04_k3": case("grpo", **kl),
    "grpo_beta0.04_k3_bias_corrected": case("grpo", kl="k3_ratio", **kl),
    "grpo_is_token_truncate_2": case("grpo", correction="token_truncate"),
    "grpo_offpolicy_seq_mask_0.1": case("grpo", off_policy_max=OFF_POLICY),
    "grpo_row5_fully_masked": case("grpo", empty_row=5),
    "bnpo_or_dapo_token_mean": case("dapo"),
    "dapo_clip_higher_0.28": case("dapo", clip_high=0.28),
    "dapo_clip_higher_beta0.04": case("dapo", clip_high=0.28, **kl),
    "dapo_is_sequence_mask_3": case(
      "dapo", correction="sequence_mask", correction_max=3.0
    ),
    "dapo_top20pct_entropy": case("dapo", top_entropy=0.2),
    "dapo_row5_fully_masked": case("dapo", empty_row=5),
    "dr_grpo_mean_only_adv": case("dr_grpo", advantage="mean_only"),
    "dr_grpo_std_adv": case("dr_grpo"),
    "gspo_eps0.2": case("gspo"),
    "gspo_paper_3e-4_4e-4": case("gspo", clip_low=3e-4, clip_high=4e-4),
    "gspo_token_eps0.2": case("gspo_token"),
    "luspo_eps0.2": case("luspo"),
    "cispo_trl_max5": case("cispo", clip_high=5.0),
    "cispo_trl_max1.2": case("cispo", clip_high=1.2),
    "cispo_two_sided_0.8_1.2 (verl)": case("cispo_two_sided"),
    "sapo_1_1.05": case("sapo"),
    "vespo": case("vespo"),
    "dppo_tv_0.15": case("dppo_tv", clip_low=0.15, clip_high=0.15),
  }
