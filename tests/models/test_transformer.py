"""Layers called one by one in training are the loop over them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import errors

from cooper_jax.models import layers, transformer
from tests import tiny

LENGTH = 7


def given(config, deep=0):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, LENGTH, config.d_model)).astype(np.float32)
  angles = rng.normal(size=(2, LENGTH, config.head_dim // 2))
  shared = {
    "turn": layers.rope_turn(jnp.asarray(angles)),
    "is_code": jnp.zeros((2, LENGTH), bool),
    "mask": jnp.tril(jnp.ones((2, LENGTH, LENGTH), bool)),
  }
  if deep:
    added = rng.normal(size=(deep, *x.shape)).astype(np.float32)
    shared["deep"] = jnp.asarray(added)
  return x, shared


def loss_of(config, deep=0):
  """loss(params) of a decoder, its parameters as a loop has them."""
  decoder, (x, shared) = transformer.Transformer(config), given(config, deep)
  return lambda params: jnp.sum(decoder.apply(params, x, shared)[0] ** 3)


def fresh(config):
  decoder, (x, shared) = transformer.Transformer(config), given(config)
  return decoder.init(jax.random.key(0), x, shared)


@pytest.mark.ci
@pytest.mark.parametrize(("remat", "deep"), [("none", 0), ("full", 2)])
def test_layers_one_by_one_are_the_loop(remat, deep):
  looped = tiny.make_config(layers=3, remat=remat)
  unrolled = tiny.make_config(layers=3, remat=remat, unroll=True)
  params = fresh(looped)
  made = fresh(unrolled)  # a checkpoint of one is one of the other
  assert jax.tree.structure(made) == jax.tree.structure(params)
  jax.tree.map(np.testing.assert_array_equal, made, params)
  value, gradient = jax.jit(jax.value_and_grad(loss_of(looped, deep)))(params)
  ours, our_gradient = jax.jit(jax.value_and_grad(loss_of(unrolled, deep)))(
    params
  )
  np.testing.assert_allclose(ours, value, rtol=1e-5)
  for one, other in zip(
    jax.tree.leaves(our_gradient), jax.tree.leaves(gradient), strict=True
  ):
    np.testing.assert_allclose(
      one, other, rtol=0, atol=1e-5 * np.abs(other).max()
    )


def test_what_is_added_behind_layers_is_added_behind_the_first():
  """DeepStack by hand: a layer, what is added, the next layer."""
  config = tiny.make_config(layers=3)
  params, (x, shared) = fresh(config), given(config, 2)
  params = jax.tree.map(lambda x: x, tiny.nn.unbox(params))
  found, _ = transformer.Transformer(config).apply(params, x, shared)
  deep = shared.pop("deep")
  block = transformer.Block(config, "train", parent=None)
  inner = params["params"]
  for layer in range(3):
    own = jax.tree.map(lambda leaf, i=layer: leaf[i], inner["blocks"])
    x, _ = block.apply({"params": own}, x, None, shared)
    x = x + deep[layer] if layer < 2 else x
  norm = layers.RMSNorm(config.norm_eps)
  wanted = norm.apply({"params": inner["norm_final"]["main"]}, x)
  np.testing.assert_allclose(found, wanted, atol=1e-5)


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
