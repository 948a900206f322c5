"""The model: packed = unpacked, branches = separate, exact factorisations."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax import errors
from cooper_jax.models import layers, masks, tables, token_kinds, unified
from cooper_jax.sequences import packing, scoring, segments
from tests import tiny

score = jax.jit(
  functools.partial(scoring.score, sampled=False),
  static_argnames=("model", "form", "bins"),
)


def scores(model, form, params, documents, length, rows=None, **sizes):
  shape = packing.Shape(length=length, texts=90, codes=240, **sizes)
  batch = packing.pack(documents, form=form, shape=shape, rows=rows)
  out = score(model, params, batch, form=form, bins=shape.bins)
  found = {}
  for kind in ("text", "code"):
    weight = batch[f"{kind}_weight"] > 0
    found[kind] = np.asarray(getattr(out, f"{kind}_log_prob"))[weight]
  return found


@pytest.mark.parametrize("codes_per_step", ["token", "row", "all"])
def test_packed_documents_and_branches_match_separate_ones(codes_per_step):
  model, form, params = tiny.make(
    codes_per_step=codes_per_step, tied_head=False, smear=True
  )
  rng = np.random.default_rng(0)
  documents = [tiny.random_document(rng, form, branches=2) for _ in range(3)]
  together = scores(model, form, params, documents, 600, rows=1, images=3)
  alone = [
    scores(model, form, params, [segments.Document(d.trunk, (b,))], 200)
    for d in documents
    for b in d.branches
  ]
  trunk = [
    int(segments.measure(segments.Document(d.trunk), form)[1])
    for d in documents
  ]
  expected = []
  for i in range(3):
    first, second = alone[2 * i]["text"], alone[2 * i + 1]["text"]
    expected += [first, second[trunk[i] :]]
  np.testing.assert_allclose(
    together["text"], np.concatenate(expected), atol=2e-5
  )
  np.testing.assert_allclose(
    together["code"], np.concatenate([a["code"] for a in alone]), atol=2e-5
  )


def test_blocks_match_the_free_layout():
  """Trunk with padding, bins holding several branches and a partial one."""
  model, form, params = tiny.make(tied_head=False, smear=True)
  rng = np.random.default_rng(7)
  documents = [tiny.random_document(rng, form, branches=4) for _ in range(2)]
  free = scores(model, form, params, documents, 400)
  bins = scores(
    model, form, params, documents, 30 + 4 * 75, trunk=30, bin_size=75
  )
  for kind in ("text", "code"):
    assert len(free[kind]) > 20
    np.testing.assert_allclose(free[kind], bins[kind], atol=2e-5)


@pytest.mark.ci
def test_gradient_of_branches_is_that_of_separate_sequences():
  model, form, params = tiny.make(tied_head=False)
  rng = np.random.default_rng(1)
  document = tiny.random_document(rng, form, branches=3)
  trunk = next(segments.unlearned([document.trunk]))

  def gradient(documents, length):
    shape = packing.Shape(length=length, texts=60, codes=100)
    batch = packing.pack(documents, form=form, shape=shape)

    def loss(p):
      out = scoring.score(model, p, batch, form=form, sampled=False)
      return jnp.sum(out.text_log_prob * batch["text_weight"]) + jnp.sum(
        out.code_log_prob * batch["code_weight"]
      )

    return jax.jit(jax.grad(loss))(params)

  shared = gradient([segments.Document(trunk, document.branches)], 300)
  apart = gradient(
    [segments.Document(trunk, (b,)) for b in document.branches], 120
  )
  for a, b in zip(jax.tree.leaves(shared), jax.tree.leaves(apart), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-4, rtol=2e-4)


@pytest.mark.ci
@pytest.mark.parametrize("codes_per_step", ["token", "row", "all"])
def test_maps_of_a_tiny_code_book_sum_to_one(codes_per_step):
  """All 3^4 maps of a 2 x 2 grid with 3 codes: their probabilities sum to 1."""
  model, form, params = tiny.make(
    codes_per_step=codes_per_step,
    tied_head=False,
    map_grid=2,
    codes=3,
    code_levels=(3,),
  )
  rng = np.random.default_rng(2)
  image = segments.Image(tiny.random_image(rng, form))
  documents = [
    segments.Document((image, segments.Map(0, np.array(codes))))
    for codes in itertools.product(range(3), repeat=4)
  ]
  shape = packing.Shape(length=32, texts=2, codes=4)
  batch = packing.pack(documents, form=form, shape=shape)
  out = score(model, params, batch, form=form)
  total = np.exp(np.asarray(out.code_log_prob).sum(axis=1)).sum()
  assert batch["ids"].shape[0] == 81
  np.testing.assert_allclose(total, 1.0, atol=1e-5)


def test_positions_reduce_to_ordinary_rope_on_text():
  position = jnp.arange(7)[None]
  two_axes = layers.rope_angles(position, position, head_dim=8, theta=100.0)
  expected = np.arange(7)[:, None] * 100.0 ** (-np.arange(4) / 4)
  np.testing.assert_allclose(two_axes[0], expected, rtol=1e-6)
  moved = layers.rope_angles(position, position + 3, head_dim=8, theta=100.0)
  changed = np.abs(np.asarray(moved - two_axes)).max(axis=(0, 1)) > 0
  np.testing.assert_array_equal(changed, [False, True, False, True])


def test_positions_stretched_as_llama_3_has_them():
  """7.6 turns in 48 positions stay, 0.76 are between, fewer are divided."""
  position = jnp.arange(5)[None]
  options = {"head_dim": 8, "theta": 1e4}
  plain = layers.rope_angles(position, position, **options)[0, 1]
  turns = 48 * np.asarray(plain) / (2 * np.pi)
  np.testing.assert_allclose(turns, [7.64, 0.764, 0.0764, 0.00764], rtol=1e-3)
  stretched = layers.rope_angles(
    position, position, **options, llama3=(8.0, 0.5, 4.0, 48.0)
  )
  share = (turns[1] - 0.5) / 3.5
  kept = np.array([1, share + (1 - share) / 8, 1 / 8, 1 / 8])
  found = stretched[0] / jnp.arange(5)[:, None]
  np.testing.assert_allclose(found[1:], [plain * kept] * 4, rtol=1e-6)


@pytest.mark.parametrize(
  "given",
  [(8.0,), (0.5, 1.0, 4.0, 8.0), (8.0, 4.0, 1.0, 8.0), (8.0, 0.0, 4.0, 8.0)],
)
def test_what_stretches_positions_is_checked(given):
  with pytest.raises(errors.UserError, match=r"config\.model\.rope_llama3 is"):
    tiny.make_config(rope_llama3=given)


def test_attention_rule():
  """Trunk of two tokens, an image of two, branches of one and two tokens."""
  layout = masks.RowLayout(
    document=jnp.array([[1, 1, 1, 1, 1, 1, 1, 0]]),
    branch=jnp.array([[0, 0, 0, 0, 1, 2, 2, 0]]),
    order=jnp.array([[1, 2, 3, 3, 4, 4, 5, 0]]),
  )
  expected = np.array(
    [
      [1, 0, 0, 0, 0, 0, 0, 0],
      [1, 1, 0, 0, 0, 0, 0, 0],
      [1, 1, 1, 1, 0, 0, 0, 0],
      [1, 1, 1, 1, 0, 0, 0, 0],
      [1, 1, 1, 1, 1, 0, 0, 0],
      [1, 1, 1, 1, 0, 1, 0, 0],
      [1, 1, 1, 1, 0, 1, 1, 0],
      [0, 0, 0, 0, 0, 0, 0, 0],
    ],
    bool,
  )
  np.testing.assert_array_equal(masks.attention_mask(layout)[0], expected)


FLAGS = {
  "qk_norm": False,
  "qkv_bias": True,
  "tied_head": True,
  "mixture_of_transformers": True,
  "codes_per_step": "token",
  "pointer": False,
  "aligned_queries": False,
  "map_lookup": False,
  "smear": True,
  "code_digits": False,
}


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_changes_the_output(flag):
  rng = np.random.default_rng(3)
  model, form, params = tiny.make(tied_head=False)
  document = tiny.random_document(rng, form)
  plain = scores(model, form, params, [document], 300)
  other, other_form, other_params = tiny.make(
    **{"tied_head": False} | {flag: FLAGS[flag]}
  )
  changed = scores(other, other_form, other_params, [document], 400)
  assert np.isfinite(changed["text"]).all()
  size = min(len(plain["code"]), len(changed["code"]))
  assert np.abs(plain["code"][:size] - changed["code"][:size]).max() > 1e-3


def test_a_named_place_is_read_by_its_row_and_column():
  """Of the table of places a token reads its own row's and column's entry."""
  model, form, params = tiny.make(tied_head=False)
  rng = np.random.default_rng(6)
  grid, cell = form.model.vision.grid, 2
  named = np.array([form.vocabulary.location(cell)])
  document = segments.Document(
    (
      segments.Image(tiny.random_image(rng, form)),
      segments.Text(named, learn=False),
      tiny.random_text(rng, form, low=4, high=5),
    )
  )
  before = scores(model, form, params, [document], 60)["text"]
  read = {cell // grid, grid + cell % grid}
  for entry in range(2 * grid):
    place = np.array(params["params"]["place"])
    place[entry] += rng.normal(size=place.shape[1])
    shaken = {"params": params["params"] | {"place": place}}
    after = scores(model, form, shaken, [document], 60)["text"]
    moved = np.abs(before - after).max()
    assert (moved > 1e-4) == (entry in read), entry


@pytest.mark.parametrize("tied_head", [False, True])
def test_codes_share_the_rows_of_their_digits(tied_head):
  """A digit's row moves the logits of the codes that have it, by as much."""
  model, form, params = tiny.make(tied_head=tied_head)
  rng = np.random.default_rng(8)
  hidden = rng.normal(size=(1, 1, form.model.d_model)).astype(np.float32)
  name = "embedding_digits" if tied_head else "head_digits"

  def logits(params):
    return np.asarray(
      model.apply(params, hidden, method=unified.Unified.code_logits)
    )[0, 0]

  digits = np.array(params["params"][name])
  digits[3] += rng.normal(size=digits.shape[1])  # 3 = digit 1 of the second
  shaken = {"params": params["params"] | {name: digits}}
  moved = logits(shaken) - logits(params)
  has = np.arange(12) // 2 % 3 == 1  # levels 2, 3, 2
  np.testing.assert_allclose(moved[~has], 0, atol=1e-5)
  np.testing.assert_allclose(moved[has], moved[has][0], rtol=1e-4)
  assert abs(moved[has][0]) > 1e-2


def test_a_codes_digits_are_read_with_it_and_with_no_other():
  """Of the embedding: the codes that have the digit, and no word, move."""
  model, form, params = tiny.make(tied_head=False)
  rng = np.random.default_rng(9)
  rows = form.vocabulary.codes_start + 12
  empty = {
    name: jnp.full((1, rows), -1)
    for name in unified.Tokens.__dataclass_fields__
  } | {"read": jnp.full((1, rows, 2, 2), -1)}
  zero = jnp.zeros((1, rows), jnp.int32)
  tokens = unified.Tokens(**empty).replace(
    ids=jnp.arange(rows)[None], kind=zero + 1, row=zero, column=zero,
    opening=zero,
  )  # fmt: skip
  features = np.zeros((1, form.model.locations, form.model.d_model), np.float32)

  def embed(params):
    return np.asarray(
      model.apply(
        params, tokens, features, sharded=True, method=unified.Unified.embed
      )
    )[0]

  digits = np.array(params["params"]["embedding_digits"])
  digits[3] += rng.normal(size=digits.shape[1])  # 3 = digit 1 of the second
  shaken = {"params": params["params"] | {"embedding_digits": digits}}
  moved = np.abs(embed(shaken) - embed(params)).max(axis=1) > 1e-4
  has = np.zeros(rows, bool)
  has[form.vocabulary.codes_start :] = np.arange(12) // 2 % 3 == 1
  np.testing.assert_array_equal(moved, has)


def test_levels_that_make_another_number_of_codes_are_refused():
  with pytest.raises(errors.UserError, match="make 4 codes, the model has 12"):
    tiny.make_config(code_levels=(2, 2))


def test_mixture_routes_codes_and_only_codes():
  """Changing the code expert moves codes; text before any map stays put."""
  model, form, params = tiny.make(tied_head=False, mixture_of_transformers=True)
  rng = np.random.default_rng(4)
  document = segments.Document(
    (
      segments.Image(tiny.random_image(rng, form)),
      tiny.random_text(rng, form, low=4, high=5),
      tiny.random_map(rng, form, 0),
    )
  )
  before = scores(model, form, params, [document], 60)

  def shake(path, x):
    is_code = any(getattr(k, "key", None) == "code" for k in path)
    return x + 0.3 if is_code else x

  shaken = jax.tree_util.tree_map_with_path(shake, params)
  after = scores(model, form, shaken, [document], 60)
  np.testing.assert_allclose(before["text"], after["text"], atol=1e-6)
  assert np.abs(before["code"] - after["code"]).max() > 1e-3


def test_what_a_place_reads_is_the_code_and_whose_map_it_is():
  model, form, params = tiny.make(tied_head=False)
  start, opening = form.vocabulary.codes_start, form.vocabulary.opening
  reads = np.full((1, 5, 2, 2), -1)
  reads[0, 1, 0] = start + 4, opening(0)
  reads[0, 2, 0] = start + 4, opening(1)
  reads[0, 3, 0] = start + 5, opening(0)
  reads[0, 4] = (start + 4, opening(0)), (start + 7, opening(1))
  none, zero = jnp.full((1, 5), -1), jnp.zeros((1, 5), jnp.int32)
  tokens = unified.Tokens(
    ids=zero + form.vocabulary.locations_start, kind=zero + token_kinds.TEXT,
    row=zero, column=zero, cell=none, query=none, opening=zero, previous=none,
    read=jnp.asarray(reads),
  )  # fmt: skip
  features = np.zeros((1, form.model.locations, form.model.d_model), np.float32)
  x = np.asarray(
    model.apply(
      params, tokens, features, sharded=True, method=unified.Unified.embed
    )
  )[0]
  far = np.abs(x[:, None] - x[None]).max(axis=-1) > 1e-3
  assert (far == ~np.eye(5, dtype=bool)).all()


def test_the_gradient_of_a_row_is_added_up_in_float32():
  """4,000 readings of one row: a sum in bfloat16 would stop at 256."""
  ids = jnp.zeros(4000, jnp.int32)
  gradient = jax.grad(
    lambda table: (
      tables.look_up(table, ids, False, "bfloat16").astype(jnp.float32).sum()
    )
  )(jnp.ones((3, 2)))
  np.testing.assert_array_equal(gradient[0], 4000.0)
