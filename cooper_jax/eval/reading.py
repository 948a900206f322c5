"""Reading of maps, teacher-forced: how well a policy says what a map shows.

On the validation split: the readings of grounding texts and
traces (numbers, and how two things stand to each other), where the places
before them read no map, the true map, another image's, or a changed one whose
own truth is said. Only a policy that reads is surprised by another image's map
and not by a changed one. Says nothing of a model without `model.map_lookup`.

All readings count, those too that no depth map tells (left of, yes); and where
a changed map's truth can't be told, the true map is read in its place. So the
four kinds differ by less than the readings of depth alone would.
"""

import dataclasses

import jax
import numpy as np

from cooper_jax import modalities
from cooper_jax.data import counterfactual, map_examples, tasks
from cooper_jax.data.codes import encode
from cooper_jax.grading import intervals
from cooper_jax.sequences import packing, scoring

ROWS = 12  # images at once
_SCENES = 96  # of the validation split
READ_FROM = ("none", "true", "other", "counterfactual")
READING = "reading"


def make_tasks(config, policy, codes) -> dict[str, tasks.MapTask]:
  """A task of each kind of `READ_FROM`: texts whose places read such a map."""
  model, bin_size = policy.form.model, config.pretrain.bin
  changeable = counterfactual.changeable()
  shape = packing.Shape(
    length=model.locations + 4 * bin_size,
    texts=config.pretrain.texts,
    codes=model.map_codes,
    trunk=model.locations,
    bin_size=bin_size,
  )
  true = tasks.MapTask(
    markup=policy.markup,
    codes=codes,
    shape=shape,
    map_noise=0.0,
    weights=dict(text=0.0, name=0.0, location=0.0, reading=1.0, answer=0.0),
    titles=((changeable, modalities.found()[changeable].REQUEST),),
    single_object=0.0,
    map_context=1.0,
  )
  others = {
    name: np.roll(maps, len(maps) // 2, axis=0)
    for name, maps in codes.maps.items()
  }
  other = dataclasses.replace(codes, maps=others)
  return {
    "none": dataclasses.replace(true, map_context=0.0),
    "true": true,
    "other": dataclasses.replace(true, codes=other),
    "counterfactual": dataclasses.replace(true, counterfactual=1.0),
  }


def samples_of(source) -> list:
  """The samples that are read: the first of a source with such a map."""
  changeable = counterfactual.changeable()
  modules = {changeable: modalities.found()[changeable]}
  have = map_examples.places(source, modules)[changeable]
  samples = (source[i] for i in have[:_SCENES].tolist())
  return [sample for sample in samples if sample is not None]


def measure(policy, params, samples, config, codecs, *, stage: str) -> dict:
  """reading/<nll|hit>/<kind>/<stage>, in nats and as a rate, with intervals.

  {} where no text of the split tells a reading, or none has a map to read.
  The same texts for none, true and other; a changed map changes what is right.
  """
  changeable = counterfactual.changeable()
  if not samples:
    return {}
  codes = encode(samples, codecs)
  changed = counterfactual.make(
    samples, codecs[changeable], own=None, seed=config.seed
  )
  codes = dataclasses.replace(codes, changed=changed)
  score = jax.jit(
    scoring.score, static_argnames=("model", "form", "sampled", "bins")
  )
  found = {}
  for kind, task in make_tasks(config, policy, codes).items():
    nll, hit = [], []
    for start in range(0, len(samples), ROWS):
      some = samples[start : start + ROWS]
      rows = [task(s, np.random.default_rng(i)) for i, s in enumerate(some)]
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
        sampled=False,
        bins=task.shape.bins,
      )
      here = batch["text_weight"] > 0
      here[len(some) :] = False
      nll.append(-np.asarray(scores.text_log_prob)[here])
      hit.append(np.asarray(scores.text_hit)[here])
    nll, hit = np.concatenate(nll), np.concatenate(hit)
    if not len(nll):  # own data without traces says nothing to be read
      continue
    found |= intervals.rate(f"{READING}/hit/{kind}/{stage}", hit)
    key = f"{READING}/nll/{kind}/{stage}"
    found[key], found[f"{key}/n"] = float(nll.mean()), len(nll)
    found[f"{key}/ci95"] = list(intervals.bootstrap(nll))
  return found
