"""Stages 0 to 2: reason with what was drawn.

  bash launch/local.sh --config=configs/sft.py --workdir=runs/demo
  bash launch/local.sh --config=configs/sft.py:smoke --workdir=runs/smoke

1.5 to 3 hours and 5 GB on two cores; `scratch` 29 minutes,
smoke: a minute and a half.
"""

from configs import base


def get_config(variant: str = "long"):
  """Settings of this run, locked."""
  return base.get_base(
    variant,
    pipeline=("tokenizer", "pretrain", "sft"),
  )
