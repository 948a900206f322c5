"""Stage 0: a tokenizer per modality, map <-> codes.

  bash launch/local.sh --config=configs/tokenizer.py --workdir=runs/demo
  bash launch/local.sh --config=configs/tokenizer.py:smoke --workdir=runs/smoke

About 20 minutes and 2 GB on two cores; `scratch` 6, smoke: half a minute.
"""

from configs import base


def get_config(variant: str = "long"):
  """Settings of this run, locked."""
  return base.get_base(
    variant,
    pipeline=("tokenizer",),
  )
