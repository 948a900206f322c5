"""Logits that fit are kept for the backward pass, others are made again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax.parallel.mesh import MeshConfig, make_mesh
from cooper_jax.sequences import packing, scoring
from tests import tiny

DEVICES = 8
SHAPE = packing.Shape(length=48, texts=6, codes=20)


def empty(form, rows=2):
  """Rows of padding: what is decided is decided by their shapes."""
  return packing.pack([], form=form, shape=SHAPE, rows=rows)


@pytest.mark.parametrize("count", [5, 2 * scoring.CHUNK + 3])
def test_kept_and_recomputed_are_the_same(count):
  """A head of 7 rows, and something of its logits, of few and of many."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, count)).astype(np.float32)
  table = rng.normal(size=7).astype(np.float32)

  def loss(table, x, keep):
    def one(x):
      logits = jnp.tanh(x[..., None] * table)
      return logits.max(axis=-1), jax.nn.logsumexp(logits, axis=-1)

    best, lse = scoring._chunked(one, x, keep=keep)
    return jnp.sum(lse * lse - best)

  gradient = jax.value_and_grad(loss, (0, 1))
  kept, again = (gradient(table, x, keep) for keep in (True, False))
  for one, other in zip(
    jax.tree.leaves(kept), jax.tree.leaves(again), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("mib", "again"), [(0, True), (1, False)])
def test_logits_above_the_limit_are_made_again(mib, again):
  model, form, params = tiny.make(kept_logits_mib=mib)
  batch = empty(form)
  assert 0 < scoring.logits_mib(model, batch) < 1

  def loss(params):
    scores = scoring.score(model, params, batch, form=form, sampled=False)
    return jnp.sum(scores.text_log_prob) + jnp.sum(scores.code_log_prob)

  traced = str(jax.make_jaxpr(jax.grad(loss))(params))
  assert ("remat" in traced or "checkpoint[" in traced) is again


def test_logits_are_counted_by_shape():
  """2 rows of 6 texts (words, specials, cells) and 20 codes, 4 bytes each."""
  model, form, _ = tiny.make()
  numbers = 2 * 6 * model.text_rows + 2 * 20 * form.vocabulary.codes
  found = scoring.logits_mib(model, empty(form))
  assert found == pytest.approx(4 * numbers / 2**20)


@pytest.mark.skipif(
  len(jax.devices()) < DEVICES, reason=f"needs {DEVICES} devices"
)
def test_a_device_counts_its_part():
  """Of 8 rows on data=2, fsdp=4: words are shared by all, the rest by rows."""
  model, form, _ = tiny.make()
  mesh = make_mesh(
    MeshConfig(data=2, fsdp=4, sequence=1, tensor=1),
    devices=jax.devices()[:DEVICES],
  )
  batch = empty(form, rows=8)
  words = model.text_rows - form.model.locations
  local = 8 * 6 * words // (8 if words % 4 == 0 else 2)
  local += 6 * form.model.locations + 20 * form.vocabulary.codes
  with jax.set_mesh(mesh):
    found = scoring.logits_mib(model, batch)
  assert found == pytest.approx(4 * local / 2**20)
