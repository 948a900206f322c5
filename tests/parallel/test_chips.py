"""Slices by name: how many chips, how many devices, and what is no slice."""

import pytest

from cooper_jax.errors import UserError
from cooper_jax.parallel import chips


@pytest.mark.parametrize(
  ("name", "count", "devices"),
  [
    ("v5e:4x4", 16, 16),
    ("v6e:16x16", 256, 256),
    ("v5p:4x4x8", 128, 128),
    ("v4:2x2x2", 8, 8),
    ("tpu7x:2x2x1", 4, 8),  # two devices a chip
    ("v5e:16x16,num_slices=2", 512, 512),
    ("h100:8,num_slices=2", 16, 16),
  ],
)
def test_a_slice_has_chips_and_devices(name, count, devices):
  found = chips.find_slice(name)
  assert (found.chips, found.devices, found.name) == (count, devices, name)
  assert found.topology == name.partition(",")[0]


@pytest.mark.parametrize("name", chips.LISTED)
def test_what_is_listed_is_a_slice(name):
  assert chips.find_slice(name).name == name


@pytest.mark.parametrize(
  ("name", "said"),
  [
    ("v7x:4x4", "with a chip of v4, v5e.*did you mean"),
    ("v5litepod-16", "write CHIP:SIZES"),
    ("v5e", "write CHIP:SIZES"),
    ("v5p:4x4", "has 2 sizes, a slice of v5p has 3"),
    ("v6e:32x32", "has 1024 chips"),
    ("v6e:4x4,num_slices=0", "0 slices"),
    ("v6e:0x4", "has 0 chips"),
  ],
)
def test_what_is_no_slice_is_refused(name, said):
  with pytest.raises(UserError, match=said):
    chips.find_slice(name)
