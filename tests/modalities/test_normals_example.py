"""The modality of docs/extend.md does what the contract asks, in one file."""

import importlib.util
import pathlib
import re
import types

import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax import modalities, plugins

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "extend.md"


@pytest.fixture(name="normals")
def fixture_normals(tmp_path):
  text = re.search(
    r'```python\n("""Surface normals.*?)```', PAGE.read_text(), re.DOTALL
  )
  path = tmp_path / "normals.py"
  path.write_text(text[1])
  assert len([line for line in text[1].splitlines() if line.strip()]) <= 40
  spec = importlib.util.spec_from_file_location("normals", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def up(size=8):
  """Floor below (up), a wall facing the camera above."""
  target = np.zeros((size, size, 3), np.float32)
  target[: size // 2] = (0, 0, -1)
  target[size // 2 :] = (0, -1, 0)
  return target


def test_it_offers_the_whole_contract_and_its_own_slot(normals):
  assert all(hasattr(normals, part) for part in modalities.REQUIRED)
  taken = [
    plugins.find("modalities", n).MODALITY_ID for n in ("depth", "segmentation")
  ]
  assert normals.MODALITY_ID not in taken


def test_it_scores_angles(normals):
  target = up()
  sample = types.SimpleNamespace(normals=target)
  assert normals.read(sample) is target
  total, weight = normals.loss(3.0 * jnp.asarray(target)[None], target[None])
  assert float(total / weight) == pytest.approx(0.0, abs=1e-5)
  # A quarter of the pixels is 90 degrees off.
  wrong = target.copy()
  wrong[:2] = (0, -1, 0)
  stats = normals.statistics(wrong[None], target[None])
  assert normals.metrics(stats)["degrees"] == pytest.approx(22.5)
  assert normals.quality(wrong, target) == pytest.approx(0.5)
  assert normals.quality(target, target) == pytest.approx(1.0)
  assert normals.quality(np.ones_like(target) / 3**0.5, target) == 0.0


def test_it_ignores_unknown_pixels(normals):
  target = up()
  target[:2] = 0
  drawn = up()
  drawn[:2] = (1, 0, 0)
  stats = normals.statistics(drawn[None], target[None])
  assert normals.metrics(stats)["degrees"] == pytest.approx(0.0, abs=1e-3)


def test_it_draws_and_corrupts(normals):
  assert normals.picture(up()).shape == (8, 8, 3)
  wrong = normals.corrupt(up(), np.random.default_rng(0))
  assert np.any(wrong != up())
  assert normals.constant(np.stack([up(), up()])).shape == (8, 8, 3)
