"""Products and attention equal plain einsums, gradients too, in every layout.

The reference is what JAX derives of an einsum; ours may differ from it by 1e-5
of a tensor's largest number.
"""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax.models import attention, products
from cooper_jax.models.config import BinLayout
from cooper_jax.models.masks import RowLayout, attention_mask, bin_masks
from cooper_jax.parallel.mesh import MeshConfig, make_mesh

DEVICES = 8
CLOSE = 1e-5  # of a tensor's largest number


def normal(*shapes, seed=0):
  rng = np.random.default_rng(seed)
  return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def value_and_gradients(fn, *given):
  """fn's result, and the gradients of its square, which weighs every entry."""

  def loss(*given):
    out = fn(*given)
    return jnp.sum(out**2), out

  argnums = tuple(range(len(given)))
  run = jax.jit(jax.value_and_grad(loss, argnums, has_aux=True))
  (_, out), gradients = run(*given)
  return out, *gradients


def assert_same(ours, theirs, *given):
  found = value_and_gradients(ours, *given)
  wanted = value_and_gradients(theirs, *given)
  for one, other in zip(found, wanted, strict=True):
    largest = np.abs(other).max()
    assert largest > 0
    np.testing.assert_allclose(one, other, rtol=0, atol=CLOSE * largest)


@pytest.mark.parametrize("leading", [(7,), (2, 5), (2, 3, 4)])
def test_linear_is_its_einsum(leading):
  x, kernel = normal((*leading, 6), (6, 11))
  plain = lambda x, w: jnp.einsum("...d,df->...f", x, w)  # noqa: E731
  assert_same(products.linear, plain, x, kernel)


@pytest.mark.parametrize("leading", [(7,), (2, 5)])
def test_against_rows_is_its_einsum(leading):
  x, table = normal((*leading, 6), (37, 6))
  plain = lambda x, w: jnp.einsum("...d,vd->...v", x, w)  # noqa: E731
  assert_same(products.against_rows, plain, x, table)


def test_scores_are_their_einsum():
  q, k = normal((2, 3, 2, 5, 4), (2, 3, 9, 4))
  plain = lambda q, k: jnp.einsum("bkalh,bksh->bkals", q, k)  # noqa: E731
  assert_same(products.scores, plain, q, k)


def test_mixed_is_its_einsum():
  weights, v = normal((2, 3, 2, 5, 9), (2, 3, 9, 4))
  plain = lambda w, v: jnp.einsum("bkals,bksh->bkalh", w, v)  # noqa: E731
  assert_same(products.mixed, plain, weights, v)


def test_products_in_a_loop_recomputed_and_mapped_are_the_same():
  """What a chunked head, `remat` and a loop over layers make of them."""
  x, table = normal((3, 4, 6), (11, 6))

  def by_chunk(product):
    one = jax.checkpoint(lambda x, w: jnp.tanh(product(x, w)))
    return lambda x, w: jax.lax.map(lambda x: one(x, w), x)

  def mapped(product):
    return jax.vmap(lambda x, w: jnp.tanh(product(x, w)), (0, None))

  plain = lambda x, w: jnp.einsum("...d,vd->...v", x, w)  # noqa: E731
  for wrap in (by_chunk, mapped):
    assert_same(wrap(products.against_rows), wrap(plain), x, table)


def plain_attention(q_BLNH, k_BSKH, v_BSKH, mask_BLS):
  """Keys repeated to the queries' heads, a softmax, and nothing clever."""
  share = q_BLNH.shape[2] // k_BSKH.shape[2]
  k, v = (jnp.repeat(x, share, axis=2) for x in (k_BSKH, v_BSKH))
  raw = jnp.einsum("blnh,bsnh->bnls", q_BLNH, k) * q_BLNH.shape[-1] ** -0.5
  weights = jax.nn.softmax(
    jnp.where(mask_BLS[:, None], raw, attention.NEGATIVE), axis=-1
  )
  return jnp.einsum("bnls,bsnh->blnh", weights, v)


@pytest.mark.parametrize(
  ("heads", "kv_heads", "queries", "keys"),
  [(4, 4, 8, 8), (4, 2, 13, 13), (6, 1, 5, 17)],
)
def test_attend_is_plain_attention(heads, kv_heads, queries, keys):
  q, k, v = normal(
    (2, queries, heads, 8), (2, keys, kv_heads, 8), (2, keys, kv_heads, 8)
  )
  mask = np.random.default_rng(1).random((2, queries, keys)) < 0.6
  mask[0, 2] = False  # padding sees nothing, and must stay finite
  for each in (mask, np.ones((1, 1, 1), bool)):
    assert_same(
      lambda *given, m=each: attention.attend(*given, m),
      lambda *given, m=each: plain_attention(*given, m),
      q, k, v,
    )  # fmt: skip


def test_attend_in_bins_is_plain_attention():
  """Trunk with padding, bins of two branches each, the last one ragged."""
  bins, count = BinLayout(trunk=9, bin_size=7), 2
  length = bins.trunk + count * bins.bin_size
  document = np.ones((2, length), int)
  document[0, 6:9] = document[1, -3:] = 0
  branch = np.zeros_like(document)
  branch[:, bins.trunk :] = 1 + np.arange(14) * 4 // 14
  # A branch is in one bin whole.
  branch[:, bins.trunk : 16] = np.minimum(branch[:, bins.trunk : 16], 2)
  branch[:, 16:] = np.maximum(branch[:, 16:], 3)
  order = np.broadcast_to(np.arange(length), document.shape)
  layout = jax.tree.map(jnp.asarray, RowLayout(document, branch, order))
  mask, live = attention_mask(layout), (document > 0)[..., None, None]
  q, k, v = normal((2, length, 4, 8), (2, length, 2, 8), (2, length, 2, 8))
  masks = bin_masks(layout, bins)
  assert_same(
    lambda *given: attention.attend_bins(*given, masks, bins) * live,
    lambda *given: plain_attention(*given, mask) * live,
    q, k, v,
  )  # fmt: skip


@pytest.mark.skipif(
  len(jax.devices()) < DEVICES, reason=f"needs {DEVICES} devices"
)
def test_products_on_several_devices_are_those_on_one():
  """Batch, sequence, heads and vocabulary sharded, as in training."""
  q, k, v, x, table = normal(
    (4, 6, 4, 8), (4, 6, 2, 8), (4, 6, 2, 8), (4, 6, 16), (24, 16)
  )
  mask = np.random.default_rng(1).random((4, 6, 6)) < 0.6

  def everything(q, k, v, x, table):
    mixed = attention.attend(q, k, v, mask)
    return mixed.sum() * 1e-2 + products.against_rows(x, table)

  given = (q, k, v, x, table)
  one = value_and_gradients(everything, *given)
  sizes = dict(data=1, fsdp=2, sequence=2, tensor=2)
  mesh = make_mesh(MeshConfig(**sizes), devices=jax.devices()[:DEVICES])
  heads = ("fsdp", "sequence", "tensor", None)
  places = [heads] * 3 + [("fsdp", "sequence", None), ("tensor", "fsdp")]
  with jax.set_mesh(mesh):
    placed = [
      jax.device_put(
        x, jax.NamedSharding(mesh, jax.sharding.PartitionSpec(*place))
      )
      for x, place in zip(given, places, strict=True)
    ]
    several = value_and_gradients(everything, *placed)
  for ours, theirs in zip(several, one, strict=True):
    np.testing.assert_allclose(
      ours, theirs, rtol=0, atol=CLOSE * np.abs(theirs).max()
    )


def compiled(product, *given):
  """The program of a gradient in which the product's own is not constant."""
  loss = lambda x, y: jnp.sum(jnp.sin(product(x, y)))  # noqa: E731
  return jax.jit(jax.grad(loss, (0, 1))).lower(*given).compile().as_text()


def results(program: str, operation: str) -> list[int]:
  """Sizes, in numbers, of what an operation gives each time it is there."""
  found = re.findall(rf"= f32\[([\d,]+)\]\S* {operation}\(", program)
  return [math.prod(map(int, size.split(","))) for size in found]


ON_CPU = pytest.mark.skipif(
  jax.default_backend() != "cpu", reason="is about a CPU's compiler"
)


@ON_CPU
@pytest.mark.parametrize(
  ("product", "shapes", "largest"),
  [
    (products.against_rows, [(2, 64, 8), (96, 8)], 2 * 64 * 96),
    (products.scores, [(2, 2, 2, 16, 8), (2, 2, 32, 8)], 2 * 2 * 2 * 16 * 32),
    (products.mixed, [(2, 2, 2, 16, 32), (2, 2, 32, 8)], 2 * 2 * 2 * 16 * 32),
  ],
)
def test_the_largest_array_is_not_written_again(product, shapes, largest):
  """As JAX's own gradients did: logits, scores and weights, transposed."""
  program = compiled(product, *normal(*shapes))
  for operation in ("transpose", "copy"):
    assert largest not in results(program, operation)


@ON_CPU
def test_the_gradient_of_logits_is_made_once():
  """And not once in each of the two products that take it."""
  program = compiled(products.against_rows, *normal((2, 64, 8), (96, 8)))
  assert results(program, "cosine") == [2 * 64 * 96]


@pytest.mark.parametrize("operands", ["float32", "bfloat16"])
@pytest.mark.parametrize("rows", [1, 7, products.FEW, products.FEW + 1])
def test_the_product_of_a_step_is_that_of_training(rows, operands):
  x, kernel = normal((rows, 1, 24), (24, 40), seed=rows)
  laid_out = products.laid_out(jnp.asarray(kernel), operands=operands)
  found = jax.jit(products.of_few, static_argnames=("operands", "result"))(
    x, laid_out, operands=operands, result="float32"
  )
  wanted = products.linear(x, kernel, operands=operands, result="float32")
  assert found.shape == (rows, 1, 40)
  np.testing.assert_allclose(found, wanted, rtol=0, atol=CLOSE * 20)


def test_the_few_stand_second_in_what_is_compiled():
  x, kernel = normal((3, 24), (24, 40))
  matrix = products.laid_out(jnp.asarray(kernel), operands="float32")
  run = jax.jit(lambda x, y: products.of_few(x, y, operands="float32"))
  assert "f32[40,3]" in run.lower(x, matrix).compile().as_text()
