"""Use of drawn maps: accuracy with the own, another image's and the true map.

A policy can draw well and answer from the image alone. So it is held to draw
depth first, and then its map is exchanged: for the map that it drew of another
image, and for the true one. The policy uses maps as far as its own serves it
better than another image's; the true one says what better maps could bring.

Replacing what a model wrote for itself is known as the token replacement test;
maps that say nothing (`config.evaluate.replacements`) are part of it.
"""

import numpy as np

from cooper_jax import modalities
from cooper_jax.data import traces
from cooper_jax.eval import questions
from cooper_jax.grading import intervals
from cooper_jax.rollouts import exchanging, generate, response
from cooper_jax.tokenizers import map_tokenizer
from cooper_jax.world.questions.families import measuring

MAP_USE = "map_use"
# What may stand in place of a drawn map: codes [n, Q] of
# f(own [n, Q], size of the code book, rng).
MEANINGLESS = {
  "zero": lambda own, size, rng: np.zeros_like(own),
  "random": lambda own, size, rng: rng.integers(0, size, own.shape, own.dtype),
  "first": lambda own, size, rng: np.repeat(own[:, :1], own.shape[1], axis=1),
}
REPLACEMENTS = ("own", "other", "true", *MEANINGLESS)


def exchanged() -> str:
  """The modality whose maps are exchanged: the first, and a mode draws it."""
  return modalities.names()[0]


def measure(
  policy, params, items, drawn, codecs, *, batch, stage,
  replacements=("own", "other", "true"), seed=0,
) -> dict:  # fmt: skip
  """Scores of the questions whose program reads depth; {} without any.

  Args:
    drawn: `questions.Answers` to all items in the mode that draws the map,
      graded by default. They are those with the own map, where a response goes
      on as one is that is asked here: so the map was drawn step by step in
      these, and was read at once in those (in bf16 that is rounding apart).
    stage: the last part of the keys.
    replacements: of REPLACEMENTS, what stands in place of the drawn map.
    seed: of random codes.

  Returns:
    map_use/<own|other|true>/<stage>, the same of every family, and
    map_use/<gain|room>/<stage>: own - other and true - own, each with its n
    and a 95 % interval (paired for the differences); the differences for the
    families of distance alone too, map_use/<gain|room>/distances/<stage>.
    map_use/over/<zero|random|first>/<stage>: own less a map that says nothing.
    map_use/doubt/<kind>/<stage>: how often it says that a map is wrong.
  """
  name = exchanged()
  module = codecs[name].modality
  rows = [
    i
    for i, item in enumerate(items)
    if name in item.question.needs
    and drawn.view.maps[i]
    and module.read(item.sample) is not None
  ]
  true = [module.read(items[i].sample) for i in rows]
  if not rows:
    return {}
  asked = [items[i] for i in rows]
  own = np.stack([drawn.view.maps[i][0].codes for i in rows])
  others = exchanging.of_another([item.sample.id for item in asked])
  if others is None:
    return {}
  held = {
    "own": own,
    "other": own[others],
    "true": map_tokenizer.encode_maps(codecs[name], np.stack(true)),
  }
  rng, size = np.random.default_rng(seed), policy.form.model.codes
  held |= {kind: made(own, size, rng) for kind, made in MEANINGLESS.items()}
  # With its own map before it a policy says what it has said already.
  texts = [drawn.view.text[i] for i in rows]
  known = np.array([goes_on(text, name) for text in texts])
  hits, doubts = {}, {}
  for kind in replacements:
    said, right = list(texts), drawn.hits[rows]
    left = np.arange(len(rows))  # to be asked
    left = left[~known] if kind == "own" else left
    if len(left):
      view = generate.respond_to_maps(
        policy, params, asked, name, held[kind], codecs, batch=batch, rows=left
      )
      right[left] = questions.graded(view, [asked[i] for i in left]).hits
      for i, text in zip(left, view.text, strict=True):
        said[i] = text
    hits[kind] = right
    doubted = np.array([traces.DOUBT in text for text in said])
    doubts |= intervals.rate(f"{MAP_USE}/doubt/{kind}/{stage}", doubted)
  return scores(hits, questions.families(asked), stage) | doubts


def goes_on(text: str, modality: str) -> bool:
  """Whether a response draws one map, thinks after it, and answers."""
  turns, rest = response.turns(text)
  return [turn.action for turn in turns] == [modality, "answer"] and not rest


def scores(hits: dict[str, np.ndarray], families, stage: str) -> dict:
  """The summary's entries for hits [n] of each kind."""
  found = {}
  for kind, values in hits.items():
    found |= intervals.rate(f"{MAP_USE}/{kind}/{stage}", values)
    for family, rows in families.items():
      key = f"{MAP_USE}/{kind}/{family}/{stage}"
      found |= intervals.rate(key, values[rows])
  near = [families[f] for f in measuring("distance") if f in families]
  parts = {"": np.arange(len(hits["own"]))}
  if near:
    parts["/distances"] = np.concatenate(near)
  pairs = [("gain", "own", "other"), ("room", "true", "own")]
  pairs += [(f"over/{kind}", "own", kind) for kind in MEANINGLESS]
  for name, more, less in pairs:
    for part, rows in parts.items() if {more, less} <= hits.keys() else ():
      one, other = hits[more][rows], hits[less][rows]
      key = f"{MAP_USE}/{name}{part}/{stage}"
      found[key] = float(np.mean(one - other))
      found[f"{key}/n"] = len(rows)
      found[f"{key}/ci95"] = list(intervals.bootstrap_difference(one, other))
  return found
