"""Segmentation scores from one confusion matrix over a whole data set.

Three numbers are called mIoU in papers and differ on the same maps (.32
against .47 in the test): the mean over classes that truth or prediction show,
over classes that the truth shows, and over all with absent ones as zero.
Summing the matrix first and dividing once is common to all of them.
"""

import numpy as np

from cooper_jax.modalities.segmentation import iou


def scores(matrix) -> dict[str, float]:
  """All scores of a confusion matrix [true class, drawn class].

  Every class counts here, also class 0; `modalities.segmentation.metrics`
  is the one that leaves background out. NaN where there is no pixel.
  """
  matrix = np.asarray(matrix, np.float64)
  each = iou(matrix)
  true = matrix.sum(1)
  total = true.sum()
  if not total:
    names = ("miou_union_present", "miou_gt_present", "miou_all_zero_fill")
    return dict.fromkeys(
      (*names, "pixel_acc", "mean_acc", "fw_iou"), float("nan")
    )
  shown = true > 0
  return {
    "miou_union_present": float(np.nanmean(each)),
    "miou_gt_present": float(np.mean(each[shown])),
    "miou_all_zero_fill": float(np.mean(np.nan_to_num(each))),
    "pixel_acc": float(np.trace(matrix) / total),
    "mean_acc": float(np.mean(np.diag(matrix)[shown] / true[shown])),
    "fw_iou": float(np.sum(true[shown] * each[shown]) / total),
  }
