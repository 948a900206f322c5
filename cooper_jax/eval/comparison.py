"""Accuracy of two recipes compared, over seeds and questions alike.

Runs come in pairs of one seed, which were asked the same questions, so that a
difference is one of answers to the same question. Its interval resamples the
seeds and, within them, the questions: what would another seed have given?
"""

import collections
import gzip
import json
import math
import zlib
from pathlib import Path

import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.grading import intervals
from cooper_jax.world.questions.families import measuring

GZIPPED = ".gz"  # after the name of a file of answers


def groups() -> dict[str, tuple[str, ...]]:
  """Families that are about distance or size, or both."""
  distance, size = measuring("distance"), measuring("size")
  return {
    "distance and size": (*distance, *size),
    "distance": distance,
    "size": size,
  }


def answers(
  workdir, stage: str, benchmark: str = ""
) -> dict[str, dict[tuple, dict]]:
  """mode -> {(sample, question, how often before): line} of one run.

  benchmark: what was asked, "" = the test split. Raises UserError where there
  are none, or they can't be read. They may be packed, as `<stage>.jsonl.gz`.
  """
  folder = Path(workdir).expanduser() / "evaluate" / benchmark
  path = folder / f"{stage}.jsonl"
  packed = path.with_name(f"{path.name}{GZIPPED}")
  path = packed if packed.exists() else path
  found, seen = {}, collections.Counter()
  try:
    data = path.read_bytes()
    data = gzip.decompress(data) if path == packed else data
    for text in data.decode("utf-8").splitlines():
      line = json.loads(text)
      line |= {"family": str(line["family"]), "hit": float(line["hit"])}
      if not math.isfinite(line["hit"]):
        raise ValueError("a hit that is no number")
      same = line["sample"], line["question"]
      before = seen[line["mode"], same]
      seen[line["mode"], same] += 1
      found.setdefault(line["mode"], {})[*same, before] = line
  except (
    OSError, EOFError, zlib.error, ValueError, KeyError, TypeError,
  ) as error:  # fmt: skip
    why = f"{type(error).__name__}: {error}"
    raise UserError(
      f"{path} can't be read ({why}); evaluate that run with this version"
      " (configs/evaluate.py) and name a stage that it has"
    ) from error
  if not found:
    raise UserError(f"{path} holds no answer; evaluate that run again")
  return found


def read(workdir, stage: str, mode: str) -> dict[tuple, tuple[str, float]]:
  """{question as in `answers`: (family, hit)}; UserError without it."""
  found = answers(workdir, stage)
  if mode not in found:
    path = Path(workdir).expanduser() / "evaluate" / f"{stage}.jsonl"
    raise UserError(
      f'{path} has no answers in mode "{mode}"; give --mode one of'
      f" {', '.join(sorted(found))}"
    )
  return {
    key: (line["family"], line["hit"]) for key, line in found[mode].items()
  }


def pairs(runs, against, stage: str, mode: str):
  """[(families [n], difference of hits [n])] for each pair of runs."""
  made = []
  for one, other in zip(runs, against, strict=True):
    here, there = read(one, stage, mode), read(other, stage, mode)
    if here.keys() != there.keys():
      raise UserError(
        f"{one} and {other} were not asked the same questions; pair runs of"
        " one seed and one config of data and evaluation"
      )
    families = np.array([family for family, _ in here.values()])
    gaps = np.array([hit - there[key][1] for key, (_, hit) in here.items()])
    made.append((families, gaps))
  return made


def differences(made) -> dict[str, tuple[float, float, float, int]]:
  """name -> (mean difference, low, high, questions): all, groups, families.

  Of a family that is named as a group ("distance") it is "distance (family)".
  """
  known = sorted({str(f) for families, _ in made for f in families})
  parts = {"all": tuple(known)} | groups()
  parts |= {f"{n} (family)" if n in parts else n: (n,) for n in known}
  found = {}
  for title, names in parts.items():
    each = [gaps[np.isin(families, names)] for families, gaps in made]
    each = [gaps for gaps in each if len(gaps)]
    if each:
      mean = float(np.mean([gaps.mean() for gaps in each]))
      low, high = intervals.nested_bootstrap(each)
      found[title] = mean, low, high, sum(map(len, each))
  return found
