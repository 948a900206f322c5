"""Products of bfloat16 operands: f32 comes out, and gradients of f32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax.models import products, rounding
from cooper_jax.runtime import compilation
from cooper_jax.sequences import packing, scoring
from tests import tiny


def off(found, exact) -> float:
  """The largest difference, as a share of the largest number."""
  found, exact = (np.asarray(x, np.float32) for x in (found, exact))
  return float(np.abs(found - exact).max() / np.abs(exact).max())


@pytest.mark.parametrize("product", [products.linear, products.against_rows])
def test_operands_are_rounded_and_sums_and_gradients_are_not(product):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
  x, y, matrix = draw(3, 5, 64), draw(3, 5, 32), draw(64, 32)
  if product is products.against_rows:
    matrix = matrix.T
  out, back = jax.vjp(
    lambda *given: product(*given, operands="bfloat16"), x, matrix
  )
  short = lambda x: x.astype("bfloat16").astype("float32")  # noqa: E731
  expected, exact = jax.vjp(product, short(x), short(matrix))
  assert out.dtype == jnp.float32 and off(out, expected) < 1e-6
  # x's gradient multiplies what was rounded, the matrix's what was given.
  assert off(back(y)[0], exact(short(y))[0]) < 1e-6
  assert off(back(y)[1], jax.vjp(product, x, matrix)[1](y)[1]) < 1e-6
  assert off(out, product(x, matrix)) > 1e-4


def test_bfloat16_activations_give_a_table_a_gradient_in_f32():
  """As on an accelerator: 300 rows of ones are no sum of a bfloat16."""
  x, table = jnp.ones((300, 4), jnp.bfloat16), jnp.ones((6, 4))
  dtypes = {"operands": "bfloat16", "result": "float32"}
  out, back = jax.vjp(
    lambda table: products.against_rows(x, table, **dtypes), table
  )
  assert out.dtype == jnp.float32
  (gradient,) = back(jnp.full((300, 6), 1.0).at[0].set(0.5))
  np.testing.assert_array_equal(gradient, 299.5)


def losses_and_gradients(**changes):
  """(loss, gradients) of two documents, of a model of one seed."""
  model, form, params = tiny.make(
    3, tied_head=False, smear=True, d_model=64, ffn=128, **changes
  )
  rng = np.random.default_rng(0)
  documents = [tiny.random_document(rng, form) for _ in range(2)]
  shape = packing.Shape(length=400, texts=90, codes=240)
  batch = packing.pack(documents, form=form, shape=shape)

  def loss(params):
    scores = scoring.score(model, params, batch, form=form, sampled=False)
    pairs, _ = scoring.next_token(scores, batch, form=form, z_weight=0.0)
    return sum(total / weight for total, weight in pairs.values())

  with compilation.effort(quick=True):
    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.mark.ci
def test_loss_and_gradients_are_those_of_f32_but_for_the_rounding():
  loss, gradients = losses_and_gradients(operands="bfloat16")
  exact_loss, exact = losses_and_gradients()
  kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(gradients)}
  assert kinds == {"float32"}
  pairs = zip(jax.tree.leaves(gradients), jax.tree.leaves(exact), strict=True)
  # A bias of keys moves all scores of a query alike: its gradient is rounding.
  gaps = [off(a, b) for a, b in pairs if np.abs(b).max() > 1e-6]
  assert len(gaps) == len(jax.tree.leaves(exact)) - 1
  # Of 2^-9 a number; the narrower a layer, the less of it averages out.
  assert 0 < abs(loss / exact_loss - 1) < 1e-4
  assert max(gaps) < 0.05 and 1e-3 < np.median(gaps) < 0.02


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_sampler_rounds_what_is_rounded_anyway_and_no_more(dtype):
  config = tiny.make_config(
    tied_head=False, smear=True, dtype=dtype, operands="bfloat16"
  )
  _, form, params = tiny.make(3, tied_head=False, smear=True)
  inner = rounding.rounded(params, config)["params"]
  assert inner["head"].dtype == jnp.bfloat16
  assert inner["embedding"].dtype == dtype
  assert inner["point_to"]["kernel"].dtype == jnp.float32
  assert inner["head_digits"].dtype == jnp.float32
  blocks = inner["decoder"]["blocks"]
  assert blocks["q"]["main"]["kernel"].dtype == jnp.bfloat16
  assert blocks["norm_mlp"]["main"]["scale"].dtype == jnp.float32
  same = rounding.rounded(params, form.model)  # float32 all over
  jax.tree.map(np.testing.assert_array_equal, same, params)
