"""Top-k, top-p and min-p: the sampler's log-probabilities are the trainer's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.models import token_kinds
from cooper_jax.rollouts import documents
from cooper_jax.sampling import grammar, prompts, sampler
from cooper_jax.sequences import packing, scoring, truncation
from cooper_jax.sequences.truncation import NONE, Truncation
from tests import tiny
from tests.rl import toy
from tests.sampling.test_exactness import LIMITS, eager_to_draw, trunks

score = jax.jit(scoring.score, static_argnames=("model", "form", "sampled"))
TEMPERATURE, GROUP = (1.3, 0.7), 3


def left_by_rules(logits, how):
  """Which tokens are left, one rule after the other, as transformers does."""
  order = np.argsort(-logits, kind="stable")
  left = np.ones(len(logits), bool)
  if how.top_k:
    left[order[how.top_k :]] = False
  mass = np.where(left, np.exp(logits - logits.max()), 0.0)
  likely = mass / mass.sum()
  if how.top_p < 1:
    before = np.cumsum(likely[order]) - likely[order]
    left[order[before >= how.top_p]] = False
  if how.min_p:
    left &= likely >= how.min_p * likely.max()
  return left


@pytest.mark.parametrize(
  "how",
  [
    Truncation(top_k=1),
    Truncation(top_k=5),
    Truncation(top_p=0.6),
    Truncation(min_p=0.2),
    Truncation(top_k=6, top_p=0.8),
    Truncation(top_k=9, top_p=0.9, min_p=0.1),
    Truncation(top_k=1000),
  ],
  ids=str,
)
def test_what_is_left_is_what_the_rules_leave(how):
  logits = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
  cut, kept = truncation.truncate(jnp.asarray(2 * logits), how)
  wanted = np.array(
    [left_by_rules(2 * row.astype(float), how) for row in logits]
  )
  np.testing.assert_array_equal(np.asarray(cut) > -1e29, wanted)
  np.testing.assert_array_equal(kept, wanted.sum(axis=1))
  # The trainer keeps as many, also of logits that come in parts.
  parts = jnp.asarray(2 * logits[:, :11]), jnp.asarray(2 * logits[:, 11:])
  again = jnp.concatenate(truncation.keep(parts, kept), axis=-1)
  np.testing.assert_array_equal(again, cut)


def test_of_tokens_that_are_alike_all_are_left():
  logits = jnp.asarray([[1.0, 0.0, 1.0, 0.0, -1.0]])
  for how, left in ((Truncation(top_k=1), 2), (Truncation(top_k=3), 4)):
    assert int(truncation.truncate(logits, how)[1][0]) == left


def run(model, form, params, made, truncations, temperature=TEMPERATURE):
  prompt = prompts.make(
    made, form=form, length=32, group=GROUP, limits=LIMITS,
    modes=[grammar.Mode(form.allowed_maps)] * len(made),
  )  # fmt: skip
  out = sampler.sample(
    params,
    prompt,
    prompts.row_keys(jax.random.key(5), range(len(made) * GROUP)),
    model=model,
    form=form,
    limits=LIMITS,
    group=GROUP,
    text_temperature=temperature[0],
    code_temperature=temperature[1],
    **({} if truncations is None else {"truncations": truncations}),
  )
  return jax.tree.map(np.asarray, out)


def trained(model, form, params, out, made, *, replay=True):
  """The trainer's log-probabilities [R, T] of what was sampled."""
  found = documents.documents(out, made, form=form, limits=LIMITS, group=GROUP)
  shape = packing.Shape(length=400, texts=120, codes=6 * 16)
  batch = packing.pack(found, form=form, shape=shape)
  sources = [batch[f"{kind}_source"] for kind in ("text", "code")]
  kept = tuple(out.kept.ravel()[np.maximum(each, 0)] for each in sources)
  scores = score(
    model, params, batch, form=form, sampled=True,
    text_temperature=TEMPERATURE[0], code_temperature=TEMPERATURE[1],
    kept=kept if replay else None,
  )  # fmt: skip
  found = np.full(out.log_prob.size, np.nan)
  for source, name in zip(sources, ("text_log_prob", "code_log_prob")):
    live = source >= 0
    found[source[live]] = np.asarray(getattr(scores, name))[live]
  return found.reshape(out.log_prob.shape)


@pytest.fixture(scope="module")
def drawer():
  model, form, params = tiny.make(3, tied_head=False)
  params = eager_to_draw(params, form)
  return (
    model,
    form,
    params,
    trunks(np.random.default_rng(1), form, 4),
  )


@pytest.mark.ci
@pytest.mark.parametrize(
  "truncations",
  [
    (Truncation(top_k=4), Truncation(top_k=3)),
    (Truncation(top_p=0.7, min_p=0.02), Truncation(top_p=0.8)),
    (NONE, Truncation(min_p=0.3)),
  ],
  ids=["top_k", "top_p", "codes"],
)
def test_sampler_log_prob_is_trainer_log_prob(drawer, truncations):
  *policy, made = drawer
  out = run(*policy, made, truncations)
  assert out.trainable.sum() > 50 and (out.map_modality >= 0).any()
  found = trained(*policy, out, made)
  np.testing.assert_array_equal(np.isfinite(found), out.trainable)
  np.testing.assert_allclose(
    found[out.trainable], out.log_prob[out.trainable], atol=1e-5, rtol=1e-5
  )
  # Without the replay it is another policy, wherever something was cut.
  plain = trained(*policy, out, made, replay=False)
  cut = [
    out.trainable & (out.state == kind)
    for kind, how in zip((token_kinds.TEXT, token_kinds.CODE), truncations)
    if how != NONE
  ]
  for here in cut:
    assert np.median((out.log_prob - plain)[here]) > 1e-2
    assert (out.kept[here] >= 1).all()
  for how, kind in zip(truncations, (token_kinds.TEXT, token_kinds.CODE)):
    if how.top_k:
      assert out.kept[out.trainable & (out.state == kind)].max() == how.top_k


@pytest.mark.ci
def test_without_truncation_nothing_is_kept_and_no_bit_is_another(drawer):
  *policy, made = drawer
  one, other = (run(*policy, made, each) for each in (None, (NONE, NONE)))
  assert one.kept is None
  jax.tree.map(np.testing.assert_array_equal, one, other)
  # A set of all tokens is drawn from as if there were no set.
  every = run(*policy, made, (Truncation(top_k=10**6),) * 2)
  jax.tree.map(np.testing.assert_array_equal, one, every.replace(kept=None))


@pytest.mark.ci
def test_greedy_choices_know_no_truncation(drawer):
  *policy, made = drawer
  plain = run(*policy, made, None, (0.0, 0.0))
  cut = run(*policy, made, (Truncation(top_k=1),) * 2, (0.0, 0.0))
  jax.tree.map(np.testing.assert_array_equal, plain, cut.replace(kept=None))


@pytest.mark.ci
def test_a_step_of_grpo_learns_under_what_was_drawn_from():
  config = toy.CONFIG.copy_and_resolve_references()
  config.sampling.update(top_p=0.95, code_top_k=3)
  step = toy.make_step(config, scorer=toy.letter_e)
  _, metrics = step(toy.fresh(), toy.asked())
  for kind in ("text", "code"):
    total, weight = metrics[f"mismatch_abs/{kind}"]
    assert weight > 0 and total / weight < 1e-5, kind


@pytest.mark.parametrize(
  "how", [{"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}, {"min_p": -0.1}]
)
def test_rules_that_leave_nothing_are_refused(how):
  with pytest.raises(UserError, match="top_k, top_p and min_p are"):
    Truncation(**how)
