"""Benchmarks, one per file: what is asked, and how the answers are scored.

A file here is found by its name (`plugins.find("benchmarks", name)`) and asked
where `config.evaluate.benchmarks` names it. It must hold

  TITLE: str, as the report says it;
  items(config) -> list[Item]: every question, put as the benchmark puts it,
    with its image. `config` is the run's whole config. Raises UserError at
    once where a file is missing or a line of it is wrong, and reads its own
    layout: Parquet, TSV, a folder, a split of a source.

An `Item` is a `Sample` (of it only `id` and `image`, u8 [side, side, 3] with
side = `config.data.image_size` pixels, are needed; and its `camera`, of these
pixels, by a model that is told the lens) and a `Question`. Its
`family` is the benchmark's sub-category, its `text` the whole prompt: letters
count as answers where the text shows them, "(A) left (B) right", with the
options' texts in `options` and the right one's text in `answer`. A prompt has
one image; several are laid out in one with `montage`. It may hold

  grade(text, item) -> Grade: the benchmark's own grader of one response;
    `questions.grade_of` by default.
  score(items, grades) -> {metric: values}: [n] of what is averaged, shown with
    its n and 95 % interval, or a number that stands as it is (a mean of
    sub-categories, a share of circular groups that are right in all their
    turns). By default `accuracy` and `accuracy/<family>`.
  training(config) -> Iterable[Question]: what the blind baselines learn from. A
    benchmark without it has chance beside its scores, and no more.
  MODES: modes of use to ask in beside the free one, as ("direct", "depth");
    those that the policy was not trained for are left out. () by default.
  KEY: what its keys of summary.json begin with; `benchmarks/<name>` by
    default, as in `benchmarks/<name>/<metric>[/<mode>]/<stage>`.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image


def montage(images: Sequence[np.ndarray], size: int) -> np.ndarray:
  """Lays out images u8 [H, W, 3] as one, u8 [size, size, 3], in reading order.

  In a grid of as few rows and columns as hold them, black where there is none.
  """
  side = math.ceil(math.sqrt(len(images)))
  edges = np.linspace(0, size, side + 1).astype(int)
  page = np.zeros((size, size, 3), np.uint8)
  for k, image in enumerate(images):
    top, bottom = edges[k // side : k // side + 2]
    left, right = edges[k % side : k % side + 2]
    small = Image.fromarray(image).resize(
      (int(right - left), int(bottom - top)), Image.Resampling.BOX
    )
    page[top:bottom, left:right] = small
  return page
