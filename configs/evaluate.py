"""Evaluate what the workdir holds, training first what it lacks.

  bash launch/local.sh --config=configs/evaluate.py --workdir=runs/demo
  bash launch/local.sh --config=configs/evaluate.py:smoke --workdir=runs/smoke

About 6 minutes and 3 GB for a finished workdir; from nothing as configs/sft.py.
"""

from configs import base


def get_config(variant: str = "tiny"):
  """Settings of this run, locked."""
  return base.get_base(
    variant,
    pipeline=("tokenizer", "pretrain", "sft", "evaluate"),
  )
