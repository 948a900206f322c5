"""The most important test: sampler log-prob = trainer log-prob, by value."""

import dataclasses

import jax
import numpy as np
import pytest

from cooper_jax.models import token_kinds
from cooper_jax.rollouts import documents
from cooper_jax.sampling import grammar, prompts, sampler
from cooper_jax.sequences import packing, scoring, segments
from tests import tiny

score = jax.jit(scoring.score, static_argnames=("model", "form", "sampled"))
LIMITS = grammar.Limits(text=7, maps=2, script=3)


def trunks(rng, form, count):
  return [
    (
      segments.Image(tiny.random_image(rng, form)),
      tiny.random_text(rng, form, low=2, high=6),
    )
    for _ in range(count)
  ]


def run(model, form, params, made, ids, *, group=3, length=32, modes=None,
        temperature=(1.3, 0.7), limits=LIMITS):  # fmt: skip
  modes = modes or [grammar.Mode(form.allowed_maps)] * len(made)
  prompt = prompts.make(
    made, form=form, length=length, group=group, limits=limits, modes=modes
  )
  out = sampler.sample(
    params,
    prompt,
    prompts.row_keys(jax.random.key(5), ids),
    model=model,
    form=form,
    limits=limits,
    group=group,
    text_temperature=temperature[0],
    code_temperature=temperature[1],
  )
  return jax.tree.map(np.asarray, out)


def eager_to_draw(params, form):
  """Raises the logits of openings and of places, so that both are frequent."""
  head = np.array(params["params"]["head"])
  embedding = np.array(params["params"]["embedding"])
  for slot in form.modality_ids:
    row = form.vocabulary.opening(slot)
    head[row] = 10 * head[row]
    embedding[row] += 0.1
  inner = dict(params["params"], head=head, embedding=embedding)
  if "point_from" in inner:
    inner["point_from"] = jax.tree.map(lambda x: 4 * x, inner["point_from"])
  return {"params": inner}


def trainer_log_probs(model, form, params, out, made, *, group, limits=LIMITS,
                      temperature=(1.3, 0.7), together=True,
                      images=1):  # fmt: skip
  found = documents.documents(out, made, form=form, limits=limits, group=group)
  if not together:
    found = [
      segments.Document(d.trunk, (b,)) for d in found for b in d.branches
    ]
  length = max(segments.measure(d, form)[0] for d in found)
  shape = packing.Shape(length=length, texts=120, codes=6 * 16, images=images)
  batch = packing.pack(found, form=form, shape=shape)
  scores = score(
    model,
    params,
    batch,
    form=form,
    sampled=True,
    text_temperature=temperature[0],
    code_temperature=temperature[1],
  )
  found = np.full(out.log_prob.size, np.nan)
  for kind in ("text", "code"):
    source = batch[f"{kind}_source"]
    live = source >= 0
    found[source[live]] = np.asarray(getattr(scores, f"{kind}_log_prob"))[live]
  return found.reshape(out.log_prob.shape)


FLAGS = {
  "smear": True,
  "qkv_bias": True,
  "qk_norm": False,
  "mixture_of_transformers": True,
  "pointer": False,
  "aligned_queries": False,
  "map_lookup": False,
}


@pytest.mark.parametrize(
  "changes",
  [
    pytest.param({"codes_per_step": "token"}, marks=pytest.mark.ci),
    {"codes_per_step": "row"},
    pytest.param(
      {"codes_per_step": "all", "unroll": True}, marks=pytest.mark.ci
    ),
    pytest.param(
      {"codes_per_step": "row", "unroll": True, **FLAGS}, marks=pytest.mark.ci
    ),
  ],
  ids=["token", "row", "all", "flags"],
)
def test_sampler_log_prob_is_trainer_log_prob(changes):
  model, form, params = tiny.make(3, tied_head=False, **changes)
  params = eager_to_draw(params, form)
  made = trunks(np.random.default_rng(1), form, 4)
  out = run(model, form, params, made, range(12))
  assert (out.map_modality >= 0).any() and (out.map_modality < 0).any()
  assert out.trainable.sum() > 50
  # Places named after a map read its codes; some rows must do so.
  later = slice(LIMITS.text_start(1, form), None)
  start = form.vocabulary.locations_start
  text = out.state[:, later] == token_kinds.TEXT
  named = (out.tokens[:, later] >= start) & text
  assert named.sum() >= 3 or not model.config.map_lookup
  for together in (True, False):
    found = trainer_log_probs(
      model, form, params, out, made, group=3, together=together
    )
    np.testing.assert_array_equal(np.isfinite(found), out.trainable)
    np.testing.assert_allclose(
      found[out.trainable], out.log_prob[out.trainable], atol=1e-5, rtol=1e-5
    )


@pytest.mark.ci
def test_up_to_three_maps_of_an_answer_are_scored_as_drawn():
  model, form, params = tiny.make(3, tied_head=False, max_maps=3)
  form = dataclasses.replace(form, modality_ids=(0, 1, 2), max_maps=3)
  params = eager_to_draw(params, form)
  limits = dataclasses.replace(LIMITS, maps=3)
  made = trunks(np.random.default_rng(1), form, 6)
  out = run(model, form, params, made, range(24), group=4, limits=limits)
  assert set((out.map_modality >= 0).sum(axis=1)) == {0, 1, 2, 3}
  found = trainer_log_probs(
    model, form, params, out, made, group=4, limits=limits, together=False
  )
  np.testing.assert_array_equal(np.isfinite(found), out.trainable)
  np.testing.assert_allclose(
    found[out.trainable], out.log_prob[out.trainable], atol=1e-5, rtol=1e-5
  )


def trunk_with_maps(rng, form, kinds):
  """An image and maps in the prompt, with text between that names places.

  kinds: of each map, "drawn" (in the prompt), "noisy" (drawn, and read with
  other codes) or "given" (read and not there).
  """
  text = lambda: tiny.random_text(rng, form, pointing=0.5)  # noqa: E731
  trunk = [segments.Image(tiny.random_image(rng, form)), text()]
  for kind in kinds:
    drawn = tiny.random_map(rng, form, int(rng.integers(2)))
    if kind == "given":
      drawn = segments.ContextMap(drawn.modality_id, drawn.codes)
    elif kind == "noisy":
      other = tiny.random_map(rng, form, 0).codes
      drawn = dataclasses.replace(drawn, seen=other)
    # A prompt ends with text or with a map that is there.
    ends = kind != "given" and rng.random() < 0.5
    trunk += [drawn] if ends else [drawn, text()]
  return tuple(trunk)


@pytest.mark.ci
@pytest.mark.parametrize("max_maps", [1, 2, 3])
def test_maps_that_a_prompt_holds_or_is_given_are_read_as_in_training(
  max_maps,
):
  """With those drawn after them they may be more than are read at once."""
  model, form, params = tiny.make(3, tied_head=False, max_maps=max_maps)
  params = eager_to_draw(params, form)
  rng = np.random.default_rng(max_maps)
  kinds = ("drawn", "noisy", "given")
  made = [trunk_with_maps(rng, form, [kind]) for kind in kinds]
  made += [
    trunk_with_maps(rng, form, rng.choice(kinds, rng.integers(5)))
    for _ in range(13)
  ]
  out = run(model, form, params, made, range(64), group=4, length=136)
  found = trainer_log_probs(
    model, form, params, out, made, group=4, together=False
  )
  np.testing.assert_array_equal(np.isfinite(found), out.trainable)
  np.testing.assert_allclose(
    found[out.trainable], out.log_prob[out.trainable], atol=1e-5, rtol=1e-5
  )
  # Places are named after more maps than are read at once, drawn ones too.
  held = np.repeat(
    [
      sum(not isinstance(s, segments.Text | segments.Image) for s in trunk)
      for trunk in made
    ],
    4,
  )
  places = out.tokens >= form.vocabulary.locations_start
  places &= out.state == token_kinds.TEXT
  later = places[:, LIMITS.text_start(1, form) :].any(axis=1)
  drawn = (out.map_modality >= 0).sum(axis=1)
  assert (places.any(axis=1) & (held > 0) & (drawn == 0)).sum() >= 3
  assert (later & (held > 0) & (held + drawn > max_maps)).sum() >= 3


def test_without_the_replay_of_its_constraints_it_would_fail(monkeypatch):
  """What the sampler was held to is part of what it drew from."""
  model, form, params = tiny.make(3, tied_head=False)
  params = eager_to_draw(params, form)
  made = trunks(np.random.default_rng(1), form, 4)
  out = run(model, form, params, made, range(12))
  monkeypatch.setattr(scoring.distribution, "restrict", lambda x, *_, **__: x)
  # A function of its own: what was traced before is found by the function.
  broken = lambda model, *args, form, **more: scoring.score(  # noqa: E731
    model, *args, form=form, **more
  )
  broken = jax.jit(broken, static_argnames=("model", "form", "sampled"))
  monkeypatch.setitem(globals(), "score", broken)
  found = trainer_log_probs(model, form, params, out, made, group=3)
  text = out.trainable & (out.state == token_kinds.TEXT)
  gap = np.abs(found - out.log_prob)
  assert np.median(gap[text]) > 1e-2
  codes = out.trainable & (out.state == token_kinds.CODE)
  assert gap[codes].max() < 1e-5  # they are held to nothing


def test_a_prompt_without_an_image_draws_as_it_is_scored():
  """Beside others that have one: its maps see no cell of theirs."""
  model, form, params = tiny.make(3, tied_head=False)
  params = eager_to_draw(params, form)
  rng = np.random.default_rng(8)
  made = trunks(rng, form, 4)
  for blind in (0, 2):
    words = rng.integers(0, form.vocabulary.text, 5)
    made[blind] = (segments.Text(words, learn=False),)
  out = run(model, form, params, made, range(12))
  assert (out.map_modality[[0, 1, 2, 6, 7, 8]] >= 0).any()
  found = trainer_log_probs(
    model, form, params, out, made, group=3, together=False
  )
  np.testing.assert_allclose(
    found[out.trainable], out.log_prob[out.trainable], atol=1e-5, rtol=1e-5
  )


@pytest.mark.ci
@pytest.mark.parametrize("changes", [{}, FLAGS], ids=["plain", "flags"])
def test_layers_one_by_one_draw_what_a_loop_over_them_draws(changes):
  made, outs = None, []
  for unroll in (False, True):
    model, form, params = tiny.make(
      3, tied_head=False, unroll=unroll, **changes
    )
    params = eager_to_draw(params, form)
    made = made or trunks(np.random.default_rng(7), form, 4)
    outs.append(run(model, form, params, made, range(12)))
  loop, one_by_one = outs
  assert (loop.map_modality >= 0).any() and loop.trainable.sum() > 50
  for name in ("tokens", "codes", "stop", "trainable", "map_modality"):
    np.testing.assert_array_equal(
      getattr(loop, name), getattr(one_by_one, name), err_msg=name
    )
  np.testing.assert_allclose(
    loop.log_prob, one_by_one.log_prob, atol=2e-6, rtol=1e-5
  )


@pytest.mark.ci
def test_forced_modes_are_scored_without_their_forced_tokens():
  model, form, params = tiny.make(3, tied_head=False)
  made = trunks(np.random.default_rng(2), form, 2)
  opening = form.vocabulary.opening(0)
  modes = [
    grammar.Mode(form.allowed_maps, ((3, 4, opening), (5,))),
    grammar.Mode(0, ((form.vocabulary.special("<answer>"),),)),
  ]
  out = run(model, form, params, made, range(6), modes=modes)
  np.testing.assert_array_equal(out.map_modality[:3, 0], 0)
  np.testing.assert_array_equal(out.map_modality[3:], -1)
  np.testing.assert_array_equal(out.tokens[:3, 1:4], [[3, 4, opening]] * 3)
  assert not out.trainable[:3, :4].any()
  found = trainer_log_probs(model, form, params, out, made, group=3)
  np.testing.assert_allclose(
    found[out.trainable], out.log_prob[out.trainable], atol=1e-5, rtol=1e-5
  )


@pytest.mark.ci
def test_a_map_that_may_not_be_opened_is_not_called_for():
  """What is said after <think> where a map is barred is made its call."""
  model, form, params = tiny.make(3, tied_head=False)
  form = dataclasses.replace(form, calls=())
  made = trunks(np.random.default_rng(5), form, 4)
  think = form.vocabulary.special("<think>")
  modes = [
    grammar.Mode(bits, ((think,),)) for bits in (form.allowed_maps, 0, 1, 2)
  ]

  def first_words(form):
    out = run(model, form, params, made, range(48), group=12, modes=modes)
    return out, out.tokens[:, 2].reshape(4, 12)

  def likeliest(words, but=-1):
    words = words[(words < form.vocabulary.text) & (words != but)]
    return int(np.bincount(words).argmax())

  before, free = first_words(form)
  depth = likeliest(free[3])  # where segmentation alone may be opened
  likely = [depth, likeliest(free[2], but=depth)]
  calls = tuple(enumerate(likely))
  form = dataclasses.replace(form, calls=calls)
  out, first = first_words(form)
  np.testing.assert_array_equal(out.tokens[:12], before.tokens[:12])
  assert not np.isin(first[1], likely).any()
  assert not (first[2] == likely[1]).any()
  assert not (first[3] == likely[0]).any()
  # Elsewhere they are words like any other.
  assert np.isin(out.tokens[12:24, 3:], likely).any()
  found = trainer_log_probs(model, form, params, out, made, group=12)
  np.testing.assert_allclose(
    found[out.trainable], out.log_prob[out.trainable], atol=1e-5, rtol=1e-5
  )


@pytest.mark.ci
def test_same_sample_id_same_tokens_in_any_order_batch_and_bucket():
  model, form, params = tiny.make(3, tied_head=False)
  params = eager_to_draw(params, form)
  made = trunks(np.random.default_rng(3), form, 4)
  ids = np.arange(8) + 40
  whole = run(model, form, params, made, ids, group=2)
  order = [2, 0, 3, 1]
  moved = run(
    model,
    form,
    params,
    [made[i] for i in order],
    ids.reshape(4, 2)[order].ravel(),
    group=2,
    length=40,
  )
  rows = np.arange(8).reshape(4, 2)[order].ravel()
  np.testing.assert_array_equal(whole.tokens[rows], moved.tokens)
  one = run(model, form, params, made[1:2], ids[2:4], group=2)
  np.testing.assert_array_equal(whole.tokens[2:4], one.tokens)
  other = run(model, form, params, made[1:2], ids[4:6], group=2)
  assert (other.tokens != one.tokens).any()
  # Eight of 64 rows, in groups of four.
  many = trunks(np.random.default_rng(9), form, 16)
  many[5], many[11] = made[0], made[2]
  wide = np.arange(64).reshape(16, 4) + 500
  wide[5, 2:], wide[11, :2] = ids[:2], ids[4:6]
  wide = run(model, form, params, many, wide.ravel(), group=4)
  np.testing.assert_array_equal(whole.tokens[:2], wide.tokens[22:24])
  np.testing.assert_array_equal(whole.tokens[4:6], wide.tokens[44:46])


@pytest.mark.ci
def test_greedy_rows_of_a_group_agree():
  model, form, params = tiny.make(3, tied_head=False)
  made = trunks(np.random.default_rng(4), form, 2)
  out = run(model, form, params, made, range(6), temperature=(0.0, 0.0))
  np.testing.assert_array_equal(out.tokens[0], out.tokens[1])
  np.testing.assert_array_equal(out.tokens[3], out.tokens[5])


@pytest.mark.ci
def test_maps_are_never_cut_and_never_drawn_twice():
  model, form, params = tiny.make(3, tied_head=False)
  params = eager_to_draw(params, form)
  made = trunks(np.random.default_rng(6), form, 6)
  out = run(model, form, params, made, range(24), group=4)
  both = (out.map_modality >= 0).all(axis=1)
  assert both.any()
  assert (out.map_modality[both, 0] != out.map_modality[both, 1]).all()
  codes = (out.state == token_kinds.CODE).sum(axis=1)
  np.testing.assert_array_equal(
    codes, (out.map_modality >= 0).sum(axis=1) * form.model.map_codes
  )
  small = dataclasses.replace(LIMITS, maps=0)
  none = run(model, form, params, made, range(24), group=4, limits=small)
  assert (none.map_modality < 0).all()
