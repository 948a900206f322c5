"""Generation: the responses of a policy to questions, and maps on request.

Everything runs through the one sampler, greedily by default, in batches of a
fixed size, so that little is compiled.
"""

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace

import jax
import numpy as np

from cooper_jax.data.modes import WITHOUT_MAPS
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
  made = make(
    policy,
    trunks,
    modes,
    group=group,
    limits=limits,
    buckets=buckets,
    last=last,
  )
  return sampler.sample(
    params,
    made,
    prompts.row_keys(key, ids),
    model=policy.model,
    form=policy.form,
    limits=limits,
    group=group,
    text_temperature=temperature[0],
    code_temperature=temperature[1],
    truncations=truncations,
  )


def make(
  policy: Policy, trunks, modes, *, group, limits, buckets, last="<assistant>"
) -> prompts.Prompts:
  """The prompts of trunks as the sampler takes them, of all processes."""
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
  return shard.spread(made)


def in_batches(
  policy: Policy, params, trunks, modes: Sequence[grammar.Mode], *, batch,
  limits, buckets, last="<assistant>", prefill_first: bool | None = None,
  advance=lambda: None,
):  # fmt: skip
  """Greedy rollouts of any number of prompts in each mode, a list.

  A prompt is read once for all modes. The last batch is padded.

  prefill_first: whether a program of its own reads the prompts, whose keys and
  values are then held twice while rows are sampled; None = where there are
  several modes. advance: advance() is called after each mode of each batch.
  """
  if prefill_first is None:
    prefill_first = len(modes) > 1
  keys = prompts.row_keys(jax.random.key(0), np.arange(batch))
  found = [[] for _ in modes]

  def sample_batch(some, count: int) -> None:
    made = make(
      policy,
      some,
      modes[:1] * batch,
      group=1,
      limits=limits,
      buckets=buckets,
      last=last,
    )
    read = None
    if prefill_first:
      read = sampler.read(params, made, model=policy.model, form=policy.form)
    for mode, parts in zip(modes, found, strict=True):
      out = sampler.sample(
        params,
        prompts.held_to(made, mode, limits),
        keys,
        model=policy.model,
        form=policy.form,
        limits=limits,
        group=1,
        text_temperature=0.0,
        code_temperature=0.0,
        prefilled=read,
      )
      parts.append(jax.tree.map(lambda x: x[:count], fetch(out)))
      advance()

  for start in range(0, len(trunks), batch):
    some = list(trunks[start : start + batch])
    sample_batch(some + [some[-1]] * (batch - len(some)), len(some))
  joined = []
  while found:  # and nothing is held twice
    parts = found.pop(0)
    joined.append(jax.tree.map(lambda *xs: np.concatenate(xs), *parts))
  return joined


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
  (out,) = in_batches(
    policy,
    params,
    trunks,
    [mode],
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
  options = {"batch": batch, "buckets": buckets}
  return respond_in(policy, params, items, [mode], codecs, **options)[mode]


def respond_in(
  policy: Policy, params, items, modes: Sequence[str], codecs, **options
) -> dict[str, Responses]:
  """As `respond` in each of the modes, for less: a prompt is read once.

  options: batch, buckets and more of `in_batches`.
  """
  maps = policy.limits.maps if {*modes} - {*WITHOUT_MAPS} else 0
  found = in_batches(
    policy,
    params,
    [trunk_of(item, policy) for item in items],
    [mode_of(mode, policy) for mode in modes],
    limits=dataclasses.replace(policy.limits, maps=maps),
    **options,
  )
  return {
    mode: view_of(policy, out, codecs)
    for mode, out in zip(modes, found, strict=True)
  }


def respond_to_maps(
  policy: Policy, params, items, modality: str, codes, codecs, *, batch,
  rows=None,
) -> Responses:  # fmt: skip
  """What the policy goes on to say after maps that are given, codes [n, Q].

  Where they are those that it would have drawn, it says what it would have
  said, up to rounding.

  rows: of the items, which are asked; None = all. Prompts are as long as all
  need, so that nothing more is compiled for some.
  """
  trunks = [
    trunk_with_map(item, policy, modality, each)
    for item, each in zip(items, codes, strict=True)
  ]
  need = max(
    segments.measure(segments.Document(t), policy.form)[0] for t in trunks
  )
  (out,) = in_batches(
    policy,
    params,
    trunks if rows is None else [trunks[i] for i in rows],
    [grammar.Mode(0)],
    batch=batch,
    limits=dataclasses.replace(policy.limits, maps=0),
    buckets=(-(-need // 32) * 32,),
    last="<think>",
  )
  return view_of(policy, out, codecs)
