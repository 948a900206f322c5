"""The paper's claims in small: a row of the table is a variant of this config.

  python -m cooper_jax.sweep --config=configs/paper.py --plan
  python -m cooper_jax.sweep --config=configs/paper.py --rows=first \\
    --seeds=0,1,2 --out=runs/paper
  python -m cooper_jax.main --config=configs/paper.py:amg --workdir=runs/amg

What decides both claims (`first`) takes some 8 hours and 6 GB on two cores. A
row with ":smoke" after it learns nothing and takes a minute. `base-1000`, or
with the steps of SFT `base-1000x500`, is that row with so many labelled scenes:
a point of a curve.

Claim 1, maps alone help distance and size: pretraining tells words and places
and no metres, with the maps of each image (amg), of another (amg_exchanged) or
none (base). SFT then learns metres from 3,000 labelled scenes, in text that
points and answers. Claim 2, reinforcement helps beyond that: thinking is shown
for eight families, the other eight are answered at once (`UNTRACED`), and GRPO
with answers on all may find that thinking pays for them, too.
"""

import re

from configs import base, variants
from cooper_jax.errors import UserError, nearest
from cooper_jax.world.questions import families

WITHOUT_METRES = ("left_right", "above_below", "count", "exists")
METRIC = (*families.measuring("distance"), *families.measuring("size"))
# Some of each kind, and each has a kin among those whose traces are shown.
UNTRACED = (
  "closer", "gap", "nearer_to", "taller", "width", "occlusion", "left_right",
  "exists",
)  # fmt: skip
TRACED = tuple(name for name in families.names() if name not in UNTRACED)
TRAINED = ("tokenizer", "pretrain", "sft")
LABELLED = 3000  # scenes that SFT asks about in claim 1
POINT = re.compile(r"([a-z_]+)-(\d{2,6})(?:x(\d{2,6}))?")  # of a curve


def _metric(config) -> None:
  """Claim 1: a base that knows no metres, then metres from few scenes."""
  config.pipeline = (*TRAINED, "evaluate")
  config.data.train_scenes = 4000
  config.pretrain.update(
    steps=600,
    batch=10,
    text_bins=1,
    texts=80,
    extra_counting=1,
    single_object=0.0,  # it would show a map of the image itself
    families=WITHOUT_METRES,
    without_lengths=True,
    expected_minutes=5.5,
  )
  config.sft.update(
    steps=1000,
    batch=10,
    bin=112,
    maps=2,
    code_noise=0.0,
    corrupted=0.0,
    families=METRIC,
    scenes=LABELLED,
    lengths_need_map="depth",
    expected_minutes=6.0,
  )
  _share(config, text=1.0)
  config.evaluate.expected_minutes = 3.0


def _share(config, **shares) -> None:
  none = dict.fromkeys(config.sft.shares, 0.0)
  config.sft.shares.update(none | shares)


def amg(config) -> None:
  """Maps of each image, and text without metres."""
  _metric(config)


def base_row(config) -> None:
  """The same rows and text; maps are not learned."""
  _metric(config)
  config.pretrain.map_weight = 0.0


def amg_exchanged(config) -> None:
  """Control: the same loss and compute on maps of another image."""
  _metric(config)
  config.pretrain.exchanged_maps = True


def amg_depth(config) -> None:
  """Depth alone, with the weight that it has beside segmentation."""
  _alone(config, "segmentation")


def amg_segmentation(config) -> None:
  """Segmentation alone, with the weight that it has beside depth."""
  _alone(config, "depth")


def _alone(config, other: str) -> None:
  _metric(config)
  weights = config.pretrain.modality_weights
  share = 1 - weights[other] / sum(weights.values())
  config.pretrain.map_weight *= share
  weights[other] = 0.0


def pe(config) -> None:
  """Draws both maps before each answer, and reasons over them."""
  _metric(config)
  config.sft.update(bin=224, maps=4, expected_minutes=11.0)
  _share(config, both=1.0)


def amg_after(config) -> None:
  """The paper's own order: few labels, then maps alone, and then it is asked.

  It begins with what `base-1000` made (`STARTS`) and draws the maps of all
  scenes; of words the openings of maps alone are in the loss, so that nothing
  is labelled further.
  """
  base_row(config)
  config.sft.update(bin=224, maps=4, scenes=0, steps=600, expected_minutes=7.0)
  config.sft.weights.update(dict.fromkeys(config.sft.weights, 0.0))
  _slower(config)
  _share(config, both=0.99, text=0.01)  # a mode without a share is not asked


def _slower(config) -> None:
  """The rates of an SFT that goes on and does not begin."""
  config.sft.optim.learning_rate *= 0.2
  config.sft.optim.adam_learning_rate *= 0.2


def re_row(config) -> None:
  """Reinforcement of text alone, on the base without maps."""
  base_row(config)
  _reinforce(config)
  config.grpo.families = METRIC  # those of SFT
  config.grpo.rl.text_only = True
  config.grpo.rl.rewards.exploration = 0.0


def sft(config) -> None:
  """Claim 2: interleaved traces for eight families, answers for the others.

  The recipe of `scratch`, with a longer SFT. Pretraining asks the eight alone:
  its questions show their traces, too.
  """
  config.pipeline = (*TRAINED, "evaluate")
  config.pretrain.families = TRACED
  config.sft.update(steps=600, direct_families=UNTRACED, expected_minutes=13.0)


def sft_text(config) -> None:
  """The same with traces in text alone."""
  sft(config)
  _share(config, direct=0.25, text=0.75)


def _reinforce(config) -> None:
  config.pipeline = (*TRAINED, "grpo", "evaluate")
  usual = base.GRPOSettings()
  # The default run's, for what `scratch` takes is too short for a claim.
  config.grpo.update(steps=150, batch=usual.batch, expected_minutes=18.0)
  config.grpo.optim.update(
    learning_rate=usual.optim.learning_rate, schedule=usual.optim.schedule
  )
  config.grpo.rl.update(advantage=usual.rl.advantage, map_weight=0.0)


def cooper(config) -> None:
  """GRPO with answer, format and exploration, as the paper's CPR."""
  sft(config)
  _reinforce(config)


def cooper_no_format(config) -> None:
  """CPR without the format reward."""
  cooper(config)
  config.grpo.rl.rewards.format = 0.0


def cooper_no_exploration(config) -> None:
  """CPR without the exploration reward."""
  cooper(config)
  config.grpo.rl.rewards.exploration = 0.0


def cooper_answer(config) -> None:
  """The answer's reward alone."""
  cooper(config)
  config.grpo.rl.rewards.update(format=0.0, exploration=0.0)


def cooper_maps(config) -> None:
  """CPR, and each map's own reward on its codes."""
  cooper(config)
  config.grpo.rl.map_weight = base.GRPOSettings().rl.map_weight


def shuffled(config) -> None:
  """Control: rewards go to other rollouts."""
  cooper(config)
  config.grpo.rl.shuffle_rewards = True


def sft_more(config) -> None:
  """Control: as many steps of cross-entropy on answers as GRPO has.

  It begins with what `sft` made (`STARTS`), and asks as many images a step of
  the scenes and families that GRPO asks about.
  """
  cooper(config)
  steps, batch = config.grpo.steps, config.grpo.batch
  config.pipeline = (*TRAINED, "evaluate")
  config.sft.update(steps=steps, batch=batch, expected_minutes=4.0)
  config.sft.direct_families = ()
  _slower(config)
  _share(config, direct=1.0)


ROWS = {
  "base": base_row,
  "amg": amg,
  "amg_exchanged": amg_exchanged,
  "amg_depth": amg_depth,
  "amg_segmentation": amg_segmentation,
  "amg_after": amg_after,
  "pe": pe,
  "re": re_row,
  "sft_text": sft_text,
  "sft": sft,
  "cooper": cooper,
  "cooper_no_format": cooper_no_format,
  "cooper_no_exploration": cooper_no_exploration,
  "cooper_answer": cooper_answer,
  "cooper_maps": cooper_maps,
  "shuffled": shuffled,
  "sft_more": sft_more,
}
ARMS = ("base", "amg", "amg_exchanged")
# Names of several rows, for --rows.
GROUPS = {
  "all": tuple(ROWS),
  "first": (*ARMS, "sft", "cooper", "shuffled", "sft_more"),
  "claim1": (*ARMS, "amg_depth", "amg_segmentation"),
  "claim2": tuple(ROWS)[tuple(ROWS).index("sft") :],
  "order": ("base-1000", "amg_after"),
  "curve": tuple(
    f"{arm}-{point}"
    for point in ("1000", "3000", "10000", "30000", "3000x500", "3000x2000")
    for arm in ARMS
  ),
}
# Row -> the row whose trained SFT it begins with, in place of a pretraining.
STARTS = {"sft_more": "sft", "amg_after": "base-1000"}
# Row -> the mode of use that its columns are of; adaptive where none is named.
MODES = dict.fromkeys(
  (
    "base",
    "amg",
    "amg_exchanged",
    "amg_depth",
    "amg_segmentation",
    "amg_after",
    "re",
  ),
  "text",
) | {"pe": "both"}
# Name -> (row, row that is subtracted, families). A row is asked in its mode
# after its last stage; "before" is its SFT in the best of the fixed modes.
COMPARISONS = {
  "amg - base": ("amg", "base", METRIC),
  "amg - amg_exchanged": ("amg", "amg_exchanged", METRIC),
  "amg_after - base-1000": ("amg_after", "base-1000", METRIC),
  "cooper - best fixed mode before": ("cooper", "before", UNTRACED),
  "cooper - sft_more": ("cooper", "sft_more", UNTRACED),
  "cooper - shuffled": ("cooper", "shuffled", UNTRACED),
}

# Claim -> the comparisons that have to be above 0, interval included.
CLAIMS = {
  "Claim 1, maps alone help distance and size": (
    "amg - base",
    "amg - amg_exchanged",
  ),
  "Claim 2, reinforcement helps the untraced families": (
    "cooper - best fixed mode before",
    "cooper - sft_more",
    "cooper - shuffled",
  ),
}
# Nothing is told where this row is hardly better than a constant.
BASE = "base"


def get_config(variant: str = "amg"):
  """Settings of a row, or of ROW:smoke, locked."""
  name, colon, small = variant.partition(":")
  if colon and small != "smoke":
    raise UserError(f'no "{small}" of row {name}; write {name}:smoke')
  point = POINT.fullmatch(name)
  row = point[1] if point else name
  if row not in ROWS or (point and row not in GROUPS["claim1"]):
    allowed = (*(GROUPS["claim1"] if point else ROWS),)
    more = (
      "" if point else ", and points of a curve, as amg-1000 or amg-3000x500"
    )
    raise UserError(
      f'no row "{name}"; there are {", ".join(allowed)}{more}'
      f"{nearest(row, allowed)}"
    )
  config = base.get_base("scratch", pipeline=(*TRAINED, "evaluate"))
  with config.unlocked():
    ROWS[row](config)
    if point:
      _label(config, int(point[2]), int(point[3] or config.sft.steps))
    if small:
      variants.shrink(config)
      config.data.train_scenes = 192
      config.sft.scenes = min(config.sft.scenes, 96)
    config.variant = small or name  # the report says what a smoke run is
  return config.lock()


def _label(config, scenes: int, steps: int) -> None:
  """So many labelled scenes, and steps of SFT."""
  config.sft.expected_minutes *= steps / config.sft.steps
  config.sft.update(scenes=scenes, steps=steps)
  if scenes > config.data.train_scenes:
    # One pretraining for all larger points; its first scenes are the others'.
    config.data.train_scenes = max(30_000, scenes)
