"""The whole chain: tokenizers, pretrain, sft, grpo, evaluate and report.

  bash launch/local.sh --config=configs/grpo.py --workdir=runs/demo
  bash launch/local.sh --config=configs/grpo.py:smoke --workdir=runs/smoke

At most 40 minutes and 6 GB on two cores; smoke: at most 3 minutes.
"""

from configs import base


def get_config(variant: str = "tiny"):
  """Settings of this run, locked."""
  return base.get_base(
    variant,
    pipeline=("tokenizer", "pretrain", "sft", "grpo", "evaluate"),
  )
