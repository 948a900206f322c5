"""Prompts: a question about a sample, in each mode of use."""

import dataclasses

import numpy as np

from cooper_jax.data import modes, traces
from cooper_jax.policy import Policy
from cooper_jax.sampling import grammar
from cooper_jax.sequences import segments


@dataclasses.dataclass(frozen=True)
class Item:
  """One question about one sample."""

  sample: object
  question: object


def call(modality: str, policy: Policy) -> tuple[int, ...]:
  """The ids that call for a map: a thought and the map's opening."""
  special = policy.form.vocabulary.special
  return (
    special("<think>"),
    *policy.text.encode(" " + traces.call(modality)),
    special("</think>"),
    special(f"<{modality}>"),
  )


def mode_of(name: str, policy: Policy) -> grammar.Mode:
  """The constraints that hold a policy to a mode of use."""
  vocabulary = policy.form.vocabulary
  if name == modes.ADAPTIVE:
    return grammar.Mode(policy.form.allowed_maps)
  first = {modes.DIRECT: "<answer>", modes.IN_TEXT: "<think>"}
  if name in first:
    return grammar.Mode(0, ((vocabulary.special(first[name]),),))
  maps = modes.maps_of(name, modes.order(policy.markup.modalities))
  return grammar.Mode(0, tuple(call(m, policy) for m in maps))


def modes_of(policy: Policy, shares, trained=None) -> list[str]:
  """The modes that this policy can be held to: its maps, as many as fit.

  shares: of SFT, by mode; what has none was not trained.
  trained: modalities whose tokenizer was; None = all of the policy's.
  """
  names = modes.order(policy.markup.modalities)
  drawable = set(names if trained is None else trained)
  maps = {mode: modes.maps_of(mode, names) for mode in modes.of_policy(names)}
  return [
    mode
    for mode, drawn in maps.items()
    if (mode == modes.ADAPTIVE or shares.get(mode, 0.0) > 0)
    and drawable.issuperset(drawn)
    and len(drawn) <= policy.limits.maps
  ]


def trunk_of(item: Item, policy: Policy) -> tuple:
  """The prompt of a question, without its last token `<assistant>`."""
  request = policy.markup.request(item.question.text, item.sample)
  return (
    segments.Image(item.sample.image),
    dataclasses.replace(request, ids=request.ids[:-1]),
  )


def trunk_with_map(item: Item, policy: Policy, modality: str, codes) -> tuple:
  """A question with the map called for and given, up to `<think>`."""
  return trunk_with_maps(item, policy, [(modality, codes)])


def trunk_with_maps(item: Item, policy: Policy, maps) -> tuple:
  """A question with maps called for and given, (modality, codes [Q]) each."""
  ids = policy.markup.request(item.question.text, item.sample).ids
  found = [segments.Image(item.sample.image)]
  for modality, codes in maps:
    ids = np.concatenate([ids, call(modality, policy)[:-1]]).astype(int)
    found.append(segments.Text(ids, learn=False))
    modality_id = dict(policy.markup.modalities)[modality]
    found.append(segments.Map(modality_id, codes))
    ids = ()
  return tuple(found)
