"""Evaluate what the workdir holds, training first what it lacks.

  bash launch/local.sh --config=configs/evaluate.py --workdir=runs/demo
  bash launch/local.sh --config=configs/evaluate.py:smoke --workdir=runs/smoke

Without a variant the packaged model is evaluated: about 8 minutes and 3 GB on
two cores. Give the variant that the workdir was trained with, `long` for that
of configs/sft.py without one.
"""

from configs import base


def get_config(variant: str = "tiny"):
  """Settings of this run, locked."""
  return base.get_base(
    variant,
    pipeline=("tokenizer", "pretrain", "sft", "evaluate"),
  )
