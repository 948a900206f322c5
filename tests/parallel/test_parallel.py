"""Eight devices compute what one does; a wrong layout is named, not lost."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.parallel import rules, shard
from cooper_jax.parallel.mesh import (
  AXES,
  MeshConfig,
  check_batches,
  describe,
  make_mesh,
  mesh_shape,
)
from cooper_jax.training import optim, state


@pytest.fixture(scope="module")
def mesh():
  return make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))


@pytest.mark.parametrize(
  "asked, devices, shape",
  [
    (MeshConfig(), 8, (8, 1, 1, 1)),
    (MeshConfig(data=2, fsdp=-1), 8, (2, 4, 1, 1)),
    (MeshConfig(data=2, tensor=4), 8, (2, 1, 1, 4)),
  ],
)
def test_mesh_shape(asked, devices, shape):
  assert mesh_shape(asked, devices) == shape


@pytest.mark.parametrize(
  "asked", [MeshConfig(3), MeshConfig(-1, -1), MeshConfig(0), MeshConfig(16)]
)
def test_a_mesh_that_does_not_fit_is_refused(asked):
  with pytest.raises(UserError, match=r"config\.mesh is data="):
    mesh_shape(asked, 8)


def test_mesh_axes_are_automatic(mesh):
  assert mesh.axis_names == AXES
  assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}
  assert describe(mesh) == "data 2 x fsdp 2 x sequence 1 x tensor 2"


def test_constrain_reaches_the_program(mesh):
  with jax.set_mesh(mesh):
    jaxpr = jax.make_jaxpr(
      lambda x: shard.constrain(x, "batch", "length", "embed_out")
    )(jnp.ones((4, 6, 8)))
  assert "sharding_constraint" in str(jaxpr)


def test_constrain_without_a_mesh_raises():
  # Other tests of this process may have set a mesh for good.
  nothing = jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ()))
  with nothing, pytest.raises(RuntimeError, match="needs a mesh"):
    shard.constrain(jnp.ones((4, 6)), "batch", "length")


def test_constrain_checks_its_names(mesh):
  with jax.set_mesh(mesh):
    with pytest.raises(UserError, match='did you mean "length"'):
      shard.constrain(jnp.ones((4, 6)), "batch", "lenght")
    with pytest.raises(ValueError, match="1 axis names"):
      shard.constrain(jnp.ones((4, 6)), "batch")


class Stack(nn.Module):
  @nn.compact
  def __call__(self, x):
    for name, axes in (("up", ("embed", "ffn")), ("down", ("ffn", "embed"))):
      kernel = self.param(
        name,
        nn.with_logical_partitioning(nn.initializers.lecun_normal(), axes),
        (x.shape[-1], 16 if name == "up" else 8),
      )
      x = jnp.tanh(shard.constrain(x @ kernel, "batch", "embed_out"))
    return x


def boxed_shapes(width=8):
  one = make_mesh(MeshConfig(1), devices=jax.devices()[:1])
  with jax.set_mesh(one):
    return jax.eval_shape(
      Stack().init, jax.random.key(0), jnp.ones((4, width))
    )["params"]


def test_parameters_lie_as_the_rules_say(mesh):
  found = shard.abstract_shardings(boxed_shapes(), mesh)
  assert found["up"].spec == jax.P("fsdp", "tensor")
  assert found["down"].spec == jax.P("tensor", "fsdp")
  decode = shard.abstract_shardings(boxed_shapes(), mesh, rules.DECODE_RULES)
  assert decode["up"].spec == jax.P(None, "tensor")


def test_a_size_that_does_not_divide_is_named(mesh):
  with pytest.raises(UserError) as caught:
    shard.abstract_shardings(boxed_shapes(width=7), mesh)
  message = str(caught.value)
  for part in ("parameter up (7, 16)", "'embed'", "'fsdp'", "'data': 2"):
    assert part in message
  assert '"embed" of 7 does not divide into 2' in message


def test_an_axis_without_a_rule_is_named(mesh):
  lacking = {k: v for k, v in rules.TRAIN_RULES.items() if k != "ffn"}
  with pytest.raises(UserError, match=r'parameter .* has the axis "ffn"'):
    shard.abstract_shardings(boxed_shapes(), mesh, lacking)


def test_one_mesh_axis_can_not_shard_twice(mesh):
  clash = rules.TRAIN_RULES | {"ffn": "fsdp"}
  with pytest.raises(UserError, match="can't shard two axes"):
    shard.abstract_shardings(boxed_shapes(), mesh, clash)


@pytest.mark.parametrize(
  "asked",
  [MeshConfig(8), MeshConfig(2, 2, 1, 2), MeshConfig(1, 8)],
  ids=["data", "mixed", "fsdp"],
)
def test_eight_devices_train_like_one(asked):
  config = optim.OptimConfig(learning_rate=1e-2, warmup_steps=0)
  optimizer = optim.make_optimizer(config, steps=4)
  x = np.random.default_rng(1).normal(size=(8, 8)).astype(np.float32)

  def step(now, x):
    def loss(params):
      return (Stack().apply({"params": params}, x) ** 2).sum() / x.size

    grads = jax.grad(loss)(now.params)
    now, metrics = optim.apply_gradients(now, grads, optimizer=optimizer)
    return now, metrics

  def init(key):
    params = shard.unbox(Stack().init(key, x)["params"])
    return state.create(params, optimizer, key=key)

  def train(mesh, spread):
    with jax.set_mesh(mesh):
      shapes = jax.eval_shape(init, jax.random.key(0))
      layout = None
      if spread:
        layout = shard.state_shardings(
          shapes, shard.abstract_shardings(boxed_shapes(), mesh), mesh
        )
      now = jax.jit(init, out_shardings=layout)(jax.random.key(0))
      for _ in range(3):
        now, _ = jax.jit(step, out_shardings=(layout, None))(now, x)
    return now

  one = train(make_mesh(MeshConfig(1), devices=jax.devices()[:1]), False)
  many = train(make_mesh(asked), True)
  if asked.fsdp > 1:
    moment = many.opt_state[1][0].mu["up"]
    assert "fsdp" in str(many.params["up"].sharding.spec)
    assert moment.sharding.spec == many.params["up"].sharding.spec
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    jax.device_get(one.params),
    jax.device_get(many.params),
  )


def test_a_batch_is_cut_along_its_first_axis(mesh):
  x = jax.device_put(jnp.ones((8, 3)), shard.batch_sharding(mesh))
  assert {s.data.shape for s in x.addressable_shards} == {(2, 3)}


def test_a_batch_that_devices_cannot_share_is_an_error():
  mesh = make_mesh(MeshConfig(data=4, fsdp=2))
  check_batches(mesh, {"sft": 16})
  with pytest.raises(UserError, match=r"config\.sft\.batch is 12, which 8"):
    check_batches(mesh, {"sft": 12})
