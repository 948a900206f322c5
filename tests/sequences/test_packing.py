"""Rows of documents: capacities, bins, and what is left out."""

import dataclasses

import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.models.token_kinds import CODE, IMAGE, PAD, TEXT
from cooper_jax.sequences import packing, segments
from tests import tiny

FORM = tiny.make_form(tiny.make_config())
LOCATIONS = FORM.model.locations


def text(count, **options):
  return segments.Text(np.arange(count), **options)


def image():
  side = FORM.model.vision.image_size
  return segments.Image(np.zeros((side, side, 3), np.uint8))


def a_map(slot=0, **options):
  codes = np.arange(FORM.model.map_codes) % FORM.model.codes
  return segments.Map(slot, codes, **options)


def test_targets_of_a_hand_made_document():
  """Image of 16 cells, two read tokens, two learned, a map, one more."""
  document = segments.Document(
    (image(),), ((text(2, learn=False), text(2), a_map(), text(1)),)
  )
  shape = packing.Shape(length=60, texts=5, codes=16)
  rows = packing.pack([document], form=FORM, shape=shape, rows=1)
  # Learned: the two tokens, the map's opening and the last one. The closing
  # is forced, so it is read and predicts, but is no target.
  np.testing.assert_array_equal(rows["text_weight"][0], [1, 1, 1, 1, 0])
  opening = FORM.vocabulary.opening(0)
  np.testing.assert_array_equal(rows["text_target"][0, :4], [0, 1, opening, 0])
  first = LOCATIONS + 2
  slots = FORM.model.map_positions
  closing = first + 3 + slots
  np.testing.assert_array_equal(
    rows["text_at"][0, :4], [first - 1, first, first + 1, closing]
  )
  assert rows["ids"][0, closing] == FORM.vocabulary.closing(0)
  np.testing.assert_array_equal(
    rows["code_at"][0], first + 3 + np.arange(FORM.model.map_codes)
  )
  kinds = rows["kind"][0]
  assert (kinds == IMAGE).sum() == LOCATIONS
  assert (kinds == CODE).sum() == slots
  assert (kinds == PAD).sum() == 60 - (closing + 2)
  # Row r's slots hold row r - 1's codes.
  held = rows["ids"][0, first + 3 + FORM.model.map_grid : closing]
  codes = np.arange(FORM.model.map_codes) % FORM.model.codes
  np.testing.assert_array_equal(held - FORM.vocabulary.codes_start, codes)


def test_openings_shrink_as_maps_are_drawn():
  document = segments.Document(
    (image(),), ((text(1), a_map(1), text(1), a_map(0), text(1)),)
  )
  shape = packing.Shape(length=90, texts=8, codes=32)
  rows = packing.pack([document], form=FORM, shape=shape)
  # Both; then depth alone; after two maps none may be opened.
  np.testing.assert_array_equal(
    rows["text_allowed_maps"][0, :5], [0b11, 0b11, 0b01, 0b01, 0]
  )


def test_fit_leaves_out_what_has_no_room():
  branches = tuple((text(count),) for count in (30, 20, 25, 9))
  document = segments.Document((image(),), branches)
  shape = packing.Shape(
    length=LOCATIONS + 2 * 32, texts=70, codes=0, trunk=LOCATIONS, bin_size=32
  )
  fitted = packing.fit(document, FORM, shape)
  kept = [len(branch[0].ids) for branch in fitted.branches]
  assert kept == [30, 20, 9]  # 25 has no bin; 20 and 9 share one
  rows = packing.pack([fitted], form=FORM, shape=shape)
  starts = [
    int(np.flatnonzero(rows["branch"][0] == b + 1)[0]) for b in range(3)
  ]
  assert starts == [LOCATIONS, LOCATIONS + 32, LOCATIONS + 52]


def test_what_does_not_fit_is_an_error():
  shape = packing.Shape(length=LOCATIONS + 8, texts=8, codes=0)
  document = segments.Document((image(), text(9)))
  with pytest.raises(UserError, match="a document needs"):
    packing.pack([document], form=FORM, shape=shape)
  with pytest.raises(UserError, match="the batch has 1"):
    small = segments.Document((image(), text(8)))
    packing.pack([small] * 2, form=FORM, shape=shape, rows=1)
  with pytest.raises(UserError, match="before any image"):
    place = np.array([FORM.vocabulary.location(3)])
    packing.pack(
      [segments.Document((segments.Text(place, learn=False),))],
      form=FORM,
      shape=shape,
    )
  with pytest.raises(UserError, match="whole bins"):
    packing.Shape(length=70, texts=1, codes=1, trunk=16, bin_size=32)


def test_measure_counts_what_pack_writes():
  rng = np.random.default_rng(0)
  for _ in range(5):
    document = tiny.random_document(rng, FORM)
    length, texts, codes, images = segments.measure(document, FORM)
    shape = packing.Shape(length=400, texts=100, codes=300)
    rows = packing.pack([document], form=FORM, shape=shape)
    assert (rows["document"][0] > 0).sum() == length
    assert (rows["text_weight"][0] > 0).sum() == texts
    assert (rows["code_weight"][0] > 0).sum() == codes
    assert images == 1


@pytest.mark.parametrize("map_grid", [2, 4])
def test_a_place_reads_the_codes_drawn_before_it_in_its_branch(map_grid):
  form = tiny.make_form(tiny.make_config(map_grid=map_grid))
  model, vocabulary = form.model, form.vocabulary
  rng = np.random.default_rng(4)
  maps = [
    segments.Map(slot, rng.integers(0, model.codes, model.map_codes))
    for slot in (1, 0)
  ]
  noisy = dataclasses.replace(maps[1], seen=(maps[1].codes + 1) % model.codes)
  places = np.array([0, 5, 6, 15])
  text = segments.Text(
    np.concatenate([[3], vocabulary.locations_start + places])
  )
  document = segments.Document(
    (segments.Image(tiny.random_image(rng, form)),),
    (
      (segments.Text(np.array([2])), text, maps[0], text, noisy, text),
      (segments.Text(np.array([2])), text),
    ),
  )
  shape = packing.Shape(length=140, texts=40, codes=40)
  batch = packing.pack([document], form=form, shape=shape, rows=1)
  location = batch["ids"][0] - vocabulary.locations_start
  named = (location >= 0) & (location < model.locations)
  named &= batch["kind"][0] == TEXT
  read = batch["read"][0]
  assert (read[~named] == -1).all()
  # Image cell (row, column) of 4 x 4 lies over map cell (row, column) / 2.
  under = places if map_grid == 4 else np.array([0, 0, 1, 3])
  first, second, third, other = np.split(read[named], 4)
  drawn = [
    np.stack(
      [
        vocabulary.codes_start + codes[under],
        np.full(4, vocabulary.opening(each.modality_id)),
      ],
      axis=1,
    )
    for each, codes in ((maps[0], maps[0].codes), (noisy, noisy.seen))
  ]
  assert (first == -1).all() and (other == -1).all()
  np.testing.assert_array_equal(second[:, 0], drawn[0])
  assert (second[:, 1] == -1).all()
  np.testing.assert_array_equal(third, np.stack(drawn, axis=1))


def test_a_map_that_is_only_read_takes_no_room():
  form = tiny.make_form(tiny.make_config())
  rng = np.random.default_rng(5)
  codes = rng.integers(0, form.model.codes, form.model.map_codes)
  places = segments.Text(
    np.array([2, *(form.vocabulary.locations_start + np.array([3, 9]))])
  )
  image = (segments.Image(tiny.random_image(rng, form)),)
  given = segments.Document(image, ((segments.ContextMap(1, codes), places),))
  plain = segments.Document(image, ((places,),))
  assert segments.measure(given, form) == segments.measure(plain, form)
  shape = packing.Shape(length=40, texts=8, codes=0)
  rows = [
    packing.pack([each], form=form, shape=shape, rows=1)
    for each in (given, plain)
  ]
  read = rows[0].pop("read")[0]
  assert (rows[1].pop("read") == -1).all()
  for name, array in rows[0].items():
    np.testing.assert_array_equal(array, rows[1][name])
  found = read[read[:, 0, 0] >= 0]
  np.testing.assert_array_equal(
    found[:, 0, 0], form.vocabulary.codes_start + codes[[3, 9]]
  )
  assert (found[:, 0, 1] == form.vocabulary.opening(1)).all()
