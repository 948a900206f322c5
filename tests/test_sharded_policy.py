"""Eight devices compute what one computes: loss, gradients and samples."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from cooper_jax.models import unified
from cooper_jax.parallel import shard
from cooper_jax.parallel.mesh import MeshConfig, make_mesh
from cooper_jax.sampling import grammar, sampler
from cooper_jax.sampling.prompts import make, row_keys
from cooper_jax.sequences import packing, scoring, segments
from tests import tiny

LAYOUTS = {
  "data": MeshConfig(data=8),
  "fsdp": MeshConfig(data=1, fsdp=8),
  "fsdp_tensor": MeshConfig(data=1, fsdp=4, tensor=2),
  "mixed": MeshConfig(data=2, fsdp=2, tensor=2),
  "sequence": MeshConfig(data=2, fsdp=2, sequence=2),
}


def boxed_shapes(model):
  empty = packing.pack(
    [],
    form=tiny.make_form(tiny.make_config()),
    shape=packing.Shape(length=8, texts=1, codes=1),
    rows=1,
  )
  tokens, layout = packing.inputs(empty)
  init = functools.partial(model.init, method=unified.Unified.everything)
  return jax.eval_shape(
    init, jax.random.key(0), tokens, layout, empty["images"], empty["image_at"]
  )


@functools.cache
def problem():
  model, form, params = tiny.make(tied_head=False)
  rng = np.random.default_rng(0)
  documents = [tiny.random_document(rng, form) for _ in range(8)]
  shape = packing.Shape(
    length=30 + 3 * 75, texts=80, codes=120, trunk=30, bin_size=75
  )
  batch = packing.pack(documents, form=form, shape=shape, rows=8)
  trunks = [
    (
      segments.Image(tiny.random_image(rng, form)),
      tiny.random_text(rng, form, low=2, high=6),
    )
    for _ in range(4)
  ]
  return model, form, params, shape, batch, trunks


def compute(mesh):
  """Loss, gradients and a rollout with everything laid out on a mesh."""
  model, form, params, shape, batch, trunks = problem()
  with jax.set_mesh(mesh):
    shardings = shard.abstract_shardings(boxed_shapes(model), mesh)
    params = jax.device_put(params, shardings)
    placed = jax.device_put(batch, shard.batch_sharding(mesh))

    def loss(params, batch):
      scores = scoring.score(
        model, params, batch, form=form, sampled=False, bins=shape.bins
      )
      pairs, _ = scoring.next_token(scores, batch, form=form, z_weight=1e-3)
      return sum(total / weight for total, weight in pairs.values())

    value, grads = jax.jit(jax.value_and_grad(loss))(params, placed)
    limits = grammar.Limits(text=6, maps=1, script=2)
    prompts = make(
      trunks,
      form=form,
      length=32,
      group=2,
      limits=limits,
      modes=[grammar.Mode(form.allowed_maps)] * 4,
    )
    out = sampler.sample(
      params,
      prompts,
      row_keys(jax.random.key(1), range(8)),
      model=model,
      form=form,
      limits=limits,
      group=2,
      text_temperature=1.0,
      code_temperature=1.0,
    )
    return jax.tree.map(np.asarray, (value, grads, out))


@functools.cache
def on_one_device():
  return compute(make_mesh(devices=jax.devices()[:1]))


@pytest.mark.ci
@pytest.mark.parametrize("name", LAYOUTS)
def test_eight_devices_match_one(name):
  config = LAYOUTS[name]
  if name == "mixed":  # 2 x 2 x 2: the batch of 8 over 4, heads over 2
    assert config.tensor == 2
  value, grads, out = compute(make_mesh(config))
  expected_value, expected_grads, expected_out = on_one_device()
  np.testing.assert_allclose(value, expected_value, atol=1e-5, rtol=1e-5)
  for one, other in zip(
    jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True
  ):
    np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-4)
  np.testing.assert_array_equal(out.tokens, expected_out.tokens)
  np.testing.assert_allclose(out.log_prob, expected_out.log_prob, atol=1e-5)


def test_parameters_are_cut_as_the_rules_say():
  model = problem()[0]
  mesh = make_mesh(LAYOUTS["mixed"])
  shardings = shard.abstract_shardings(boxed_shapes(model), mesh)
  gate = shardings["params"]["decoder"]["blocks"]["gate"]["main"]["kernel"]
  assert tuple(gate.spec) == (None, "fsdp", "tensor")
  assert nn.meta.unbox(boxed_shapes(model))["params"]["embedding"].shape == (
    tiny.TEXT + 64 + 16 + 12,
    24,
  )
