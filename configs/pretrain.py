"""Stages 0 and 1: learn to draw what is seen, and to name places.

  bash launch/local.sh --config=configs/pretrain.py --workdir=runs/demo
  bash launch/local.sh --config=configs/pretrain.py:smoke --workdir=runs/smoke

About two and a half hours and 4 GB on two cores; `scratch` 23 minutes, smoke:
a minute.
"""

from configs import base


def get_config(variant: str = "long"):
  """Settings of this run, locked."""
  return base.get_base(
    variant,
    pipeline=("tokenizer", "pretrain"),
  )
