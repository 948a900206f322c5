"""Errors and pictures of map tokenizers, beside those of a constant map."""

import dataclasses

import numpy as np

from cooper_jax.data import map_examples
from cooper_jax.grading.metrics import maps
from cooper_jax.tokenizers import map_tokenizer
from cooper_jax.tokenizers.map_tokenizer import Codec

MAPS_STAGE = "tokenizer"
BASELINE_SCENES = 1024  # train scenes that the constant map is made of
SHOWN_MAPS = 6  # in a picture
LEAST_USAGE = 0.2  # share of the codes
OVER = f"{MAPS_STAGE}/over"  # key: what the metrics of a modality are over


@dataclasses.dataclass(frozen=True)
class Redrawn:
  """What the tokenizer leaves of maps, and the codes it goes through."""

  maps: np.ndarray
  codes: np.ndarray  # i32 [n, Q]
  size: int  # of the code book


def redraw(trained: dict[str, Codec], targets) -> dict[str, Redrawn]:
  """Encodes and decodes the maps of every modality that there is."""
  result = {}
  for name, found in targets.items():
    codec = trained[name]
    drawn, codes_nQ = map_tokenizer.redraw_maps(codec, found.targets)
    result[name] = Redrawn(drawn, codes_nQ, codec.config.codes)
  return result


def measure(modules, targets, drawn: dict[str, Redrawn]) -> dict:
  """Errors of encoding and decoding, and how many codes that uses."""
  result = {}
  for name, found in targets.items():
    scores = maps.score(
      modules[name], drawn[name].maps, found.targets, found.objects
    )
    for metric, value in scores.items():
      result[f"{name}/tokenizer_{metric}"] = value
    size = drawn[name].size
    share = np.bincount(drawn[name].codes.ravel(), minlength=size)
    used = share[share > 0] / share.sum()
    result[f"{name}/tokenizer_usage"] = used.size / size
    result[f"{name}/tokenizer_perplexity"] = float(
      np.exp(-np.sum(used * np.log(used)))
    )
  return result


def numbers(prefix: str, values) -> dict:
  """What a scalar log can hold of a summary: no intervals."""
  return {
    prefix + name: value
    for name, value in values.items()
    if not isinstance(value, list)
  }


def over(modules) -> dict[str, float]:
  """What the metrics of each modality are over, as it says of itself."""
  return {
    f"{OVER}/{name}/{fact}": value
    for name, module in modules.items()
    for fact, value in module.facts().items()
  }


def constant_scores(modules, train, test) -> dict:
  """Errors on `test` of the best map that is the same for every image.

  The best one for the first BASELINE_SCENES of the source `train`.
  """
  result = {}
  train = map_examples.read_maps(train, modules, count=BASELINE_SCENES)
  for name, found in test.items():
    if name not in train:
      continue
    module = modules[name]
    best = module.constant(train[name].targets)
    drawn = np.broadcast_to(best, found.targets.shape)
    scores = maps.score(module, drawn, found.targets, found.objects)
    for metric, value in scores.items():
      head, *tail = metric.split("/")
      if head != "iou":
        result["/".join([name, f"{head}_constant", *tail])] = value
  return result


def draw(modules, targets, drawn) -> dict[str, np.ndarray]:
  """Per modality: true maps above, what the tokenizer leaves of them below."""
  pictures = {}
  for name, found in targets.items():
    pairs = zip(found.targets[:SHOWN_MAPS], drawn[name].maps)
    panels = [modules[name].panels(*pair) for pair in pairs]
    rows = [
      np.concatenate([each[k][1] for each in panels], axis=1) for k in (0, 1)
    ]
    pictures[f"tokenizer/{name}"] = np.concatenate(rows)
  return pictures


def report(modules, summary, imported=()) -> None:
  """Says what the tokenizers lose, and warns of unused codes.

  imported: names of those that were not trained here.
  """
  for name in modules:
    head, tail = f"{name}/tokenizer_", "/ci95"
    if f"{head}usage" not in summary:
      print(
        f"{MAPS_STAGE} {name}: no test sample has this map to measure it by"
      )
      continue
    metrics = [
      key.removeprefix(head).removesuffix(tail)
      for key in summary
      if key.startswith(head) and key.endswith(tail)
    ]
    usage = summary[f"{head}usage"]
    print(f"{MAPS_STAGE} {name}: {usage:.0%} of the codes used")
    for fact, value in modules[name].facts().items():
      print(f"  {fact.replace('_', ' ')} {value:g}")
    for metric in metrics:
      constant = summary[f"{name}/{metric}_constant"]
      print(
        f"  {metric} {summary[head + metric]:.4f}"
        f" (constant map {constant:.4f})",
        flush=True,
      )
    if usage < LEAST_USAGE and name not in imported:
      print(
        f"warning: the {name} tokenizer uses {usage:.1%} of its codes, under"
        f" {LEAST_USAGE:.0%}; train longer, or raise"
        " config.tokenizer.network.spread_weight",
        flush=True,
      )
