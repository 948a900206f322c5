"""COOPER's first stage: maps of Hypersim, Virtual KITTI 2 and ADE20K.

  python -m cooper_jax.main --config=configs/cooper.py --workdir=runs/cooper \\
    --config.data.settings.hypersim.root=~/hypersim \\
    --config.data.settings.vkitti.root=~/vkitti \\
    --config.data.settings.ade20k.root=~/ADEChallengeData2016

The three sets in the shares of the paper's code, .45, .05 and .5, metres up to
80 and the classes of all of them; docs/sources.md says how each is unpacked.
COOPER's traces and questions follow in the same workdir, each stage by itself:
configs/sft.py with --config.pipeline='("sft",)' and
--config.data.source=cooper_train_set. From photos of 64 pixels a start is
learned in some 30 minutes and 4 GB on two cores (`scratch`); sizes as in
configs/sizes.py are for accelerators.
"""

from configs import base

SHARES = {"hypersim": 0.45, "vkitti": 0.05, "ade20k": 0.5}


def get_config(variant: str = "scratch"):
  """Settings of this run, locked."""
  config = base.get_base(variant, pipeline=("tokenizer", "pretrain"))
  with config.unlocked():
    config.data.update(
      source=",".join(SHARES), weights=tuple(SHARES.values()), fit="crop"
    )
    config.maps.depth.farthest = 80.0
    config.maps.segmentation.classes = "cooper"
  return config
