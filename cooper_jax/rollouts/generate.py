"""Generation: the responses of a policy to questions, and maps on request.

Everything runs through the one sampler, greedily by default, in batches of a
fixed size, so that little is compiled.
"""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np

from cooper_jax.parallel import processes, shard
from cooper_jax.policy import Policy
from cooper_jax.rollouts.prompts import (
  Item,
  mode_of,
  trunk_of,
  trunk_with_map,
)
from cooper_jax.rollouts.response import Responses
from cooper_jax.sampling import grammar, prompts, sampler
from cooper_jax.sequences import segments, truncation
from cooper_jax.sequences.markup import request_of
from cooper_jax.tokenizers import map_tokenizer


def decoder(codecs):
  """decode_maps(modality, codes) for a `Responses`."""
  return lambda name, codes: map_tokenizer.decode_maps(codecs[name], codes)


def roll(*args, **options):
  """As `begin`; waits, and gives a Rollout of numpy arrays."""
  return fetch(begin(*args, **options))


def fetch(out):
  """A Rollout on the host, whole in every process."""
  return jax.tree.map(np.asarray, jax.device_get(shard.whole(out)))


def begin(
  policy: Policy, params, trunks, modes, *, key, ids, group, limits, buckets,
  temperature=(0.0, 0.0), truncations=(truncation.NONE, truncation.NONE),
  last="<assistant>",
):  # fmt: skip
  """Begins to sample rollouts of prompts; a Rollout of device arrays."""
  length = prompts.bucket(trunks, policy.form, buckets)
  own = shard.own_rows(len(trunks))
  with processes.alone():
    made = prompts.make(
      [trunks[i] for i in own],
      form=policy.form,
      length=length,
      group=group,
      limits=limits,
      modes=[modes[i] for i in own],
      last=last,
    )
  return sampler.sample(
    params,
    shard.spread(made),
    prompts.row_keys(key, ids),
    model=policy.model,
    form=policy.form,
    limits=limits,
    group=group,
    text_temperature=temperature[0],
    code_temperature=temperature[1],
    truncations=truncations,
  )


def in_batches(
  policy: Policy, params, trunks, mode: grammar.Mode, *, batch, limits, buckets,
  last="<assistant>",
):  # fmt: skip
  """Greedy rollouts of any number of prompts; the last batch is padded."""
  parts = []
  for start in range(0, len(trunks), batch):
    some = list(trunks[start : start + batch])
    count = len(some)
    some += [some[-1]] * (batch - count)
    out = roll(
      policy,
      params,
      some,
      [mode] * batch,
      key=jax.random.key(0),
      ids=np.arange(batch),
      group=1,
      limits=limits,
      buckets=buckets,
      last=last,
    )
    parts.append(jax.tree.map(lambda x, n=count: x[:n], out))
  return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def view_of(policy: Policy, out, codecs) -> Responses:
  """A view of a rollout whose rows are questions of their own."""
  rows = np.arange(len(out.stop))
  return Responses.from_rollout(
    out,
    vocabulary=policy.form.vocabulary,
    text_tokenizer=policy.text,
    decode_maps=decoder(codecs),
    group=rows,
    sample_id=rows,
    modalities={
      modality_id: name for name, modality_id in policy.markup.modalities
    },
    set_up=policy.modalities,
    grids=policy.form.model.vision.grids,
  )


def draw(policy: Policy, params, samples, modality, codec, *, batch, buckets):
  """Maps [n, ...] that the policy draws of samples, greedily."""
  codes = draw_codes(
    policy, params, samples, modality, codec, batch=batch, buckets=buckets
  )
  return map_tokenizer.decode_maps(codec, codes)


def draw_codes(
  policy: Policy, params, samples, modality, codec, *, batch, buckets
) -> np.ndarray:
  """The codes i32 [n, Q] of these maps."""
  modality_id = dict(policy.markup.modalities)[modality]
  question = SimpleNamespace(text=request_of(codec.modality.REQUEST))
  trunks = [trunk_of(Item(sample, question), policy) for sample in samples]
  mode = grammar.Mode(0, ((policy.form.vocabulary.opening(modality_id),),))
  out = in_batches(
    policy,
    params,
    trunks,
    mode,
    batch=batch,
    limits=grammar.Limits(text=4, maps=1, script=2),
    buckets=buckets,
  )
  return out.codes[:, 0]


def respond(
  policy: Policy, params, items, mode: str, codecs, *, batch, buckets
) -> Responses:
  """What the policy says and draws in a mode, one row an item.

  Of an item only the `image` and `camera` of its sample and `question.text`
  are read.
  """
  maps = 0 if mode in ("direct", "text") else policy.limits.maps
  limits = dataclasses.replace(policy.limits, maps=maps)
  out = in_batches(
    policy,
    params,
    [trunk_of(item, policy) for item in items],
    mode_of(mode, policy),
    batch=batch,
    limits=limits,
    buckets=buckets,
  )
  return view_of(policy, out, codecs)


def respond_to_maps(
  policy: Policy, params, items, modality: str, codes, codecs, *, batch
) -> Responses:
  """What the policy goes on to say after maps that are given, codes [n, Q].

  Where they are those that it would have drawn, it says what it would have
  said.
  """
  trunks = [
    trunk_with_map(item, policy, modality, each)
    for item, each in zip(items, codes, strict=True)
  ]
  need = max(
    segments.measure(segments.Document(t), policy.form)[0] for t in trunks
  )
  out = in_batches(
    policy,
    params,
    trunks,
    grammar.Mode(0),
    batch=batch,
    limits=dataclasses.replace(policy.limits, maps=0),
    buckets=(-(-need // 32) * 32,),
    last="<think>",
  )
  return view_of(policy, out, codecs)
