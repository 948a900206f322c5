"""A GRPO step is compiled once for every bucket, whatever else changes."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from cooper_jax.rollouts import prompts
from tests.rl.toy import CONFIG, ITEMS, asked, fresh, make_step

pytestmark = pytest.mark.ci

PROMPTS = (24, 40)  # lengths that prompts are padded to


def questions(rng) -> list:
  """Items whose questions have from three to some twenty words."""
  items = []
  for item in ITEMS:
    words = rng.choice(
      ["is", "it", "near", "far", "the", "red"], rng.integers(20)
    )
    text = " ".join(["Is it", *words, "?"])
    question = dataclasses.replace(item.question, text=text)
    items.append(prompts.Item(item.sample, question))
  return items


def compiled(caplog, name: str) -> int:
  """How often a function was compiled, by JAX's own log."""
  start = f"Compiling jit({name})"
  return sum(r.getMessage().startswith(start) for r in caplog.records)


def test_twenty_steps_compile_once_for_each_bucket(caplog):
  config = CONFIG.copy_and_resolve_references()
  config.sampling.prompt_buckets = PROMPTS
  step = make_step(config)
  sample, update = step.keywords["sample"], step.keywords["update"]
  rng, state, used = np.random.default_rng(0), fresh(), []

  def noted(scored):
    pieces = update.pack(scored)
    used.append((pieces[0].bins, len(pieces)))
    return pieces

  def at(temperatures):
    """The step with other temperatures, in the sampler and in the update."""
    begin = functools.partial(
      sample.keywords["begin"], temperatures=temperatures
    )
    return functools.partial(
      step,
      sample=functools.partial(sample, begin=begin),
      update=dataclasses.replace(update, pack=noted, temperatures=temperatures),
    )

  jax.clear_caches()
  with jax.log_compiles(), caplog.at_level("WARNING"):
    for number in range(20):
      now = at(tuple(rng.uniform(0.5, 1.5, 2)))
      state, _ = now(state, asked(number, questions(rng)))
  assert {bins.trunk for bins, _ in used} == set(PROMPTS)  # both came up
  assert len({count for _, count in used}) > 1  # as the lengths require
  assert compiled(caplog, "sample") == len(PROMPTS)
  assert compiled(caplog, "gradients") == len(PROMPTS)
  for name in ("token_advantages", "normalisers"):
    assert compiled(caplog, name) == 1
  # Sums come out laid out otherwise than gradients: each once for both.
  for name in ("add", "apply"):
    assert compiled(caplog, name) <= 2
