"""Stage 0: a tokenizer per modality, map <-> codes.

  bash launch/local.sh --config=configs/tokenizer.py --workdir=runs/demo
  bash launch/local.sh --config=configs/tokenizer.py:smoke --workdir=runs/smoke

About 6 minutes and 2 GB on two cores; smoke: about half a minute.
"""

from configs import base


def get_config(variant: str = "tiny"):
  """Settings of this run, locked."""
  return base.get_base(
    variant,
    pipeline=("tokenizer",),
  )
