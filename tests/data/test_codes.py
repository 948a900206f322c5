"""Codes of maps by sample: whose they are, and wrong ones for traces."""

import numpy as np

from cooper_jax.data.codes import Codes


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
