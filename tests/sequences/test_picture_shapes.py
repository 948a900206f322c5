"""Pictures of several shapes in one batch: cells, places and maps by shape."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from cooper_jax import errors
from cooper_jax.models import patches, unified
from cooper_jax.rollouts import response
from cooper_jax.sampling import prompts
from cooper_jax.sequences import markup, packing, segments
from tests import tiny
from tests.models import test_vision
from tests.sampling import test_exactness

SQUARES = dataclasses.replace(
  test_vision.MERGED, patch=3, layers=2, deepstack=()
)
SHAPED = dataclasses.replace(SQUARES, shapes=((12, 30), (36, 18)))


@functools.cache
def both():
  """(model, form, params) of squares alone and of several shapes: alike but
  for rows of locations that squares have not."""
  wide = tiny.make(2, vision=SHAPED, tied_head=False)
  return tiny.make(2, vision=SQUARES, tied_head=False), wide


@pytest.mark.ci
def test_patches_are_those_of_each_picture_alone():
  _, form, _ = both()[1]
  rng = np.random.default_rng(0)
  images = [
    rng.integers(0, 256, (*sides, 3), np.uint8)
    for sides in ((36, 18), (24, 24), (12, 30), (36, 18))
  ]
  trunks = [
    (segments.Image(a), segments.Image(b), tiny.random_text(rng, form))
    for a, b in (images[:2], images[2:])
  ]
  batch = packing.pack(
    [segments.Document(trunk) for trunk in segments.unlearned(trunks)],
    form=form,
    shape=packing.Shape(length=48, texts=0, codes=0, images=2),
    rows=2,
  )
  np.testing.assert_array_equal(batch["image_shape"], [[2, 0], [1, 2]])
  flat = jax.tree.map(
    lambda x: x.reshape(-1, *x.shape[2:]), packing.pictures(batch)
  )
  found = patches.of_pictures(flat, SHAPED, "float32")
  cells = form.model.locations
  assert found.values.shape == (4, cells * 4, SHAPED.values) and cells == 18
  for i, image in enumerate(images):
    pixels = patches.normalised(image[None], SHAPED, "float32")
    alone = patches.from_pixels(pixels, SHAPED)
    count = alone.values.shape[1]
    np.testing.assert_array_equal(found.exists[i], np.arange(72) < count)
    for name in ("values", "row", "column"):
      mine = getattr(found, name)[i, :count]
      np.testing.assert_array_equal(mine, getattr(alone, name)[0])
    # Each cell is in the row, and none that the picture has not.
    row, start = i // 2, i % 2 * cells
    at = batch["image_at"][row, start : start + cells]
    assert (at >= 0).sum() == count // 4 and (at[count // 4 :] == -1).all()
    there = at[: count // 4]
    np.testing.assert_array_equal(
      batch["cell"][row, there], start + np.arange(count // 4)
    )
    assert (batch["kind"][row, there] == unified.IMAGE).all()


@pytest.mark.ci
def test_squares_are_what_they_are_without_other_shapes():
  """Behind a square hidden states are the same to rounding, packed and not."""
  (squares, form, params), (shaped, wider, more) = both()
  taken = jax.tree.map(
    lambda a, b: a if a.shape == b.shape else None, params, more
  )
  inner, other = dict(taken["params"]), params["params"]
  # Rows of locations lie between those of words and of codes.
  lost = wider.model.locations - form.model.locations
  for name in ("embedding", "head"):
    rows = np.split(other[name], [form.vocabulary.codes_start])
    empty = np.zeros((lost, rows[0].shape[1]), np.float32)
    inner[name] = np.concatenate([rows[0], empty, rows[1]])
  taken = {"params": inner}
  rng = np.random.default_rng(3)
  image, text = tiny.random_image(rng, form), tiny.random_text(rng, form, 5, 9)
  drawn = tiny.random_map(rng, form, 1)
  document = segments.Document((segments.Image(image), text, drawn, text))
  hidden = []
  for model, each, weights in (
    (squares, form, params),
    (shaped, wider, taken),
  ):
    shape = packing.Shape(length=72, texts=20, codes=16)
    batch = packing.pack([document], form=each, shape=shape)
    tokens, layout = packing.inputs(batch)
    found, _, _ = model.apply(weights, tokens, layout, packing.pictures(batch))
    hidden.append(np.asarray(found)[batch["document"] > 0])
  assert len(hidden[0]) > 40
  np.testing.assert_allclose(hidden[1], hidden[0], atol=2e-5)


@pytest.mark.parametrize("shape", [0, 1, 2])
def test_cells_maps_and_squares_are_matched_by_their_places(shape):
  _, form, _ = both()[1]
  model = dataclasses.replace(form.model, map_grid=3)
  rows, columns = model.vision.grids[shape]
  layout = segments.map_layout(model, shape)
  for query, cell in zip(layout["query"], layout["cell"], strict=True):
    if query < 0:
      assert cell == -1
      continue
    y, x = (query // 3) / 3, (query % 3) / 3
    # The corner of a map's cell lies in the image's cell.
    assert cell == int(y * rows + 1e-9) * columns + int(x * columns + 1e-9)
  for table, side in (
    (segments.cells_under(model, shape), 3),
    (segments.squares_under(model, shape), 4),
  ):
    assert len(table) == 18 and not table[rows * columns :].any()
    for cell in range(rows * columns):
      y, x = (cell // columns) / rows, (cell % columns) / columns
      assert table[cell] == int(y * side + 1e-9) * side + int(x * side + 1e-9)


def test_a_place_is_written_and_read_by_the_shape_of_its_picture():
  _, form, _ = both()[1]
  encoder = markup.MarkupEncoder(form, None, ())
  rng = np.random.default_rng(1)
  for shape, (rows, columns) in enumerate(form.model.vision.grids):
    for y, x in rng.random((20, 2)):
      cell = encoder.cell(y, x, shape)
      assert 0 <= cell < rows * columns
      token = form.vocabulary.location(cell)
      text = response._read(
        np.array([token]), np.array([1]), (rows, columns), form.vocabulary,
        None, {},
      )  # fmt: skip
      _, row, column = text.strip("<>").split()
      assert abs(float(row) - y) <= 0.5 / rows + 1e-3
      assert abs(float(column) - x) <= 0.5 / columns + 1e-3


@pytest.mark.ci
def test_a_place_that_a_picture_has_not_is_never_named():
  model, form, params = both()[1]
  params = test_exactness.eager_to_draw(params, form)
  rng = np.random.default_rng(5)
  made = [
    (
      segments.Image(rng.integers(0, 256, (12, 30, 3), np.uint8)),
      tiny.random_text(rng, form, pointing=0.0),
    )
    for _ in range(4)
  ]
  out = test_exactness.run(model, form, params, made, range(12), length=32)
  start = form.vocabulary.locations_start
  named = out.tokens[(out.tokens >= start) & (out.state == 1)] - start
  named = named[named < form.model.locations]
  assert len(named) > 5 and named.max() < 10
  np.testing.assert_array_equal(out.image_shape, np.ones(12))


def test_a_prompt_ends_where_its_text_does():
  _, form, _ = both()[1]
  rng = np.random.default_rng(7)
  small = segments.Image(rng.integers(0, 256, (12, 30, 3), np.uint8))
  text = tiny.random_text(rng, form, 3, 4, pointing=0.0)
  made = prompts.make(
    [(small, text)], form=form, length=32, group=1,
    limits=test_exactness.LIMITS,
    modes=[test_exactness.grammar.Mode(0)],
  )  # fmt: skip
  assert made.previous == text.ids[-1]
  assert made.image_shape == [1] and (made.image_at >= 0).sum() == 10
  # One time for the picture, as long as its longer side, then the text.
  assert made.rope_position == 5 + len(text.ids)


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"shapes": ((12, 28),)}, "12x28 pixels, and a cell has 6"),
    ({"stem": "conv", "patch": 4, "merge": 0, "frames": 1}, "stem=conv"),
    ({"position": "grid", "position_side": 0}, "position=grid"),
    ({"cell_table": True, "merge": 0}, "cell_table=True"),
  ],
)
def test_a_tower_that_takes_squares_alone_refuses_shapes(changes, said):
  changes = {"shapes": ((12, 48),)} | changes
  with pytest.raises(errors.UserError, match=said):
    dataclasses.replace(SQUARES, **changes)


def test_an_image_of_no_shape_is_refused_with_those_that_there_are():
  _, form, _ = both()[1]
  with pytest.raises(errors.UserError, match="24x24, 12x30, 36x18"):
    segments.shape_of(form.model, np.zeros((30, 12, 3), np.uint8))
