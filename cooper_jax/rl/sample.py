"""The rollouts of a GRPO step: sampled on the device, read on the host."""

import dataclasses

import jax
import numpy as np

from cooper_jax.policy import Policy, for_sampling
from cooper_jax.rl.questions import Questions
from cooper_jax.rl.rollout_batch import RolloutBatch
from cooper_jax.rollouts import generate
from cooper_jax.rollouts.prompts import trunk_of
from cooper_jax.rollouts.response import Responses
from cooper_jax.sampling import grammar


def sample_rollouts(state, questions: Questions, *, begin, read):
  """G rollouts of each question, by the current parameters: a RolloutBatch.

  begin: (params, questions) -> RolloutBatch on the device (`begin_rollouts`).
  read: RolloutBatch -> RolloutBatch on the host (`read_rollouts`).
  """
  return read(begin(state.params, questions))


def begin_rollouts(
  params, questions: Questions, *, policy: Policy, key, group_size: int,
  temperatures, truncations, buckets, turns: int = 1, frozen=None, modes=None,
) -> RolloutBatch:  # fmt: skip
  """Begins to sample R = P * G rollouts and does not wait for the device.

  params: of the policy in training, as TrainState has them.
  key: of the run; with the rollout's id it decides what is drawn.
  temperatures, truncations: (of text, of codes). buckets: lengths that prompts
  are padded to, tokens. turns: lots of questions that a step may take, itself
  included. frozen: what LoRA trains beside, None without; here both are merged.
  modes: what each question's rollouts are held to; None = free.
  """
  trunks = [trunk_of(item, policy) for item in questions.items]
  rows = len(trunks) * group_size
  first = (questions.number * turns + questions.turn) * rows
  ids_R = first + np.arange(rows)
  rollout = generate.begin(
    policy,
    for_sampling(policy, params, frozen),
    trunks,
    modes or [grammar.Mode(policy.form.allowed_maps)] * len(trunks),
    key=key,
    ids=ids_R,
    group=group_size,
    limits=policy.limits,
    buckets=buckets,
    temperature=temperatures,
    truncations=truncations,
  )
  return RolloutBatch(questions, trunks, ids_R, rollout)


def read_rollouts(begun: RolloutBatch, *, respond) -> RolloutBatch:
  """Waits for rollouts and decodes their maps: all that needs the device.

  respond: RolloutBatch on the host -> its Responses (`responses_of`).
  """
  read = dataclasses.replace(begun, rollout=generate.fetch(begun.rollout))
  return dataclasses.replace(read, responses=respond(read))


def responses_of(batch: RolloutBatch, *, policy: Policy, decode) -> Responses:
  """What rollouts that are on the host say and draw.

  decode: decode(modality, codes [n, Q]) -> maps [n, ...].
  """
  return Responses.from_rollout(
    jax.tree.map(np.asarray, batch.rollout),
    vocabulary=policy.form.vocabulary,
    text_tokenizer=policy.text,
    decode_maps=decode,
    group=batch.group_R,
    sample_id=batch.ids_R,
    modalities=modality_names(policy),
    set_up=policy.modalities,
    grids=policy.form.model.vision.grids,
  )


def modality_names(policy: Policy) -> dict[int, str]:
  """The name of each modality that the policy draws, by its MODALITY_ID."""
  return {modality_id: name for name, modality_id in policy.markup.modalities}
