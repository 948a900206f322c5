"""Codes of maps by sample: whose they are, and wrong ones for traces."""

import dataclasses

import numpy as np
import pytest

from cooper_jax.data.codes import Codes, exchanged
from cooper_jax.errors import UserError


def codes(rows):
  names = [f"s{i}" for i in range(len(rows))]
  return Codes(
    index={name: i for i, name in enumerate(names)},
    maps={"depth": np.array(rows, np.int32)},
    marked=np.zeros(len(rows), np.uint8),
    mark=np.zeros((len(rows), 4), np.int32),
  )


def test_a_wrong_map_is_that_of_another_sample_that_has_one():
  found = codes([[1, 2, 3, 4], [-1] * 4, [5, 6, 7, 8]])
  assert found.known("depth").tolist() == [0, 2]
  assert found.of("s1", "depth") is None
  for seed in range(9):
    rng = np.random.default_rng(seed)
    assert found.other("s0", "depth", rng).tolist() == [5, 6, 7, 8]


def test_the_only_map_of_the_data_is_no_wrong_one_of_itself():
  found = codes([[1, 2, 3, 4], [-1] * 4])
  rng = np.random.default_rng(0)
  assert found.other("s0", "depth", rng).tolist() == [3, 4, 1, 2]


@pytest.mark.parametrize("count", [2, 3, 7, 50])
def test_exchanged_maps_are_both_of_one_other_image(count):
  rows = np.arange(count)[:, None] * np.ones(4, np.int32)
  before = codes(rows)
  before = dataclasses.replace(
    before, maps={"depth": before.maps["depth"], "segmentation": rows + 100}
  )
  for seed in range(5):
    after = exchanged(before, seed=seed)
    depth, classes = (after.maps[m][:, 0] for m in ("depth", "segmentation"))
    assert (depth != np.arange(count)).all()
    assert sorted(depth) == [*range(count)]
    assert (classes == depth + 100).all()
    again = exchanged(before, seed=seed)
    assert (again.maps["depth"] == after.maps["depth"]).all()
  assert before.maps["depth"][1, 0] == 1  # it is left as it was


def test_an_image_exchanges_with_one_that_has_the_same_maps():
  found = exchanged(codes([[1] * 4, [-1] * 4, [5] * 4, [-1] * 4]), seed=0)
  assert found.maps["depth"][:, 0].tolist() == [5, -1, 1, -1]
  with pytest.raises(UserError, match="only one image has depth; add images"):
    exchanged(codes([[1] * 4, [-1] * 4]), seed=0)
