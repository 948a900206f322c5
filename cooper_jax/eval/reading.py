"""How well a policy reads what maps say, without sampling anything.

Teacher-forced on the validation split: the readings of grounding texts and
traces (numbers, and how two things stand to each other), where the places
before them read no map, the true map, another image's, or a changed one whose
own truth is told. Only a policy that reads is surprised by another image's map
and not by a changed one. Says nothing of a model without `model.read`.

All readings count, those too that no depth map tells (left of, yes); and where
a changed map's truth can't be told, the true map is read in its place. So the
four kinds differ by less than the readings of depth alone would.
"""

import dataclasses

import jax
import numpy as np

from cooper_jax import plugins
from cooper_jax.data import codes as coding
from cooper_jax.data import counterfactual as edits
from cooper_jax.data import map_examples
from cooper_jax.data import tasks as lessons
from cooper_jax.grading import intervals
from cooper_jax.sequences import packing
from cooper_jax.sequences import scoring as losses

ROWS = 12  # images at once
SCENES = 96  # of the validation split
KINDS = ("none", "true", "other", "edited")
KEY = "reading"


def make_lessons(config, policy, codes) -> dict[str, lessons.Pretrain]:
  """The four kinds of texts, by what their places read."""
  model, block = policy.form.model, config.pretrain.block
  shape = packing.Shape(
    length=model.locations + 4 * block,
    texts=config.pretrain.texts,
    codes=model.map_codes,
    trunk=model.locations,
    block=block,
  )
  true = lessons.Pretrain(
    writer=policy.writer,
    codes=codes,
    shape=shape,
    map_noise=0.0,
    weights=dict(text=0.0, name=0.0, location=0.0, reading=1.0, answer=0.0),
    titles=((edits.MODALITY, "Depth"),),
    marks=0.0,
    given=1.0,
  )
  others = {
    name: np.roll(maps, len(maps) // 2, axis=0)
    for name, maps in codes.maps.items()
  }
  other = dataclasses.replace(codes, maps=others)
  return {
    "none": dataclasses.replace(true, given=0.0),
    "true": true,
    "other": dataclasses.replace(true, codes=other),
    "edited": dataclasses.replace(true, edited=1.0),
  }


def measure(policy, params, source, config, codecs, *, stage: str) -> dict:
  """reading/<nll|hit>/<kind>/<stage>, in nats and as a rate, with intervals.

  {} where no text of the split tells a reading, or none has a map to read.
  The same texts for none, true and other; a changed map changes what is right.
  """
  module = plugins.find("modalities", edits.MODALITY)
  have = map_examples.places(source, {edits.MODALITY: module})[edits.MODALITY]
  samples = [source[i] for i in have[:SCENES].tolist()]
  if not samples:
    return {}
  codes = coding.encode(samples, codecs)
  changed = edits.make(
    samples, codecs[edits.MODALITY], own=None, seed=config.seed
  )
  codes = dataclasses.replace(codes, edits=changed)
  score = jax.jit(losses.score, static_argnames=("model", "form", "blocks"))
  found = {}
  for kind, lesson in make_lessons(config, policy, codes).items():
    nll, hit = [], []
    for start in range(0, len(samples), ROWS):
      some = samples[start : start + ROWS]
      rows = [lesson(s, np.random.default_rng(i)) for i, s in enumerate(some)]
      rows += [rows[-1]] * (ROWS - len(rows))
      batch = {
        name: np.stack([row[name] for row in rows])
        for name in rows[0]
        if name != "left_out"
      }
      scores = score(
        policy.model,
        params,
        batch,
        form=policy.form,
        blocks=lesson.shape.blocks,
      )
      here = batch["text_weight"] > 0
      here[len(some) :] = False
      nll.append(-np.asarray(scores.text_log_prob)[here])
      hit.append(np.asarray(scores.text_hit)[here])
    nll, hit = np.concatenate(nll), np.concatenate(hit)
    if not len(nll):  # own data without traces says nothing to be read
      continue
    found |= intervals.rate(f"{KEY}/hit/{kind}/{stage}", hit)
    key = f"{KEY}/nll/{kind}/{stage}"
    found[key], found[f"{key}/n"] = float(nll.mean()), len(nll)
    found[f"{key}/ci95"] = list(intervals.bootstrap(nll))
  return found
