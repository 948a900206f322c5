"""Answers to exchanged maps: what a rollout says to the maps of another image.

Each rollout that drew maps is asked again: its question, and in place of its
maps those that a rollout about another image drew, of the same modalities. The
reward `map_effect` compares the two answers.
"""

import dataclasses

import numpy as np

from cooper_jax.policy import Policy, for_sampling
from cooper_jax.rl.rollout_batch import RolloutBatch
from cooper_jax.rollouts import exchanging, generate, prompts
from cooper_jax.sampling import grammar
from cooper_jax.sequences import segments

EXCHANGED = "exchanged"  # the column: a text, None where nothing was exchanged


def exchanged(sample, *, respond, policy: Policy):
  """Wraps (state, questions) -> RolloutBatch: with the column `EXCHANGED`.

  respond: (params, trunks, ids [R]) -> what is said behind each trunk, R texts.
  """

  def sample_and_exchange(state, questions) -> RolloutBatch:
    batch = sample(state, questions)
    trunks = trunks_of(batch, policy)
    given = [trunk for trunk in trunks if trunk is not None]
    texts = [None] * len(trunks)
    if given:
      # As many rows whatever was drawn: one program serves all steps.
      rows = [trunk or given[0] for trunk in trunks]
      said = respond(state.params, rows, batch.ids_R)
      texts = [s if t else None for s, t in zip(said, trunks, strict=True)]
    share = {"maps/exchanged": len(given) / len(trunks)}
    return dataclasses.replace(
      batch,
      columns=batch.columns | {EXCHANGED: texts},
      metrics=batch.metrics | share,
    )

  return sample_and_exchange


def respond(
  params, trunks, ids_R, *, policy: Policy, codecs, key, temperatures,
  truncations, frozen=None,
) -> tuple[str, ...]:  # fmt: skip
  """What the policy says behind each of R trunks that end with a map.

  ids_R: of the rollouts, which with the key decide what is drawn; the rest as
  in `sample.begin_rollouts`.
  """
  longest = max(
    segments.measure(segments.Document(trunk), policy.form)[0]
    for trunk in trunks
  )
  out = generate.roll(
    policy,
    for_sampling(policy, params, frozen),
    trunks,
    [grammar.Mode(0)] * len(trunks),
    key=key,
    ids=ids_R,
    group=1,
    limits=dataclasses.replace(policy.limits, maps=0),
    buckets=(-(-longest // 32) * 32,),
    temperature=temperatures,
    truncations=truncations,
    last="<think>",
  )
  return generate.view_of(policy, out, codecs).text


def trunks_of(batch: RolloutBatch, policy: Policy) -> list:
  """[R] prompts with the maps of another image; None where there are none."""
  names = {number: name for name, number in policy.markup.modalities}
  modality_RM = np.asarray(batch.rollout.map_modality)
  codes_RMQ = np.asarray(batch.rollout.codes)
  drawn = [tuple(row[row >= 0].tolist()) for row in modality_RM]
  ids = [batch.items[prompt].sample.id for prompt in batch.group_R]
  found = [None] * len(drawn)
  for kind in sorted(set(drawn) - {()}):
    rows = [row for row, each in enumerate(drawn) if each == kind]
    others = exchanging.of_another([ids[row] for row in rows])
    if others is None:
      continue
    for row, other in zip(rows, others, strict=True):
      codes = codes_RMQ[rows[other]]
      maps = [(names[m], codes[k]) for k, m in enumerate(kind)]
      item = batch.items[batch.group_R[row]]
      found[row] = prompts.trunk_with_maps(item, policy, maps)
  return found
