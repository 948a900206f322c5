"""LoRA's tree: beside frozen weights in training, merged elsewhere."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.models import lora, products
from cooper_jax.models.config import VisionConfig
from cooper_jax.sequences import packing, scoring
from tests import tiny

CLOSE = 2e-5
IMPORTED = ("decoder/*", "embedding", "head", "vision/*")
SETTINGS = lora.LoraConfig(rank=3, alpha=6.0, match="decoder/blocks/*,vision/*")


def boxed(params):
  """Shapes with axis names, as a model is made with; here without rules."""
  return jax.tree.map(
    lambda x: nn.LogicallyPartitioned(
      jax.ShapeDtypeStruct(x.shape, jnp.float32), (None,) * x.ndim
    ),
    params,
  )


def begin(params, settings=SETTINGS, imported=IMPORTED, noise=0.0):
  """(frozen, trained), B and all else that is trained moved by noise."""
  made = lora.plan(boxed(params), settings, imported=imported, text=tiny.TEXT)
  shapes = nn.unbox(lora.trained_shapes(boxed(params), made))
  parts = lora.trained_parts(params, made)
  trained = lora.begin(parts, shapes, key=jax.random.key(1))
  rng = np.random.default_rng(2)
  trained = jax.tree.map(
    lambda x: x + noise * rng.normal(size=x.shape).astype(np.float32), trained
  )
  return lora.Frozen(jax.tree.map(jnp.asarray, params), made.scale), trained


@functools.cache
def problem(**changes):
  model, form, params = tiny.make(**changes)
  rng = np.random.default_rng(0)
  documents = [tiny.random_document(rng, form, branches=1) for _ in range(2)]
  shape = packing.Shape(length=110, texts=40, codes=40)
  batch = packing.pack(documents, form=form, shape=shape, rows=2)
  return model, form, params, batch


def score(params, **changes):
  model, form, _, batch = problem(**changes)
  run = functools.partial(scoring.score, model, form=form, sampled=False)
  return jax.tree.leaves(jax.jit(lambda p: run(params=p, batch=batch))(params))


CASES = [
  pytest.param({"tied_head": False}, id="untied"),
  pytest.param(
    {"tied_head": True, "unroll": True, "mixture_of_transformers": True},
    id="unrolled",
    marks=pytest.mark.slow,
  ),
  pytest.param(
    {"remat": "full", "pointer": False, "code_levels": ()},
    id="remat",
    marks=pytest.mark.slow,
  ),
]


@pytest.mark.ci
@pytest.mark.parametrize("changes", CASES)
def test_an_update_of_zero_changes_no_bit_and_merging_is_adding(changes):
  params = problem(**changes)[2]
  before = score(params, **changes)
  frozen, trained = begin(params, imported=())
  beside = score(lora.laid_over(frozen, trained), **changes)
  for one, other in zip(before, beside, strict=True):
    np.testing.assert_array_equal(one, other)
  frozen, trained = begin(params, noise=0.3)
  beside = score(lora.laid_over(frozen, trained), **changes)
  within = score(lora.merged(frozen, trained), **changes)
  for one, other in zip(beside, within, strict=True):
    np.testing.assert_allclose(one, other, atol=CLOSE)
  assert np.abs(beside[0] - before[0]).max() > 0.1


@pytest.mark.ci
def test_gradients_are_those_of_the_merged_model():
  model, form, params, batch = problem(tied_head=False)
  frozen, trained = begin(params, noise=0.3)

  def loss(trained, whole):
    found = scoring.score(
      model, whole(frozen, trained), batch, form=form, sampled=False
    )
    return found.text_log_prob.sum() + found.code_log_prob.sum()

  one, other = (
    jax.jit(jax.grad(functools.partial(loss, whole=whole)))(trained)
    for whole in (lora.laid_over, lora.merged)
  )
  for ours, theirs in zip(
    jax.tree.leaves(one), jax.tree.leaves(other), strict=True
  ):
    assert np.abs(theirs).max() > 0
    atol = CLOSE * np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


def products_of(loss, *given) -> int:
  """Matrix products in the program of a gradient, before the compiler."""
  text = jax.jit(jax.grad(loss)).lower(*given).as_text()
  return len(re.findall(r"stablehlo\.dot_general", text))


@pytest.mark.ci
def test_a_frozen_matrix_costs_no_gradient():
  """Counted in a model of one layer, unrolled, so that each stands once."""
  changes = {"layers": 1, "unroll": True, "tied_head": False}
  model, form, params, batch = problem(**changes)
  scale = "decoder/blocks/norm_attention/main/scale"

  def loss(whole):
    found = scoring.score(model, whole, batch, form=form, sampled=False)
    return found.text_log_prob.sum() + found.code_log_prob.sum()

  def adapted(trained, frozen):
    return loss(lora.laid_over(frozen, trained))

  def first_norm(x, params):
    return loss(lora.unflatten(lora.flatten(params) | {scale: x}))

  # The first norm's gradient goes through every layer and asks for that of no
  # matrix: each has the product forward and the one back to its x.
  least = products_of(first_norm, lora.flatten(params)[scale], params)
  frozen, trained = begin(params, lora.LoraConfig(rank=3), ())
  # A and B of 7 layers: x A, x A B, the gradients of both, of x A and of x;
  # but what q, k and v are given is not trained: no product back to it, neither
  # through W nor through A.
  found = products_of(adapted, trained, frozen)
  assert found == least + 7 * 6 - 3 * 2
  # All trained: a product more for each matrix, 7 + 4 + 2 (vision's layer and
  # MLP), stem, connector, align, look, read, point_from, point_to, two heads.
  assert products_of(loss, params) >= least + 7 + 6 + 1 + 2 + 5 + 2


def test_a_product_keeps_what_the_gradients_asked_for_need():
  rng = np.random.default_rng(0)
  x, w = rng.normal(size=(5, 4)), rng.normal(size=(4, 3))
  table = rng.normal(size=(3, 4))
  for product, matrix in (
    (products.linear, w),
    (products.against_rows, table),
  ):
    total = lambda x, w, product=product: product(x, w).sum()  # noqa: E731
    for argnums, count in ((0, 2), (1, 2), ((0, 1), 3)):
      # Before anything that is not used is left out.
      program = str(jax.make_jaxpr(jax.grad(total, argnums))(x, matrix))
      assert program.count("dot_general[") == count


def test_what_is_trained_is_named_by_patterns():
  _, _, params, _ = problem(tied_head=False)

  def made(imported=(), **changes):
    settings = lora.LoraConfig(rank=3, **changes)
    return lora.plan(boxed(params), settings, imported=imported, text=tiny.TEXT)

  usual = made()
  assert len(usual.layers) == 7 and usual.scale == 32 / 3
  assert usual.full == usual.own_rows == ()
  own = made(IMPORTED)
  assert own.own_rows == ("embedding", "head") and own.layers == usual.layers
  assert "map_query" in own.full and "align/kernel" in own.full
  assert not any(name.startswith("decoder") for name in own.full)
  whole = made(IMPORTED, full="embedding, own, decoder/blocks/q/*")
  assert whole.own_rows == ("head",) and "embedding" in whole.full
  assert "decoder/blocks/q/main" not in whole.layers
  with pytest.raises(UserError, match='"decoder/block/\\*"; did you mean'):
    made(match="decoder/block/*")
  with pytest.raises(UserError, match='names no parameter with "map_quary"; d'):
    made(full="map_quary")
  for empty in ("", " ,"):
    with pytest.raises(UserError, match=f'match is "{empty}" and names no l'):
      made(match=empty)
  with pytest.raises(UserError, match="leaves no layer"):
    made(full="decoder/blocks/*")


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"rank": -1}, "config.lora.rank is -1; allowed: 0 and more"),
    ({"alpha": 0.0}, "config.lora.alpha is 0.0"),
    ({"base_dtype": "int8"}, 'base_dtype is "int8"; allowed: auto, float32'),
    ({"export": "pefd"}, 'export is "pefd"; allowed: none, adapter, merged'),
  ],
)
def test_bad_settings_are_said(changes, said):
  with pytest.raises(UserError, match=re.escape(said)):
    lora.LoraConfig(**changes)


def test_a_conv_stem_has_layers_like_any_other():
  vision = VisionConfig(
    image_size=16, patch=4, width=16, layers=1, heads=2, ffn=32, stem="conv"
  )
  _, _, params = tiny.make(vision=vision)
  names = lora.linear_layers(lora.flatten(params))
  assert "vision/stem/conv0" in names and "vision/connector1" in names
