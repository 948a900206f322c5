"""The record survives its bytes."""

import msgpack
import numpy as np
import pytest

from cooper_jax import sample


def _sample(**changes):
  rng = np.random.default_rng(0)
  normals = rng.normal(size=(8, 8, 3))
  normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
  question = sample.Question(
    family="closer",
    text="Which is closer , the red ball or the blue table ?",
    answer="red ball",
    answer_type="choice",
    options=("red ball", "blue table"),
    needs=("depth",),
    evidence={"ids": [1, 2], "depth": 2.5},
  )
  fields = {
    "id": "scenes/train/0",
    "source": "scenes",
    "image": rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
    "maps": {
      "depth": rng.uniform(0.3, 12, (8, 8)).astype(np.float32),
      "segmentation": rng.integers(0, 13, (8, 8), dtype=np.uint8),
      "normals": normals.astype(np.float32),
    },
    "instances": rng.integers(0, 6, (8, 8), dtype=np.uint8),
    "camera": np.eye(3, dtype=np.float32),
    "questions": (question,),
    "grounding": (question,),
  }
  return sample.Sample(**{**fields, **changes})


def test_sample_survives_its_bytes():
  before = _sample()
  after = sample.from_bytes(sample.to_bytes(before, unit=("normals",)))
  assert (after.id, after.source) == (before.id, before.source)
  assert after.questions == before.questions
  assert after.grounding == before.grounding
  for name in ("image", "instances", "camera"):
    kept = getattr(after, name)
    np.testing.assert_array_equal(kept, getattr(before, name))
    assert kept.dtype == getattr(before, name).dtype
  classes = after.maps["segmentation"]
  np.testing.assert_array_equal(classes, before.maps["segmentation"])
  assert classes.dtype == np.uint8 and after.maps["depth"].dtype == np.float32
  # Half precision keeps 11 bits: 2^-11 = 4.9e-4 relative.
  np.testing.assert_allclose(
    after.maps["depth"], before.maps["depth"], rtol=5e-4
  )
  # A byte per axis: 1/254 rounding, a little more after normalising.
  np.testing.assert_allclose(
    after.maps["normals"], before.maps["normals"], atol=0.01
  )
  np.testing.assert_allclose(
    np.linalg.norm(after.maps["normals"], axis=-1), 1, 1e-5
  )


def test_unknown_maps_stay_unknown():
  before = _sample(maps={}, instances=None, camera=None)
  after = sample.from_bytes(sample.to_bytes(before))
  assert after.maps == {}
  assert after.instances is None and after.camera is None


@pytest.mark.parametrize("data", [b"", b"\x00", b"hello", b"\x81"])
def test_foreign_bytes_are_refused(data):
  with pytest.raises(ValueError, match="not a sample record"):
    sample.from_bytes(data)


def test_another_layout_version_is_refused():
  data = msgpack.packb({"version": sample.VERSION + 1})
  with pytest.raises(ValueError, match="delete the cache"):
    sample.from_bytes(data)
