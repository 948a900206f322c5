"""The TPU kernel of a decoding step equals XLA's attention to the cache."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax.models import attention, cached_attention, kernels, layers
from cooper_jax.models.cache import turned
from cooper_jax.parallel.mesh import MeshConfig, make_mesh
from cooper_jax.sampling import grammar
from tests import tiny
from tests.sampling import test_exactness

DEVICES = 8
WIDTH = 128  # of a head: the kernel takes whole registers
AT = 9  # where the new positions go


def step_case(
  rng,
  *,
  length,
  group,
  heads=3,
  prefixes=2,
  prefix=40,
  positions=48,
  read=30,
  width=WIDTH,
):
  """(q, k, v, turn, cached, masks, layer): random, with ragged masks."""
  kv_heads, rows, depth = 2, prefixes * group, 3

  def draw(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  def held(count, long):
    keys = draw(depth, kv_heads, count, width, long)
    return keys, draw(depth, kv_heads, count, long, width)

  masks = [
    jnp.asarray(rng.random(shape) < 0.6)
    for shape in ((prefixes, prefix), (rows, read))
  ]
  masks[1] = masks[1].at[:, AT : AT + length].set(False)
  cached = *held(prefixes, prefix), *held(rows, positions)
  # Where nothing has been written yet the cache holds zeros.
  written = jnp.pad(masks[1], ((0, 0), (0, positions - read)))
  cached = (
    *cached[:2],
    cached[2] * written[:, None],
    cached[3] * written[..., None],
  )
  q = draw(rows, length, kv_heads * heads, width)
  k, v = (draw(rows, length, kv_heads, width) for _ in range(2))
  turn = layers.rope_turn(3 * draw(rows, length, width // 2))
  return q, k, v, turn, cached, tuple(masks), jnp.int32(rng.integers(depth))


def by_xla(q, k, v, turn, cached, masks, layer, norm=None):
  if norm:
    *scales, eps = norm
    q, k = (
      layers.RMSNorm(eps=eps).apply({"params": {"scale": scale}}, x)
      for x, scale in zip((q, k), scales, strict=True)
    )
  prompt_k, prompt_v, own_k, own_v = (x[layer] for x in cached)
  read, length = masks[1].shape[1], q.shape[1]
  seen = masks[1].at[:, AT : AT + length].set(True)
  k = layers.apply_rope(k, turn)
  mixed = attention.attend_shared(
    layers.apply_rope(q, turn),
    (prompt_k, prompt_v, masks[0]),
    [(own_k[..., :read], own_v[:, :, :read], seen)],
    (*turned(k, v), AT),
  )
  return mixed, k


def by_kernel(
  q, k, v, turn, cached, masks, layer, norm=None, *, interpret=True
):
  past = cached_attention.arrange(cached, masks, turn)
  return cached_attention.attend_cached(
    q, k, v, past, layer, norm=norm, interpret=interpret
  )


@pytest.mark.parametrize(
  "sizes",
  [
    {"length": 1, "group": 4},
    {"length": 4, "group": 3, "heads": 1},
    {"length": 1, "group": 32},  # two programs a prefix
    {"length": 2, "group": 2, "prefixes": 1, "read": 48},
    {"length": 1, "group": 2, "positions": 300, "read": 130},
    {"length": 3, "group": 22, "heads": 2},  # of eleven rows each
    {"length": 2, "group": 2, "width": 256},
  ],
  ids=["one", "row", "chunks", "all", "read", "odd", "wide"],
)
def test_the_kernel_is_xla(sizes):
  case = step_case(np.random.default_rng(0), **sizes)
  ours, theirs = jax.jit(by_kernel)(*case), jax.jit(by_xla)(*case)
  for one, other in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(one, other, atol=5e-6)


def test_queries_and_keys_are_normalised_in_the_kernel():
  rng = np.random.default_rng(5)
  case = step_case(rng, length=2, group=3)
  scales = (jnp.asarray(rng.normal(1, 0.3, WIDTH), jnp.float32) for _ in "qk")
  norm = *scales, 0.1
  ours, theirs = (
    jax.jit(functools.partial(by, norm=norm))(*case)
    for by in (by_kernel, by_xla)
  )
  for one, other in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(one, other, atol=5e-6)


@pytest.mark.parametrize("length", [1, 2])
def test_the_kernel_rounds_as_xla_does(length):
  rng = np.random.default_rng(4)
  case = step_case(rng, length=length, group=4)
  q, k, v, turn, cached, masks, layer = case
  half = functools.partial(jax.tree.map, lambda x: x.astype(jnp.bfloat16))
  given = *half((q, k, v)), turn, half(cached), masks, layer
  scales = [jnp.asarray(rng.normal(1, 0.3, WIDTH), jnp.float32) for _ in "qk"]
  norm = *scales, 1e-6
  ours, theirs = (
    jax.jit(functools.partial(by, norm=norm))(*given)
    for by in (by_kernel, by_xla)
  )
  assert ours[0].dtype == ours[1].dtype == jnp.bfloat16
  np.testing.assert_allclose(  # a mean in another order rounds one otherwise
    *(x[1].astype(jnp.float32) for x in (ours, theirs)), rtol=2**-7
  )
  full = jax.jit(functools.partial(by_xla, norm=norm))(*case)[0]
  off, allowed = (
    float(jnp.abs(x.astype(jnp.float32) - full).max())
    for x in (ours[0], theirs[0])
  )
  assert 0 < off < 2 * allowed


@pytest.mark.parametrize("size", [1, 300])
def test_a_prefix_that_is_masked_whole_is_not_seen(size):
  """Also where scores are so far apart that only the largest is left."""
  q, k, v, turn, cached, masks, layer = step_case(
    np.random.default_rng(1), length=1, group=2
  )
  masks = masks[0].at[0].set(False), masks[1]
  given = size * q, k, v, turn
  run = jax.jit(by_kernel)
  found = run(*given, cached, masks, layer)[0]
  theirs = jax.jit(by_xla)(*given, cached, masks, layer)[0]
  np.testing.assert_allclose(found, theirs, atol=1e-4)
  other = cached[0].at[:, :, 0].set(7.0), cached[1].at[:, :, 0].set(7.0)
  again = run(*given, (*other, *cached[2:]), masks, layer)[0]
  assert jnp.isfinite(found).all()
  np.testing.assert_array_equal(found, again)


@pytest.mark.skipif(
  len(jax.devices()) < DEVICES, reason=f"needs {DEVICES} devices"
)
def test_several_devices_are_one():
  case = step_case(np.random.default_rng(2), length=1, group=2, prefixes=4)
  one = jax.jit(by_kernel)(*case)
  case = jax.tree.map(np.asarray, case)
  sizes = MeshConfig(data=2, fsdp=2, sequence=1, tensor=2)
  with jax.set_mesh(make_mesh(sizes, devices=jax.devices()[:DEVICES])):
    assert cached_attention.fits(case[4], 3, 30)
    several = jax.jit(by_kernel)(*case)
  for ours, theirs in zip(several, one, strict=True):
    np.testing.assert_array_equal(ours, theirs)


def test_the_kernel_is_lowered_for_a_tpu():
  case = step_case(np.random.default_rng(3), length=1, group=8)
  run = jax.jit(functools.partial(by_kernel, interpret=False))
  lowered = run.trace(*case).lower(lowering_platforms=("tpu",))
  assert "tpu_custom_call" in lowered.as_text()


@pytest.mark.skipif(
  len(jax.devices()) < DEVICES, reason=f"needs {DEVICES} devices"
)
def test_what_does_not_fit_is_left_to_xla():
  def fits(prefix=(3, 2, 4, WIDTH, 40), positions=48, queries=2):
    layers_, kv_heads, prefixes, width, length = prefix
    shapes = [
      prefix,
      (layers_, kv_heads, prefixes, length, width),
      (layers_, kv_heads, 8 * prefixes, width, positions),
      (layers_, kv_heads, 8 * prefixes, positions, width),
    ]
    cached = [jax.ShapeDtypeStruct(shape, "bfloat16") for shape in shapes]
    return cached_attention.fits(cached, queries, positions)

  assert fits()
  assert not fits((3, 2, 4, 64, 40))  # half a register
  assert not fits((3, 2, 4, WIDTH, 2**17))  # no room
  assert not fits(positions=2**16)
  assert not fits(queries=2**12)  # more than are compiled in the room
  sizes = MeshConfig(data=8, fsdp=1, sequence=1, tensor=1)
  with jax.set_mesh(make_mesh(sizes, devices=jax.devices()[:DEVICES])):
    assert not fits()  # four prefixes on eight devices
    assert fits((3, 2, 8, WIDTH, 40))


@pytest.mark.ci
@pytest.mark.parametrize(
  "changes",
  [
    {"codes_per_step": "token"},
    {"codes_per_step": "row", "mixture_of_transformers": True},
  ],
  ids=["token", "mixture"],
)
def test_sampler_log_prob_is_trainer_log_prob(changes, monkeypatch):
  """As where layers are a loop in XLA, with both kernels of a TPU."""
  calls = []

  def attend_cached(*given, norm):
    calls.append(norm is not None)
    return original(*given, norm=norm, interpret=True)

  original = cached_attention.attend_cached
  monkeypatch.setattr(cached_attention, "attend_cached", attend_cached)
  splash = functools.partial(kernels.splash, interpret=True)
  monkeypatch.setitem(kernels.KERNELS, "splash", splash)
  model, form, params = tiny.make(
    3,
    tied_head=False,
    attention="splash",
    head_dim=WIDTH,
    **changes,
  )
  params = test_exactness.eager_to_draw(params, form)
  made = test_exactness.trunks(np.random.default_rng(1), form, 2)
  limits = grammar.Limits(text=7, maps=2, script=3)
  out = test_exactness.run(model, form, params, made, range(6), limits=limits)
  assert calls and all(calls) != ("mixture_of_transformers" in changes)
  kinds = {int(kind) for kind in np.unique(out.state[out.trainable])}
  assert len(kinds) == 2  # text and codes
  theirs = test_exactness.trainer_log_probs(
    model, form, params, out, made, group=3, limits=limits
  )
  np.testing.assert_allclose(
    out.log_prob[out.trainable], theirs[out.trainable], atol=2e-5
  )
