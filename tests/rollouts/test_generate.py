"""Greedy answers in several modes: each as if it were the only one."""

import dataclasses

import jax
import numpy as np
import pytest

from cooper_jax.policy import for_sampling
from cooper_jax.rollouts import generate
from cooper_jax.rollouts.prompts import Item, mode_of, trunk_of
from cooper_jax.sample import Question, Sample
from tests.rl import toy

pytestmark = pytest.mark.ci

MODES = ["direct", "text", "depth", "segmentation", "adaptive"]


def items(count=5):
  rng = np.random.default_rng(0)
  return [
    Item(
      Sample(f"s{i}", "test", rng.integers(0, 256, (16, 16, 3), np.uint8)),
      Question("x", text, "yes", "yes_no", ("yes", "no")),
    )
    for i, text in zip(range(count), toy.ASKED * count, strict=False)
  ]


def random_params():
  """Of a policy that says something else to each image, norms and all."""
  rng = np.random.default_rng(1)
  params = for_sampling(toy.POLICY, toy.fresh().params)
  return jax.tree.map(
    lambda x: x + 0.3 * rng.standard_normal(x.shape).astype(x.dtype), params
  )


def alone(params, asked, mode):
  """The rollouts of one mode, of prompts that the sampler reads itself."""
  limits = dataclasses.replace(
    toy.POLICY.limits, maps=0 if mode in ("direct", "text") else 1
  )
  return generate.roll(
    toy.POLICY,
    params,
    [trunk_of(item, toy.POLICY) for item in asked],
    [mode_of(mode, toy.POLICY)] * len(asked),
    key=jax.random.key(0),
    ids=np.arange(len(asked)),
    group=1,
    limits=limits,
    buckets=toy.CONFIG.sampling.prompt_buckets,
  )


def test_each_mode_is_answered_as_if_it_were_the_only_one():
  asked, params, calls = items(), random_params(), []
  found = generate.in_batches(
    toy.POLICY,
    params,
    [trunk_of(item, toy.POLICY) for item in asked],
    [mode_of(mode, toy.POLICY) for mode in MODES],
    batch=2,  # and the last one padded
    limits=toy.POLICY.limits,
    buckets=toy.CONFIG.sampling.prompt_buckets,
    advance=lambda: calls.append(1),
  )
  assert len(calls) == 3 * len(MODES)
  for mode, out in zip(MODES, found, strict=True):
    expected = alone(params, asked, mode)
    # With no map to come the positions of maps are not there.
    own = expected.tokens.shape[1]
    np.testing.assert_array_equal(out.tokens[:, :own], expected.tokens)
    assert not out.state[:, own:].any()
    np.testing.assert_array_equal(out.stop, expected.stop)
    np.testing.assert_array_equal(out.map_modality, expected.map_modality)
    np.testing.assert_allclose(
      out.log_prob[:, :own], expected.log_prob, atol=1e-5
    )
  drew = {
    mode: (out.map_modality >= 0).all()
    for mode, out in zip(MODES, found, strict=True)
  }
  assert drew["depth"] and drew["segmentation"] and not drew["text"]
  assert len({tuple(row) for row in found[1].tokens.tolist()}) > 1


def test_what_is_said_in_a_mode_is_the_same_beside_others():
  params, made = random_params(), toy.codecs()
  options = {"batch": 4, "buckets": toy.CONFIG.sampling.prompt_buckets}
  several = generate.respond_in(
    toy.POLICY, params, items(), MODES, made, **options
  )
  assert list(several) == MODES
  for mode in ("text", "depth"):
    one = generate.respond(toy.POLICY, params, items(), mode, made, **options)
    assert one.text == several[mode].text
    for some, others in zip(one.maps, several[mode].maps, strict=True):
      for drawn, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(drawn.codes, other.codes)
