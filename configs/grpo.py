"""The whole chain: tokenizers, pretrain, sft, grpo, evaluate and report.

  bash launch/local.sh --config=configs/grpo.py --workdir=runs/demo
  bash launch/local.sh --config=configs/grpo.py:scratch --workdir=runs/scratch
  bash launch/local.sh --config=configs/grpo.py:smoke --workdir=runs/smoke

The first begins with the packaged model: 8 to 15 minutes and 6 GB on two cores.
From nothing: `scratch` at most 40 minutes, `smoke` 3, `long` some 2.5 hours.
"""

from configs import base


def get_config(variant: str = "tiny"):
  """Settings of this run, locked."""
  return base.get_base(
    variant,
    pipeline=("tokenizer", "pretrain", "sft", "grpo", "evaluate"),
  )
