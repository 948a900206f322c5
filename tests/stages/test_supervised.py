"""How text and maps share the loss."""

import pytest
from ml_collections import ConfigDict

from cooper_jax.stages import supervised


def test_maps_share_their_weight_and_a_new_modality_counts_one():
  settings = ConfigDict(
    {"map_weight": 2.0, "modality_weights": {"segmentation": 3.0}}
  )
  two = supervised.loss_shares(settings, (("depth", 0), ("segmentation", 1)))
  assert two == {"text": 1.0, "map0": 0.5, "map1": 1.5}
  three = supervised.loss_shares(
    settings, (("depth", 0), ("segmentation", 1), ("normals", 2))
  )
  assert three["map0"] == three["map2"] == pytest.approx(0.4)
  assert sum(three.values()) == pytest.approx(3.0)
