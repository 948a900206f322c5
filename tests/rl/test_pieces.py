"""An update in pieces, of rows cut to what rollouts need, is one update."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from cooper_jax.rollouts import generate
from cooper_jax.rollouts.documents import spread
from cooper_jax.sampling import grammar
from cooper_jax.sequences import segments
from tests.rl.toy import CONFIG, POLICY, asked, fresh, letter_e, make_step

KINDS = ("dapo", "grpo", "gspo", "dr_grpo")


SGD = optax.sgd(0.1)  # Adam would divide rounding by next to nothing


@pytest.fixture(autouse=True)
def every_other_prompt_draws(monkeypatch):
  """Left alone, a policy that was never trained hardly opens a map."""
  begin = generate.begin
  form = POLICY.form
  opening = (form.vocabulary.opening(form.modality_ids[0]),)

  def begin_with_maps(policy, params, trunks, modes, **options):
    modes = [
      grammar.Mode(form.allowed_maps, (opening,) if i % 2 else ())
      for i in range(len(modes))
    ]
    return begin(policy, params, trunks, modes, **options)

  monkeypatch.setattr(generate, "begin", begin_with_maps)


def updated(kind, rows, bins, *, updates=2, **loss):
  """(parameters, metrics) after one step, its rollouts packed like this."""
  config = CONFIG.copy_and_resolve_references()
  config.grpo.update(rows=rows, bins=bins)
  config.grpo.rl.loss.update(kind=kind, **loss)
  config.grpo.rl.updates = updates  # with 2, ratios are not 1
  step = make_step(config, optimizer=SGD, scorer=letter_e)
  update = step.keywords["update"]
  state = fresh(optimizer=SGD)
  seen = []

  def noted(scored):
    seen.extend(update.pack(scored))
    return seen

  step = functools.partial(step, update=dataclasses.replace(update, pack=noted))
  state, metrics = step(state, asked())
  # A mismatch is rounding alone, and differs with the order of additions.
  sums = {
    n: v
    for n, v in metrics.items()
    if isinstance(v, tuple) and (updates == 1 or "mismatch" not in n)
  }
  for kind in ("text", "code") if updates > 1 else ():
    total, tokens = metrics[f"mismatch_abs/{kind}"]
    assert tokens > 20 and 0 < total / tokens < 1e-5
    assert f"update1/mismatch_abs/{kind}" in metrics
    assert f"update2/mismatch_abs/{kind}" not in metrics
    first, second = (metrics[f"update{i}/approx_kl/{kind}"] for i in (1, 2))
    assert abs(first[0]) < 1e-3 * abs(second[0])
  assert any((rows.packed["code_source"] >= 0).any() for rows in seen)
  return jax.device_get((state.params, sums)), len(seen)


@pytest.mark.ci
@pytest.mark.parametrize("kind", KINDS)
def test_pieces_add_up_to_the_whole(kind):
  """One piece of four prompts' rows; or rows of one bin, three at a time."""
  whole, one = updated(kind, 4, 8)
  parts, several = updated(kind, 3, 1)
  assert one == 1 and several > 2
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5),
    whole,
    parts,
  )


@pytest.mark.ci
def test_in_pieces_the_trainer_scores_as_the_sampler_drew():
  (_, sums), count = updated("dapo", 3, 1, updates=1)
  assert count > 2
  for kind in ("text", "code"):
    total, tokens = sums[f"mismatch_abs/{kind}"]
    assert tokens > 20 and 0 < total / tokens < 1e-5


@pytest.mark.ci
def test_the_highest_entropies_are_of_all_rollouts():
  whole, _ = updated("dapo", 4, 8, top_entropy=0.3)
  parts, _ = updated("dapo", 3, 1, top_entropy=0.3)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5),
    whole[0],
    parts[0],
  )


def test_rollouts_are_spread_over_no_more_rows_than_they_need():
  rng = np.random.default_rng(0)
  documents = [
    segments.Document(
      (segments.Text(np.arange(3), learn=False),),
      tuple((segments.Text(np.arange(n)),) for n in lengths),
    )
    for lengths in ([5, 5, 5, 5], rng.integers(6, 11, 6))
  ]
  rows = spread(documents, POLICY.form, bin_size=10, bins=2)
  # Four of five fill two bins; six of more than half a bin need three rows.
  assert [len(held) for _, held in rows] == [4, 2, 2, 2]
  assert sorted(i for _, held in rows for i in held) == list(range(10))
  for document, held in rows:
    for branch, i in zip(document.branches, held, strict=True):
      every = [b for d in documents for b in d.branches]
      assert branch is every[i]
