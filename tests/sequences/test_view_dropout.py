"""Text behind a map that hides the image has nothing of it."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from cooper_jax import errors
from cooper_jax.models import masks
from cooper_jax.models.token_kinds import IMAGE
from cooper_jax.sequences import packing, segments
from tests import tiny

FREE = packing.Shape(length=160, texts=60, codes=96, hides=True)
BINS = packing.Shape(
  length=24 + 3 * 60, texts=60, codes=96, trunk=24, bin_size=60, hides=True
)


@functools.partial(jax.jit, static_argnames=("model", "bins"))
def forward(model, params, tokens, layout, images, bins):
  return model.apply(params, tokens, layout, images, bins=bins)[0]


def hidden_of(model, params, form, document, shape=FREE):
  """(hidden [1, L, D], the batch) of one document."""
  batch = packing.pack([document], form=form, shape=shape, rows=1)
  tokens, layout = packing.inputs(batch)
  hidden = forward(model, params, tokens, layout, batch["images"], shape.bins)
  return np.asarray(hidden), batch


def seeing(rng, form, *, hides: bool):
  """Two documents that differ in their image alone."""
  branch = (
    tiny.random_text(rng, form, pointing=0),
    tiny.random_map(rng, form, 0, hides=hides),
    tiny.random_text(rng, form, low=6, high=9),
  )
  return [
    segments.Document(
      (segments.Image(tiny.random_image(rng, form)),), (branch,)
    )
    for _ in range(2)
  ]


@pytest.mark.parametrize("hides", [True, False])
def test_nothing_of_the_image_is_seen_behind_such_a_map(hides):
  # One layer: whatever is attended to has not yet looked at anything itself.
  model, form, params = tiny.make(layers=1, aligned_queries=False, smear=True)
  rng = np.random.default_rng(0)
  (one, batch), (other, _) = [
    hidden_of(model, params, form, document)
    for document in seeing(rng, form, hides=hides)
  ]
  closing = batch["ids"][0].tolist().index(form.vocabulary.closing(0))
  behind = np.arange(FREE.length) >= closing
  behind &= batch["document"][0] > 0
  before = (batch["document"][0] > 0) & ~behind & (batch["kind"][0] != IMAGE)
  apart = np.abs(one - other).max(axis=-1)[0]
  assert apart[before].min() > 1e-3
  if hides:
    assert apart[behind].max() == 0
  else:
    assert apart[behind].min() > 1e-3


@pytest.mark.parametrize("seed", range(2))
def test_rows_in_bins_hide_as_free_rows_do(seed):
  model, form, params = tiny.make(seed)
  rng = np.random.default_rng(seed)
  branches = []
  for i in range(3):
    last = tiny.random_map(rng, form, 1, hides=i != 1)
    first = (tiny.random_map(rng, form, 0),) * (i == 2)
    text = tiny.random_text(rng, form)
    branches.append((text, *first, last, tiny.random_text(rng, form)))
  trunk = (
    segments.Image(tiny.random_image(rng, form)),
    tiny.random_text(rng, form),
  )
  document = segments.Document(trunk, tuple(branches))
  found = []
  for shape in (FREE, BINS):
    hidden, batch = hidden_of(model, params, form, document, shape)
    found.append(hidden[batch["document"] > 0])
  np.testing.assert_allclose(*found, atol=2e-5)
  shown = dataclasses.replace(
    document,
    branches=tuple(
      tuple(
        dataclasses.replace(each, hides=False)
        if isinstance(each, segments.Map)
        else each
        for each in branch
      )
      for branch in branches
    ),
  )
  hidden, batch = hidden_of(model, params, form, shown)
  assert np.abs(hidden[batch["document"] > 0] - found[0]).max() > 1e-3


def test_the_rule_of_views():
  view = np.array([[0, masks.PICTURE, masks.BLIND, 0]])
  ones = np.ones((1, 4), int)
  layout = masks.RowLayout(ones, ones * 0, np.arange(4)[None], view)
  mask = np.asarray(masks.attention_mask(layout))[0]
  expected = np.tril(np.ones((4, 4), bool))
  expected[2, 1] = False
  np.testing.assert_array_equal(mask, expected)


def test_rows_that_hide_nothing_have_no_such_column():
  form = tiny.make_form(tiny.make_config())
  document = seeing(np.random.default_rng(1), form, hides=True)[0]
  plain = dataclasses.replace(FREE, hides=False)
  assert "view" not in packing.pack([], form=form, shape=plain, rows=1)
  with pytest.raises(errors.UserError, match="rows that show it"):
    packing.pack([document], form=form, shape=plain, rows=1)
