"""Layers called one by one in training are the loop over them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import errors

from cooper_jax.models import layers, transformer
from tests import tiny

LENGTH = 7


def given(config):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, LENGTH, config.d_model)).astype(np.float32)
  angles = rng.normal(size=(2, LENGTH, config.head_dim // 2))
  shared = {
    "turn": layers.rope_turn(jnp.asarray(angles)),
    "is_code": jnp.zeros((2, LENGTH), bool),
    "mask": jnp.tril(jnp.ones((2, LENGTH, LENGTH), bool)),
  }
  return x, shared


def loss_of(config):
  """loss(params) of a decoder, its parameters as a loop has them."""
  decoder, (x, shared) = transformer.Transformer(config), given(config)
  return lambda params: jnp.sum(decoder.apply(params, x, shared)[0] ** 3)


def fresh(config):
  decoder, (x, shared) = transformer.Transformer(config), given(config)
  return decoder.init(jax.random.key(0), x, shared)


@pytest.mark.parametrize("remat", ["none", "full"])
def test_layers_one_by_one_are_the_loop(remat):
  looped = tiny.make_config(layers=3, remat=remat)
  unrolled = tiny.make_config(layers=3, remat=remat, unroll=True)
  params = fresh(looped)
  made = fresh(unrolled)  # a checkpoint of one is one of the other
  assert jax.tree.structure(made) == jax.tree.structure(params)
  jax.tree.map(np.testing.assert_array_equal, made, params)
  value, gradient = jax.jit(jax.value_and_grad(loss_of(looped)))(params)
  ours, our_gradient = jax.jit(jax.value_and_grad(loss_of(unrolled)))(params)
  np.testing.assert_allclose(ours, value, rtol=1e-5)
  for one, other in zip(
    jax.tree.leaves(our_gradient), jax.tree.leaves(gradient), strict=True
  ):
    np.testing.assert_allclose(
      one, other, rtol=0, atol=1e-5 * np.abs(other).max()
    )


def test_a_deep_model_stays_a_loop():
  """It would compile for as long as it is deep."""
  most = transformer.UNROLLED
  for count, loops in ((most, False), (most + 1, True)):
    config = tiny.make_config(layers=count, unroll=True)
    params = jax.eval_shape(lambda c=config: fresh(c))
    traced = str(jax.make_jaxpr(jax.grad(loss_of(config)))(params))
    assert ("scan[" in traced) is loops


def test_a_parameter_of_another_shape_is_refused():
  linear = layers.Linear(3, ("embed", "ffn"))
  given = {"params": {"kernel": np.zeros((4, 3), np.float32)}}
  linear.apply(given, np.zeros((1, 4), np.float32))
  with pytest.raises(errors.ScopeParamShapeError, match="kernel"):
    linear.apply(given, np.zeros((1, 5), np.float32))
