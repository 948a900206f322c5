"""The image encoder on pictures of any shape: places, windows, mergers."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from cooper_jax import errors
from cooper_jax.models import patches, stem, vision
from cooper_jax.models.config import VisionConfig
from tests import tiny

MERGED = VisionConfig(
  image_size=24,
  patch=4,
  width=16,
  layers=3,
  heads=2,
  ffn=12,
  stem="linear",
  frames=2,
  position="resized",
  position_side=5,
  rope_theta=100.0,
  merge=2,
  deepstack=(0, 2),
)
WINDOWS = dataclasses.replace(
  MERGED,
  stem_bias=False,
  norm="rms",
  gated=True,
  position="none",
  position_side=0,
  deepstack=(),
  window=2,
  mean=(0.4, 0.5, 0.6),
  deviation=(0.2, 0.3, 0.4),
)
PLAIN = dataclasses.replace(tiny.make_config().vision, layers=2)
CONV = VisionConfig(image_size=24, patch=4, width=16, layers=2, heads=2, ffn=12)
GRIDS = ((6, 6), (4, 8), (2, 6))  # in patches
positions = jax.jit(patches.positions, static_argnames="kind")


@functools.cache
def made(config, seed=0):
  """(module, parameters, none of them zero or one)."""
  module = vision.Vision(config, 10, "float32", "float32")
  side = config.image_size
  zeros = np.zeros((1, side, side, 3), np.uint8)
  shapes = tiny.nn.unbox(
    jax.eval_shape(module.init, jax.random.key(seed), zeros)
  )
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    around = 1.0 if path[-1].key == "scale" else 0.0
    return rng.normal(around, 0.3, leaf.shape).astype("f4")

  return jax.jit(module.apply), jax.tree_util.tree_map_with_path(draw, shapes)


def batch(config, rng, most=36):
  """Patches of pictures of other shapes, padded with what is not seen."""
  shape = (len(GRIDS), most)
  found = patches.Patches(
    values=rng.normal(size=(*shape, config.values)).astype("f4"),
    row=rng.integers(0, 9, shape, dtype=np.int32),
    column=rng.integers(0, 9, shape, dtype=np.int32),
    exists=np.zeros(shape, bool),
  )
  for i, grid in enumerate(GRIDS):
    count = np.prod(grid)
    found.row[i, :count], found.column[i, :count] = patches.places(*grid, 2)
    found.exists[i, :count] = True
  return found


@pytest.mark.parametrize("config", [MERGED, WINDOWS, PLAIN])
def test_squares_are_patches_like_any_others(config):
  apply, params = made(config)
  side = config.image_size
  image = np.random.default_rng(1).integers(0, 256, (2, side, side, 3), "u1")
  pixels = patches.normalised(image, config, "float32")
  one, deep = apply(params, image)
  other, deeper = apply(params, patches.from_pixels(pixels, config))
  assert one.shape == (2, config.cells, 10)
  np.testing.assert_allclose(one, other, atol=2e-5)
  if config.deepstack:
    assert deep.shape == (2, *one.shape)
    np.testing.assert_allclose(deep, deeper, atol=2e-5)
  else:
    assert deep is None


def test_behind_a_conv_stem_those_of_a_cell_merge():
  config = dataclasses.replace(CONV, layers=0, merge=2)
  apply, params = made(config)
  image = np.random.default_rng(1).integers(0, 256, (2, 24, 24, 3), "u1")
  found, _ = apply(params, image)
  parts, dtypes = params["params"], ("float32", "float32")
  x = stem.ConvStem(config, *dtypes).apply(
    {"params": parts["stem"]}, patches.normalised(image, config, "float32")
  )
  x = (x + parts["position"]).reshape(2, 6, 6, -1)
  for row, column in np.ndindex(3, 3):
    four = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
    wanted = vision.Merger(config, 10, *dtypes, False).apply(
      {"params": parts["merger"]}, four.reshape(2, 4, -1)
    )
    np.testing.assert_allclose(
      found[:, 3 * row + column], wanted[:, 0], atol=2e-5
    )


@pytest.mark.parametrize("stem_kind", ["conv", "linear"])
@pytest.mark.parametrize(
  "changes",
  [
    {"rope_theta": 100.0},
    {"window": 1},
    {"position": "resized", "position_side": 6},
  ],
)
def test_squares_have_places_where_something_asks_for_them(stem_kind, changes):
  plain = dataclasses.replace(CONV, stem=stem_kind, merge=0)
  image = np.random.default_rng(1).integers(0, 256, (2, 24, 24, 3), "u1")
  _, params = made(plain)
  one, other = (
    made(config)[0](params, image)[0]
    for config in (plain, dataclasses.replace(plain, **changes))
  )
  same = "position" in changes  # a table of a square's own size
  assert (np.abs(one - other).max() < 1e-4) == same


@pytest.mark.parametrize("stem_kind", ["conv", "linear"])
def test_squares_stretch_a_table_of_another_size(stem_kind):
  """As a table does that has what the stretched one has at each patch."""
  small = dataclasses.replace(
    CONV, stem=stem_kind, merge=0, position="resized", position_side=3
  )
  _, params = made(small)
  row, column = patches.places(6, 6, 1)
  given = patches.Patches(np.zeros((1, 36, 1)), row[None], column[None])
  table = params["params"]["position"]
  whole = positions(table, given, kind="resized")[0]
  wide = {"params": {**params["params"], "position": whole}}
  image = np.random.default_rng(1).integers(0, 256, (2, 24, 24, 3), "u1")
  own = dataclasses.replace(small, position="grid", position_side=0)
  np.testing.assert_allclose(
    made(small)[0](params, image)[0], made(own)[0](wide, image)[0], atol=1e-5
  )
  assert np.std(table) > 0


@pytest.mark.parametrize("config", [MERGED, WINDOWS])
def test_padding_and_the_order_of_cells_change_nothing(config):
  rng = np.random.default_rng(2)
  apply, params = made(config)
  given = batch(config, rng)
  found = apply(params, given)
  assert np.std(found[0]) > 0.1
  moved, orders = batch(config, rng), []  # with other padding
  for i, grid in enumerate(GRIDS):
    orders.append(rng.permutation(np.prod(grid) // 4))
    at = (4 * orders[i][:, None] + np.arange(4)).reshape(-1)
    for name in ("values", "row", "column"):
      getattr(moved, name)[i, : len(at)] = getattr(given, name)[i, at]
  # The last one alone, too, without any padding.
  last = jax.tree.map(lambda x: x[-1:, : len(at)], moved)
  alone = apply(params, last.replace(exists=None))
  again = apply(params, moved)
  for i, order in enumerate(orders):
    there = slice(len(order))
    for (features, deep), at in ((again, i), (alone, 0))[: 1 + (i == 2)]:
      np.testing.assert_allclose(
        features[at, there], found[0][i, order], atol=5e-5
      )
      if deep is not None:
        np.testing.assert_allclose(
          deep[:, at, there], found[1][:, i, order], atol=5e-5
        )


def test_windows_end_where_they_end():
  """Of a patch that changes, its window alone, where no layer sees all."""
  for full, changes in (((), False), ((1,), True)):
    config = dataclasses.replace(WINDOWS, full_layers=full)
    apply, params = made(config)
    given = batch(config, np.random.default_rng(3))
    one, _ = apply(params, given)
    # A copy: what was given may still be read.
    values = given.values.copy()
    values[0, 0] += 1.0
    other, _ = apply(params, given.replace(values=values))
    moved = np.abs(np.asarray(one - other)[0, :9]).max(axis=-1).reshape(3, 3)
    # 3 x 3 cells: the first window has 2 x 2 of them.
    assert (moved[:2, :2] > 1e-4).all()
    rest = np.concatenate([moved[2], moved[:2, 2]])
    assert (rest > 1e-5).all() if changes else not rest.any()


def test_a_square_of_the_table_s_own_size_is_the_table():
  rng = np.random.default_rng(4)
  table = rng.normal(size=(25, 6)).astype("f4")
  row, column = patches.places(5, 5, 1)
  given = patches.Patches(np.zeros((1, 25, 1)), row[None], column[None])
  for kind in ("grid", "averaged", "resized"):
    found = positions(table, given, kind=kind)
    np.testing.assert_allclose(found[0], table, atol=1e-6)


def test_a_table_is_stretched_from_corner_to_corner():
  """Of a table that is 10 * row + column: between its corners it is even."""
  table = (10.0 * np.arange(5)[:, None] + np.arange(5)).reshape(25, 1)
  row, column = patches.places(3, 9, 1)
  given = patches.Patches(np.zeros((1, 27, 1)), row[None], column[None])
  found = positions(table, given, kind="resized")[0].reshape(3, 9)
  wanted = np.linspace(0, 40, 3)[:, None] + np.linspace(0, 4, 9)
  np.testing.assert_allclose(found, wanted, atol=1e-4)
  one = patches.Patches(np.zeros((1, 1, 1)), row[None, :1], column[None, :1])
  assert positions(table, one, kind="resized")[0, 0, 0] == 0


def test_a_cell_s_patches_are_neighbours():
  row, column = patches.places(4, 6, 2)
  assert row[:8].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
  assert column[:8].tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
  assert (row[12:] >= 2).all()


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"image_size": 28}, "patch 4 times the 2 merged"),
    ({"position": "sines"}, "position is 'sines'; allowed: grid, averaged"),
    ({"position_side": 0}, "position=resized has position_side=0"),
    ({"norm": "batch"}, "norm is 'batch'; allowed: layer, rms"),
    ({"heads": 8}, "heads of a multiple of 4"),
    ({"mean": (0.5,)}, r"mean is \(0.5,\); give three"),
    ({"deviation": (0.5, 0.0, 1.0)}, "allowed: above 0"),
    (
      {"deepstack": (2, 0)},
      r"deepstack is \(2, 0\); allowed: layers of 0 to 2",
    ),
    ({"deepstack": (3,)}, "allowed: layers of 0 to 2, in order, each once"),
    ({"merge": 0}, "deepstack needs a merger"),
    ({"cell_table": True}, "merge=2 has none of; turn one off"),
    ({"stem": "conv"}, "stem=conv has a bias and one frame"),
    ({"stem": "conv", "frames": 1, "stem_bias": False}, "has a bias and one"),
  ],
)
def test_what_does_not_go_together_is_refused(changes, said):
  with pytest.raises(errors.UserError, match=said):
    dataclasses.replace(MERGED, **changes)
  with pytest.raises(errors.UserError, match=r"rope_sections is \(1, 1, 1\)"):
    tiny.make_config(rope_sections=(1, 1, 1))
