"""The picture of drawn maps has a row a scene and says what has no truth."""

import types

import numpy as np
import pytest

from cooper_jax.data import mixture
from cooper_jax.rollouts import validation_pictures
from tests.rl.toy import CONFIG, ITEMS, POLICY, codecs, fresh


@pytest.mark.ci
@pytest.mark.parametrize("scenes", [1, 9])
def test_a_few_validation_scenes_are_drawn(monkeypatch, scenes):
  opened = []

  def open_split(config, split):
    opened.append(split)
    return [None, *[ITEMS[0].sample] * scenes]  # a bad one, left out

  monkeypatch.setattr(mixture, "open_split", open_split)
  images = validation_pictures.drawn(CONFIG, POLICY, codecs())
  state = types.SimpleNamespace(params=fresh().params)
  (first,) = images(1, state).values()
  images(2, state)
  assert opened == ["validation"]  # once, and not before it is needed
  count = min(scenes, validation_pictures.SCENES)
  # 16 pixels a picture, 2 between: image, depth, depth, classes, classes.
  assert first.shape == (16 * count + 2 * (count - 1), 16 * 5 + 2 * 4, 3)
  assert first.dtype == np.uint8
  np.testing.assert_array_equal(first[:16, :16], ITEMS[0].sample.image)
  # The toy has no classes: a white hole where the true ones would be.
  assert (first[:16, 3 * 18 : 3 * 18 + 16] == 255).all()
  assert not (first[:16, 4 * 18 : 4 * 18 + 16] == 255).all()


def test_true_and_drawn_depth_share_a_scale():
  depth = ITEMS[0].sample.maps["depth"]
  sample = ITEMS[0].sample
  same = validation_pictures.sheet([sample], {"depth": depth[None]}, codecs())
  np.testing.assert_array_equal(same[:, 18:34], same[:, 36:52])
  twice = validation_pictures.sheet(
    [sample], {"depth": 2 * depth[None]}, codecs()
  )
  assert (twice[:, 18:34] != twice[:, 36:52]).any()
