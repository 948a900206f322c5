"""A map that is given in the prompt counts like one that was drawn."""

import jax
import numpy as np
import pytest

from cooper_jax.sampling import grammar, prompts, sampler
from cooper_jax.sequences import segments
from tests import tiny

pytestmark = pytest.mark.ci

TEXT, SCRIPT = 7, 3


def greedy(model, form, params, trunks, *, maps, script, last):
  limits = grammar.Limits(text=TEXT, maps=maps, script=SCRIPT)
  made = prompts.make(
    trunks,
    form=form,
    length=64,
    group=1,
    limits=limits,
    modes=[grammar.Mode(0, script)] * len(trunks),
    last=last,
  )
  out = sampler.sample(
    params,
    made,
    prompts.row_keys(jax.random.key(0), range(len(trunks))),
    model=model,
    form=form,
    limits=limits,
    group=1,
    text_temperature=0.0,
    code_temperature=0.0,
  )
  return jax.tree.map(np.asarray, out), limits


@pytest.mark.parametrize("codes_per_step", ["token", "row", "all"])
@pytest.mark.parametrize("slot", [0, 1])
def test_what_follows_is_the_same(codes_per_step, slot):
  model, form, params = tiny.make(
    codes_per_step=codes_per_step, tied_head=False
  )
  rng = np.random.default_rng(1)
  questions = [
    (
      segments.Image(tiny.random_image(rng, form)),
      tiny.random_text(rng, form, low=2, high=6),
    )
    for _ in range(3)
  ]
  special = form.vocabulary.special
  think, assistant = special("<think>"), special("<assistant>")
  drew, limits = greedy(
    model,
    form,
    params,
    questions,
    maps=1,
    script=((5, form.vocabulary.opening(slot)), (think,)),
    last="<assistant>",
  )
  assert (drew.map_modality[:, 0] == slot).all()
  given = [
    (
      image,
      segments.Text(np.array([*text.ids, assistant, 5])),
      segments.Map(slot, codes),
    )
    for (image, text), codes in zip(questions, drew.codes[:, 0], strict=True)
  ]
  told, _ = greedy(
    model, form, params, given, maps=0, script=(), last="<think>"
  )
  # After the drawn map come its forced closing and the forced <think>.
  start = limits.text_start(1, form) + 1
  there = slice(start, start + TEXT - 1)
  here = slice(0, TEXT - 1)
  np.testing.assert_array_equal(drew.tokens[:, there], told.tokens[:, here])
  # The first was forced there and is the prompt's last here.
  np.testing.assert_allclose(
    drew.log_prob[:, there], told.log_prob[:, here], atol=2e-5
  )
  assert (told.log_prob[:, 1 : TEXT - 1] != 0).any()
  other = [
    (*parts[:-1], segments.Map(slot, np.roll(parts[-1].codes, 1) * 0 + 7))
    for parts in given
  ]
  changed, _ = greedy(
    model, form, params, other, maps=0, script=(), last="<think>"
  )
  assert not np.allclose(changed.log_prob, told.log_prob, atol=1e-3)
