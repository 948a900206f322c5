"""LoRA of a policy: the frozen stays, sampled is trained, 8 devices are 1."""

import functools

import jax
import numpy as np
import pytest

from cooper_jax import policy, trained
from cooper_jax.models import lora
from cooper_jax.parallel import shard
from cooper_jax.parallel.mesh import MeshConfig, make_mesh
from cooper_jax.training import optim
from tests.rl import toy

IMPORTED = ("decoder/*", "embedding", "head", "vision/*")
SETTINGS = lora.LoraConfig(rank=2, alpha=4.0)
DEVICES = 8


def one_device():
  return make_mesh(devices=jax.devices()[:1])


def adaptation(**changes):
  settings = lora.LoraConfig(rank=2, alpha=4.0, **changes)
  return lora.plan(
    policy.boxed_params(toy.POLICY),
    settings,
    imported=IMPORTED,
    text=toy.POLICY.form.model.text,
  )


@functools.cache
def base():
  with jax.set_mesh(one_device()):
    init = jax.jit(lambda key: policy.init_params(toy.POLICY, key))
    return jax.device_get(shard.unbox(init(jax.random.key(4))))


def begin(made, noise=0.3):
  """(state, frozen) on the mesh that is set, B drawn; without noise zero."""
  state, frozen = trained.adapt(
    toy.POLICY, toy.OPTIMIZER, base(), made, seed=0, ema=True
  )
  if not noise:
    return state, frozen
  rng = np.random.default_rng(1)
  flat = {
    name: jax.device_put(
      np.asarray(x) + noise * rng.normal(size=x.shape).astype(np.float32),
      x.sharding,
    )
    for name, x in lora.flatten(state.params).items()
  }
  return state.replace(params=lora.unflatten(flat)), frozen


def steps(count, made=None, noise=0.3):
  """(state after GRPO steps, metrics of the first, frozen)."""
  made = made or adaptation()
  state, frozen = begin(made, noise)
  config = toy.CONFIG.copy_and_resolve_references()
  with config.unlocked():
    config.grpo.rl.loss.kl_weight = config.grpo.rl.code.kl_weight = 0.1
  step = toy.make_step(
    config,
    scorer=toy.letter_e,
    adaptation=made,
    frozen=frozen,
    reference=frozen.base,
  )
  metrics = None
  for number in range(count):
    state, found = step(state, toy.asked(number))
    metrics = metrics or found
  return jax.device_get((state.params, metrics, frozen.base))


@functools.cache
def on_one_device():
  with jax.set_mesh(one_device()):
    return steps(2)


@pytest.mark.ci
def test_what_was_sampled_is_what_is_trained_and_the_rest_is_frozen():
  after, metrics, frozen = on_one_device()
  gaps = {n: v for n, v in metrics.items() if n.startswith("mismatch")}
  assert len(gaps) >= 2
  for name, value in gaps.items():
    value = value[0] / max(value[1], 1) if isinstance(value, tuple) else value
    assert abs(value) < 1e-4, name
  jax.tree.map(np.testing.assert_array_equal, frozen, base())
  with jax.set_mesh(one_device()):
    state, _ = begin(adaptation())
    before = jax.device_get(state.params)
  moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), after, before)
  assert all(x > 0 for n, x in lora.flatten(moved).items() if "lora" in n)
  # The reference is the policy without A and B, from which this one differs.
  assert metrics["kl/text"][0] > 0.01


@pytest.mark.ci
def test_at_the_first_step_the_policy_is_its_own_reference_to_the_bit():
  """Though frozen matrices are rounded, and rows of our own are trained."""
  made = adaptation(base_dtype="bfloat16")
  assert made.own_rows and made.full
  with jax.set_mesh(one_device()):
    _, metrics, _ = steps(1, made, noise=0)
  for kind in ("text", "code"):
    assert metrics[f"kl/{kind}"][0] == 0 and metrics[f"kl/{kind}"][1] > 0
    # The sampler's merged weights are rounded alike: bfloat16 would be 1e-3.
    gap, tokens = metrics[f"mismatch_abs/{kind}"]
    assert gap / tokens < 2e-6


def test_optimiser_and_average_are_of_what_is_trained_alone():
  with jax.set_mesh(one_device()):
    made = adaptation()
    state, frozen = begin(made)
    sizes = jax.tree.map(lambda x: x.shape, state.params)
    assert jax.tree.map(lambda x: x.shape, state.ema) == sizes
    count = sum(x.size for x in jax.tree.leaves(state.params))
    moments = sum(x.size for x in jax.tree.leaves(state.opt_state))
    assert moments <= 2 * count + 4
    whole = sum(x.size for x in jax.tree.leaves(frozen.base))
    assert count < whole
  mask = lora.flatten(optim.decay_mask(state.params))
  assert all(decays for name, decays in mask.items() if "lora" in name)
  assert not mask["embedding" + lora.OWN_ROWS] and not mask["map_query"]
  dimensions = optim.matrix_dimensions("params/decoder/blocks/q/main/lora_a", 3)
  assert (dimensions.reduction_axis, dimensions.output_axis) == ((1,), (2,))


def test_frozen_matrices_are_kept_in_the_dtype_that_is_asked_for():
  with jax.set_mesh(one_device()):
    kept = lora.flatten(begin(adaptation(base_dtype="bfloat16"))[1].base)
    assert kept["decoder/blocks/q/main/kernel"].dtype == "bfloat16"
    assert kept["embedding"].dtype == "bfloat16"
    assert kept["decoder/blocks/norm_mlp/main/scale"].dtype == "float32"
    state, frozen = begin(adaptation())
    # That in which products multiply: here float32.
    assert {str(x.dtype) for x in jax.tree.leaves(frozen)} == {"float32"}
    assert {str(x.dtype) for x in jax.tree.leaves(state.params)} == {"float32"}


def test_a_and_b_are_sharded_as_their_layers():
  mesh = make_mesh(MeshConfig(data=2, fsdp=4))
  with jax.set_mesh(mesh):
    found = policy.param_shardings(toy.POLICY, adaptation())
  q = found["params"]["decoder"]["blocks"]["q"]["main"]
  out = found["params"]["decoder"]["blocks"]["out"]["main"]
  assert tuple(q[lora.A].spec) == (None, "fsdp", None)
  assert tuple(q[lora.B].spec) == (None, None, "tensor")
  assert tuple(out[lora.A].spec) == (None, "tensor", None)
  assert tuple(out[lora.B].spec) == (None, None, "fsdp")


@pytest.mark.slow
@pytest.mark.skipif(
  len(jax.devices()) < DEVICES, reason=f"needs {DEVICES} devices"
)
def test_eight_devices_are_one():
  with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=4))):
    found = steps(2)
  for ours, wanted in zip(
    jax.tree.leaves(found[0]), jax.tree.leaves(on_one_device()[0]), strict=True
  ):
    np.testing.assert_allclose(ours, wanted, atol=1e-4)
