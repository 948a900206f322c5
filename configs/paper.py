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
for eight families, the other eight are answered at once, and GRPO with answers
on all may find that thinking pays for them, too. And from the packaged model:
the same where the start can think about all (`elicited`), GRPO in words that
SFT never saw (`new_words`), and with a price of a map (`price`).
"""

import re

from configs import base, paper_rows, variants
from cooper_jax.errors import UserError, nearest

POINT = re.compile(r"([a-z_]+)-(\d{2,6})(?:x(\d{2,6}))?")  # of a curve
ROWS = {
  "base": paper_rows.base_row,
  "amg": paper_rows.amg,
  "amg_exchanged": paper_rows.amg_exchanged,
  "amg_depth": paper_rows.amg_depth,
  "amg_segmentation": paper_rows.amg_segmentation,
  "amg_after": paper_rows.amg_after,
  "pe": paper_rows.pe,
  "re": paper_rows.re_row,
  "sft_text": paper_rows.sft_text,
  "sft": paper_rows.sft,
  "cooper": paper_rows.cooper,
  "cooper_no_format": paper_rows.cooper_no_format,
  "cooper_no_exploration": paper_rows.cooper_no_exploration,
  "cooper_answer": paper_rows.cooper_answer,
  "cooper_maps": paper_rows.cooper_maps,
  "shuffled": paper_rows.shuffled,
  "sft_more": paper_rows.sft_more,
  "elicit_sft": paper_rows.elicit_sft,
  "elicit": paper_rows.elicit,
  "elicit_longer": paper_rows.elicit_longer,
  "elicit_shuffled": paper_rows.elicit_shuffled,
  "elicit_answer": paper_rows.elicit_answer,
  "elicit_more": paper_rows.elicit_more,
  "words": paper_rows.words,
  "words_longer": paper_rows.words_longer,
  "words_shuffled": paper_rows.words_shuffled,
  "words_more": paper_rows.words_more,
  "priced": paper_rows.priced,
  "unpriced": paper_rows.unpriced,
}
# Rows that begin with the packaged model, and are asked what it was.
PACKAGED = (
  "elicit_sft", "elicit", "elicit_longer", "elicit_shuffled", "elicit_answer",
  "elicit_more", "words", "words_longer", "words_shuffled", "words_more",
  "priced", "unpriced",
)  # fmt: skip
# Row -> the benchmark that its columns are of; the test split of all others.
BENCHMARKS = dict.fromkeys(
  ("words", "words_longer", "words_shuffled", "words_more"),
  paper_rows.REPHRASED,
)
ARMS = ("base", "amg", "amg_exchanged")
# Names of several rows, for --rows.
GROUPS = {
  "all": tuple(ROWS),
  "first": (*ARMS, "sft", "cooper", "shuffled", "sft_more"),
  "claim1": (*ARMS, "amg_depth", "amg_segmentation"),
  "claim2": tuple(ROWS)[tuple(ROWS).index("sft") : -len(PACKAGED)],
  "elicited": ("elicit", "elicit_shuffled", "elicit_answer", "elicit_more"),
  "new_words": ("words", "words_shuffled", "words_more"),
  "longer": ("elicit_longer", "words_longer"),
  "price": ("priced", "unpriced"),
  "order": ("base-1000", "amg_after"),
  "curve": tuple(
    f"{arm}-{point}"
    for point in ("1000", "3000", "10000", "30000", "3000x500", "3000x2000")
    for arm in ARMS
  ),
}
# Row -> the row whose trained SFT it begins with, in place of a pretraining.
STARTS = {
  "sft_more": "sft",
  "elicit_more": "elicit_sft",
  "amg_after": "base-1000",
}
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
# after its last stage; "before" is its SFT in the best of the fixed modes, and
# "free before" in the row's own mode; with "test split" both are asked that in
# place of the row's benchmark.
COMPARISONS = {
  "amg - base": ("amg", "base", paper_rows.METRIC),
  "amg - amg_exchanged": ("amg", "amg_exchanged", paper_rows.METRIC),
  "amg_after - base-1000": ("amg_after", "base-1000", paper_rows.METRIC),
  "cooper - best fixed mode before": ("cooper", "before", paper_rows.UNTRACED),
  "cooper - sft_more": ("cooper", "sft_more", paper_rows.UNTRACED),
  "cooper - shuffled": ("cooper", "shuffled", paper_rows.UNTRACED),
  "elicit - best fixed mode before": ("elicit", "before", paper_rows.UNTRACED),
  "elicit - free before": ("elicit", "free before", paper_rows.UNTRACED),
  "elicit_answer - free before": (
    "elicit_answer",
    "free before",
    paper_rows.UNTRACED,
  ),
  "elicit - elicit_more": ("elicit", "elicit_more", paper_rows.UNTRACED),
  "elicit - elicit_shuffled": (
    "elicit",
    "elicit_shuffled",
    paper_rows.UNTRACED,
  ),
  "elicit_longer - best fixed mode before": (
    "elicit_longer",
    "before",
    paper_rows.UNTRACED,
  ),
  "elicit_longer - elicit": ("elicit_longer", "elicit", paper_rows.UNTRACED),
  "words - best fixed mode before": ("words", "before", ()),
  "words - free before": ("words", "free before", ()),
  "words in usual words - free before": (
    "words",
    "free before, test split",
    (),
  ),
  "words_longer - best fixed mode before": ("words_longer", "before", ()),
  "words_longer in usual words - free before": (
    "words_longer",
    "free before, test split",
    (),
  ),
  "words_longer - words": ("words_longer", "words", ()),
  "words - words_more": ("words", "words_more", ()),
  "words - words_shuffled": ("words", "words_shuffled", ()),
  "priced - best fixed mode before": ("priced", "before", ()),
  "priced - unpriced": ("priced", "unpriced", ()),
  "unpriced - best fixed mode before": ("unpriced", "before", ()),
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
  "Claim 2, reinforcement elicits thinking that SFT left out": (
    "elicit - best fixed mode before",
    "elicit - elicit_more",
    "elicit - elicit_shuffled",
  ),
  "Claim 2, reinforcement learns words that SFT never saw": (
    "words - best fixed mode before",
    "words - words_more",
    "words - words_shuffled",
  ),
}
# Claim -> the row without which nothing is told of it: that must be well above
# a constant. What the packaged model knows, nobody doubts.
BASE = dict.fromkeys(tuple(CLAIMS)[:2], "base")


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
  packaged = row in PACKAGED and not small
  config = base.get_base(
    "tiny" if packaged else "scratch",
    pipeline=(*paper_rows.TRAINED, "evaluate"),
  )
  with config.unlocked():
    ROWS[row](config)
    if point:
      paper_rows.label(config, int(point[2]), int(point[3] or config.sft.steps))
    if small:
      asked = config.evaluate.heldout_questions
      variants.shrink(config)
      config.evaluate.heldout_questions *= asked > 0
      config.data.train_scenes = 192
      config.sft.scenes = min(config.sft.scenes, 96)
    config.variant = small or name  # the report says what a smoke run is
  return config.lock()
