"""Greedy answers in several modes: each as if it were the only one."""

import dataclasses

import jax
import numpy as np
import pytest

from cooper_jax.policy import for_sampling, make_policy
from cooper_jax.rollouts import generate
from cooper_jax.rollouts.prompts import Item, mode_of, trunk_of
from cooper_jax.sample import Question, Sample
from cooper_jax.sampling import grammar
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


def policy_with(unroll: str):
  """The toy policy, its layers called one by one or in a loop."""
  config = toy.CONFIG.copy_and_resolve_references()
  config.model.unroll = unroll
  return make_policy(config)


def random_params():
  """Of a policy that says something else to each image, norms and all."""
  rng = np.random.default_rng(1)
  params = for_sampling(toy.POLICY, toy.fresh().params)
  return jax.tree.map(
    lambda x: x + 0.3 * rng.standard_normal(x.shape).astype(x.dtype), params
  )


def alone(policy, params, asked, mode):
  """The rollouts of one mode, of prompts that the sampler reads itself."""
  limits = dataclasses.replace(
    policy.limits, maps=0 if mode in ("direct", "text") else 1
  )
  return generate.roll(
    policy,
    params,
    [trunk_of(item, policy) for item in asked],
    [mode_of(mode, policy)] * len(asked),
    key=jax.random.key(0),
    ids=np.arange(len(asked)),
    group=1,
    limits=limits,
    buckets=toy.CONFIG.sampling.prompt_buckets,
  )


@pytest.mark.parametrize("unroll", ["on", "off"])
def test_each_mode_is_answered_as_if_it_were_the_only_one(unroll):
  policy = policy_with(unroll)
  assert policy.form.model.unroll == (unroll == "on")
  asked, params, calls = items(), random_params(), []
  found = generate.in_batches(
    policy,
    params,
    [trunk_of(item, policy) for item in asked],
    [mode_of(mode, policy) for mode in MODES],
    batch=2,  # and the last one padded
    limits=policy.limits,
    buckets=toy.CONFIG.sampling.prompt_buckets,
    advance=lambda: calls.append(1),
  )
  assert len(calls) == 3 * len(MODES)
  for mode, out in zip(MODES, found, strict=True):
    expected = alone(policy, params, asked, mode)
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


def test_with_the_map_it_drew_it_says_what_it_has_said(monkeypatch):
  """What `eval.map_use` rests on, with prompts of several lengths."""
  think = toy.POLICY.form.vocabulary.special("<think>")
  call = generate.mode_of("depth", toy.POLICY).script
  # Left alone, a policy that was never trained hardly thinks on.
  monkeypatch.setattr(
    generate, "mode_of", lambda *_: grammar.Mode(0, (*call, (think,)))
  )
  asked, params, made = items(), random_params(), toy.codecs()
  drew = generate.respond(
    toy.POLICY, params, asked, "depth", made, batch=4,
    buckets=toy.CONFIG.sampling.prompt_buckets,
  )  # fmt: skip
  codes = np.stack([maps[0].codes for maps in drew.maps])
  rows = [4, 0, 3]
  told = generate.respond_to_maps(
    toy.POLICY, params, asked, "depth", codes, made, batch=2, rows=rows
  )
  rest = [drew.text[i].split("<depth> <think> ")[1] for i in rows]
  for text, expected in zip(told.text, rest, strict=True):
    # There is room for a token more, or less, where <think> is given.
    short, long = sorted((text, expected), key=len)
    assert long.startswith(short) and len(short.split()) > 3
  others = generate.respond_to_maps(
    toy.POLICY, params, asked, "depth", (codes + 1) % 12, made, batch=2
  )
  assert [others.text[i] for i in rows] != list(told.text)
