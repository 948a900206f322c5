"""Quality of drawn maps, per map and per rollout."""

import numpy as np

from cooper_jax.grading.map_quality import map_quality, mean_quality
from cooper_jax.rollouts.response import DrawnMap, Responses

RAMP = np.geomspace(1, 8, 64).reshape(8, 8)
CLASSES = np.repeat(np.array([1, 4], np.uint8), 32).reshape(8, 8)
FLAT = np.full((8, 8), 2.0)


def _drawn(modality, target):
  return DrawnMap(modality, np.zeros(4, np.int32), target)


def test_each_map_is_compared_with_the_truth_of_its_kind():
  view = Responses.from_texts(
    ["a", "b", "c"],
    maps=[
      (_drawn("segmentation", CLASSES), _drawn("depth", FLAT)),
      (),
      (_drawn("depth", RAMP),),
    ],
  )
  columns = {"depth": [RAMP, RAMP, None], "segmentation": [CLASSES] * 3}
  got = map_quality(view, columns)
  np.testing.assert_allclose(got, [[1, 0], [np.nan] * 2, [np.nan] * 2])
  np.testing.assert_allclose(
    mean_quality(view, columns, "depth"), [0, np.nan, np.nan]
  )
  assert np.isnan(map_quality(view, {})).all()
  assert np.isnan(mean_quality(view, {}, "depth")).all()


def test_no_maps_at_all_make_no_columns():
  view = Responses.from_texts(["a", "b"])
  assert map_quality(view, {"depth": [RAMP, RAMP]}).shape == (2, 0)
