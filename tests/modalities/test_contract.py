"""Every modality that is found offers the whole contract."""

import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax import modalities, plugins


@pytest.mark.parametrize("name", plugins.names("modalities"))
def test_modality_is_complete(name):
  module = plugins.find("modalities", name)
  parts = (*modalities.REQUIRED, *modalities.OPTIONAL)
  assert all(hasattr(module, part) for part in parts)


def test_slots_are_distinct():
  slots = [
    plugins.find("modalities", name).MODALITY_ID
    for name in plugins.names("modalities")
  ]
  assert len(set(slots)) == len(slots)


@pytest.mark.parametrize("name", ["depth", "segmentation"])
def test_a_map_goes_in_and_out(name):
  module = plugins.find("modalities", name)
  target = np.ones((2, 8, 8), np.float32 if name == "depth" else np.uint8)
  target[:, 4:] = 3
  inputs = module.to_input(target)
  assert inputs.shape == (2, 8, 8, module.CHANNELS)
  outputs = jnp.ones((2, 8, 8, module.OUTPUTS))
  assert module.from_output(outputs).shape == target.shape
  total, weight = module.loss(outputs, target)
  assert total.shape == weight.shape == () and weight > 0
  chosen = modalities.only(target[0], np.eye(8, dtype=np.uint8), 1)
  assert np.count_nonzero(chosen) == 8
