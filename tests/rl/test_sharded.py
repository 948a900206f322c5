"""One step of GRPO on eight devices is the step on one: samples and update."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from cooper_jax.parallel import shard
from cooper_jax.parallel.mesh import MeshConfig, make_mesh
from cooper_jax.policy import for_sampling, init_state, make_policy
from cooper_jax.rl import build, sample
from cooper_jax.runtime import bf16
from cooper_jax.sequences import distribution
from tests.rl import toy
from tests.rl.toy import asked

LAYOUTS = {
  "fsdp": MeshConfig(data=1, fsdp=8),
  "fsdp_tensor": MeshConfig(data=1, fsdp=4, tensor=2),
  "mixed": MeshConfig(data=2, fsdp=2, tensor=2),
  "sequence": MeshConfig(data=2, fsdp=2, sequence=2),
}


def odd_policy():
  """A row of the table more than there are tokens, so that it can be halved."""
  config = toy.CONFIG.copy_and_resolve_references()
  config.model.kv_heads = 2
  config.text_rows = toy.POLICY.text.size + 1
  return config, make_policy(config)


CONFIG, POLICY = odd_policy()


def updated(mesh):
  """(parameters after a step, texts sampled, metrics) on a mesh."""
  # Adam would divide rounding by next to nothing.
  optimizer, seen = optax.sgd(0.1), []
  with jax.set_mesh(mesh):
    everywhere = shard.replicated(mesh)
    codecs = {
      name: dataclasses.replace(
        codec, params=jax.device_put(codec.params, everywhere)
      )
      for name, codec in toy.codecs().items()
    }

    def score(view, columns):
      seen.extend(view.text)
      return toy.letter_e(view, columns)

    step = build.build_step(CONFIG, POLICY, optimizer, codecs, scorer=score)
    state = init_state(POLICY, optimizer, seed=0)
    state, metrics = step(state, asked())
    return jax.device_get(state.params), seen, metrics


@functools.cache
def on_one_device():
  return updated(make_mesh(devices=jax.devices()[:1]))


@functools.cache
def before():
  return jax.device_get(init_state(POLICY, optax.sgd(0.1), seed=0).params)


@pytest.mark.ci
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_step_on_eight_devices_is_the_step_on_one(name):
  params, texts, metrics = updated(make_mesh(LAYOUTS[name]))
  expected, sampled, _ = on_one_device()
  assert texts == sampled
  # Sampler and trainer agree there, as they do on one device.
  total, tokens = map(float, metrics["mismatch_abs/text"])
  assert tokens > 20 and total / tokens < 1e-5
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), params, expected
  )
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), params, before())
  assert max(jax.tree.leaves(moved)) > 1e-4


def test_rows_without_a_token_are_never_chosen():
  allowed = distribution.allowed_rows(POLICY.form)
  words = POLICY.text.size
  assert allowed[words - 1] and not allowed[words]
  assert POLICY.form.vocabulary.specials == words + 1


@pytest.mark.ci
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_the_sampler_reads_half_the_bytes_and_computes_the_same(
  monkeypatch, platform
):
  """In bfloat16: what the model rounds anyway is rounded once, before."""
  config = CONFIG.copy_and_resolve_references()
  config.precision = "bf16"
  monkeypatch.setattr(bf16, "speedup", lambda: 5.0)
  policy = make_policy(config, platform=platform)
  params = init_state(policy, optax.sgd(0.1), seed=0).params
  ready = for_sampling(policy, params)
  kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(ready)}
  assert kinds == {"bfloat16", "float32"}
  monkeypatch.setattr(sample, "for_sampling", lambda _, given, frozen: given)
  begin, _ = build.build_sampler(config, policy, toy.codecs())
  whole, half = (
    jax.device_get(begin(given, asked()).rollout) for given in (params, ready)
  )
  np.testing.assert_array_equal(whole.tokens, half.tokens)
  np.testing.assert_array_equal(whole.log_prob, half.log_prob)
