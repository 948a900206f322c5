"""Every kernel equals XLA's attention; what is recomputed changes nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax import errors
from cooper_jax.models import attention, kernels
from cooper_jax.models.config import REMAT, BinLayout
from cooper_jax.models.masks import RowLayout, attention_mask, bin_masks
from cooper_jax.parallel.mesh import MeshConfig, make_mesh
from cooper_jax.sequences import packing
from tests import tiny

DEVICES = 8


@pytest.fixture
def interpreted(monkeypatch):
  """Splash attention on a CPU."""
  run = functools.partial(kernels.splash, interpret=True)
  monkeypatch.setitem(kernels.KERNELS, "splash", run)


def layout_of(rng, batch, length):
  """Documents with branches in random groups, and padding at the end."""
  document = np.sort(rng.integers(1, 4, (batch, length)), axis=1)
  document[:, length - 20 :] = 0
  return RowLayout(
    document=jnp.asarray(document),
    branch=jnp.asarray(rng.integers(0, 3, (batch, length))),
    order=jnp.asarray(np.sort(rng.integers(0, 40, (batch, length)), axis=1)),
  )


def arrays(rng, batch, length, heads=4, kv_heads=2, head_dim=16):
  """Queries, keys, values, and what their gradients are asked with."""
  shapes = [(heads,), (kv_heads,), (kv_heads,), (heads,)]
  return [
    rng.normal(size=(batch, length, *n, head_dim)).astype(np.float32)
    for n in shapes
  ]


def out_and_gradients(attend, q, k, v, weight, live):
  def loss(q, k, v):
    out = attend(q, k, v)
    return jnp.sum(jnp.where(live[..., None, None], out * weight, 0)), out

  run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
  (_, out), gradients = run(q, k, v)
  assert all(bool(jnp.isfinite(x).all()) for x in (out, *gradients))
  return jnp.where(live[..., None, None], out, 0), *gradients


def assert_close(ours, theirs, atol=2e-5):
  for one, other in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(one, other, atol=atol)


@pytest.mark.ci
@pytest.mark.parametrize("length", [128, 200])
def test_splash_is_xla(length, interpreted):
  rng = np.random.default_rng(length)
  layout = layout_of(rng, 2, length)
  mask, live = attention_mask(layout), layout.document > 0
  *given, weight = arrays(rng, 2, length)
  results = [
    out_and_gradients(
      lambda q, k, v, n=name: attention.attend(q, k, v, mask, kernel=n),
      *given, weight, live,
    )
    for name in ("splash", "xla")
  ]  # fmt: skip
  assert_close(*results)


@pytest.mark.ci
def test_splash_is_xla_in_blocks(interpreted):
  rng = np.random.default_rng(1)
  bins = BinLayout(trunk=100, bin_size=64)
  length = bins.trunk + 2 * bins.bin_size
  layout = layout_of(rng, 2, length)
  # A row in bins is one document.
  layout = layout.replace(
    document=jnp.minimum(layout.document, 1).at[:, 90:110].set(0)
  )
  masks, live = bin_masks(layout, bins), layout.document > 0
  *given, weight = arrays(rng, 2, length)
  results = [
    out_and_gradients(
      lambda q, k, v, n=name: attention.attend_bins(
        q, k, v, masks, bins, kernel=n
      ),
      *given, weight, live,
    )
    for name in ("splash", "xla")
  ]  # fmt: skip
  assert_close(*results)


@pytest.mark.ci
@pytest.mark.skipif(
  len(jax.devices()) < DEVICES, reason=f"needs {DEVICES} devices"
)
@pytest.mark.parametrize(
  "sizes", [dict(fsdp=2, sequence=2, tensor=2), dict(data=2, fsdp=4)]
)
def test_splash_on_several_devices_is_xla_on_one(sizes, interpreted):
  rng = np.random.default_rng(2)
  layout = layout_of(rng, 8, 256)
  mask, live = (
    np.asarray(attention_mask(layout)),
    np.asarray(layout.document) > 0,
  )
  *given, weight = arrays(rng, 8, 256)

  def attend(kernel):
    return lambda q, k, v: attention.attend(q, k, v, mask, kernel=kernel)

  one = out_and_gradients(attend("xla"), *given, weight, live)
  sizes = dict(data=1, fsdp=1, sequence=1, tensor=1) | sizes
  mesh = make_mesh(MeshConfig(**sizes), devices=jax.devices()[:DEVICES])
  with jax.set_mesh(mesh):
    several = out_and_gradients(attend("splash"), *given, weight, live)
  assert_close(several, one)


def test_splash_is_lowered_for_a_tpu():
  q, k, v, _ = arrays(np.random.default_rng(3), 1, 256, head_dim=128)
  mask = jnp.ones((1, 256, 256), bool)
  run = jax.jit(lambda *x: attention.attend(*x, mask, kernel="splash").sum())
  lowered = run.trace(q, k, v).lower(lowering_platforms=("tpu",))
  assert "tpu_custom_call" in lowered.as_text()


@pytest.mark.parametrize("length", [96, 97])
def test_cudnn_is_asked_for_what_xla_computes(length, monkeypatch):
  """On a GPU its own code runs; here JAX's reference for it."""
  asked = []

  def reference(*args, implementation, **named):
    asked.append(implementation)
    assert {x.shape[1] for x in args} == {96 + 2 * (length - 96)}  # even
    return original(*args, **named, implementation="xla")

  original = jax.nn.dot_product_attention
  monkeypatch.setattr(jax.nn, "dot_product_attention", reference)
  rng = np.random.default_rng(4)
  layout = layout_of(rng, 2, length)
  mask, live = attention_mask(layout), layout.document > 0
  *given, weight = arrays(rng, 2, length)
  results = [
    out_and_gradients(
      lambda q, k, v, n=name: attention.attend(q, k, v, mask, kernel=n),
      *given, weight, live,
    )
    for name in ("cudnn", "xla")
  ]  # fmt: skip
  assert_close(*results)
  assert set(asked) == {"cudnn"}


@pytest.mark.skipif(
  jax.default_backend() != "gpu", reason="needs a GPU that cuDNN knows"
)
def test_cudnn_is_xla_on_a_gpu():
  rng = np.random.default_rng(5)
  layout = layout_of(rng, 2, 256)
  mask, live = attention_mask(layout), layout.document > 0
  *given, weight = arrays(rng, 2, 256, head_dim=128)
  given = [jnp.asarray(x, jnp.bfloat16) for x in given]
  results = [
    out_and_gradients(
      lambda q, k, v, n=name: attention.attend(q, k, v, mask, kernel=n),
      *given, weight, live,
    )
    for name in ("cudnn", "xla")
  ]  # fmt: skip
  assert_close(*results, atol=0.1)


@pytest.mark.parametrize(
  ("platform", "head_dim", "dtype", "kernel"),
  [
    ("cpu", 128, "bfloat16", "xla"),
    ("tpu", 128, "float32", "splash"),
    ("tpu", 32, "bfloat16", "xla"),
    ("gpu", 128, "bfloat16", "cudnn"),
    ("gpu", 128, "float32", "xla"),
    ("gpu", 32, "bfloat16", "xla"),
  ],
)
def test_a_kernel_is_chosen_by_platform(platform, head_dim, dtype, kernel):
  sizes = {"head_dim": head_dim, "dtype": dtype}
  assert kernels.choose("auto", platform, **sizes) == kernel
  assert kernels.choose("splash", platform, **sizes) == "splash"


def test_cudnn_has_no_part_of_a_sequence():
  sizes = {"head_dim": 128, "dtype": "bfloat16", "sequences": 2}
  assert kernels.choose("auto", "gpu", **sizes) == "xla"
  with pytest.raises(errors.UserError, match="sequence is 2"):
    kernels.choose("cudnn", "gpu", **sizes)


def test_an_unknown_kernel_is_refused():
  with pytest.raises(errors.UserError, match="allowed: auto, xla, splash"):
    kernels.choose("flash", "cpu", head_dim=8, dtype="float32")


@pytest.mark.ci
def test_what_is_recomputed_changes_nothing(interpreted):
  found = {}
  for name in (*REMAT, "splash"):
    changes = {"remat": name} if name != "splash" else {}
    if name == "splash":
      changes = {"attention": name, "remat": "attention"}
    model, form, params = tiny.make(tied_head=False, **changes)
    document = tiny.random_document(np.random.default_rng(5), form)
    shape = packing.Shape(length=300, texts=100, codes=100)
    batch = packing.pack([document], form=form, shape=shape, rows=1)

    def loss(params, model=model, form=form, batch=batch):
      tokens, layout = packing.inputs(batch)
      hidden, _, _ = model.apply(params, tokens, layout, batch["images"])
      live = (tokens.kind > 0)[..., None]
      return jnp.sum(jnp.where(live, jnp.sin(hidden), 0))

    found[name] = jax.jit(jax.value_and_grad(loss))(params)
  value, gradients = found.pop("none")
  for name, (other, theirs) in found.items():
    np.testing.assert_allclose(other, value, atol=2e-4, err_msg=name)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=3e-4),
      gradients,
      theirs,
    )


def test_an_unknown_remat_is_refused():
  with pytest.raises(errors.UserError, match="allowed: none, attention"):
    tiny.make_config(remat="some")


def _shared_case(rng, lengths, *, rows=6, prefixes=2, kv_heads=2, width=4):
  """(q, prefix, rungs) with ragged masks; every row has a key to look at."""
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731

  def held(count, length):
    mask = jnp.asarray(rng.random((count, length)) < 0.7)
    keys = draw(kv_heads, count, width, length)
    return keys, draw(kv_heads, count, length, width), mask.at[:, 0].set(True)

  q = draw(rows, 3, 2 * kv_heads, width)
  return q, held(prefixes, 7), [held(rows, length) for length in lengths]


@pytest.mark.ci
def test_parts_joined_by_mass_are_one_softmax():
  q, prefix, rungs = _shared_case(np.random.default_rng(0), (5, 16, 3))
  k, v, mask = (list(part) for part in zip(prefix, *rungs, strict=True))
  k[0], v[0] = jnp.repeat(k[0], 3, axis=1), jnp.repeat(v[0], 3, axis=1)
  mask[0] = jnp.repeat(mask[0], 3, axis=0)
  k = jnp.moveaxis(jnp.concatenate(k, axis=3), (1, 3), (0, 1))
  v = jnp.moveaxis(jnp.concatenate(v, axis=2), (1, 2), (0, 1))
  mask = jnp.concatenate(mask, axis=1)
  seen = jnp.broadcast_to(mask[:, None], (6, 3, mask.shape[1]))
  np.testing.assert_allclose(
    attention.attend_shared(q, prefix, rungs),
    attention.attend(q, k, v, seen),
    atol=2e-6,
  )


@pytest.mark.parametrize("lengths", [(16,), (16, 32), (48, 16, 80)])
def test_a_rung_that_holds_nothing_changes_no_bit(lengths):
  q, prefix, rungs = _shared_case(np.random.default_rng(1), lengths)
  empty = [(k, v, jnp.zeros_like(mask)) for k, v, mask in rungs]
  both = jax.jit(attention.attend_shared)
  np.testing.assert_array_equal(
    both(q, prefix, rungs), both(q, prefix, rungs + empty)
  )
  assert (both(q, prefix, rungs) != both(q, prefix, rungs[1:] + empty)).any()
