"""Documents of rollouts: the way back from the sampler to the trainer.

The G rows of a prompt become branches of one document, so the update computes
their shared prefix once for all that share a row, forward and backward. Every
scored token carries the index of its position, `row * T + position`, by which
its sampled log-probability and its advantage are found again.
"""

import numpy as np

from cooper_jax import errors
from cooper_jax.models import token_kinds
from cooper_jax.sampling import grammar
from cooper_jax.sequences import packing
from cooper_jax.sequences.segments import (
  Document,
  Map,
  Text,
  measure,
  unlearned,
)


def branch(rollout, row: int, form, limits: grammar.Limits) -> tuple:
  """Returns the segments of one row, `<assistant>` first."""
  positions = limits.positions(form)
  base = row * positions
  segments = []
  for turn in range(limits.maps + 1):
    start = limits.text_start(turn, form)
    state = rollout.state[row, start : start + limits.text]
    used = int((state != token_kinds.PAD).sum())
    if not used:
      break
    # The first token of turn 0 is the prompt's last; of the others it is the
    # closing of a map, which the map's segment brings.
    first = start if turn == 0 else start + 1
    end = start + used
    modality_id = rollout.map_modality[row, turn] if turn < limits.maps else -1
    opening = end - 1 if modality_id >= 0 else None
    at = np.arange(first, end if opening is None else opening)
    segments.append(
      Text(
        rollout.tokens[row, at],
        learn=rollout.trainable[row, at],
        source=base + at,
        allowed_maps=rollout.allowed_maps[row, at],
      )
    )
    if opening is None:
      break
    drawn = limits.map_start(turn, form) + form.model.step_codes
    segments.append(
      Map(
        int(modality_id),
        rollout.codes[row, turn],
        learn_opening=bool(rollout.trainable[row, opening]),
        source=base + drawn + np.arange(form.model.map_codes),
        opening_source=base + opening,
        allowed_maps=int(rollout.allowed_maps[row, opening]),
      )
    )
  return tuple(segments)


def documents(rollout, trunks, *, form, limits, group: int) -> list:
  """Returns one document a prompt, its group's rows as branches.

  Args:
    rollout: a Rollout of numpy arrays, R = len(trunks) * group rows.
    trunks: the prompts' segments, as given to the sampler.
    form, limits, group: as given to the sampler.
  """
  return [
    Document(
      tuple(trunk),
      tuple(branch(rollout, p * group + g, form, limits) for g in range(group)),
    )
    for p, trunk in enumerate(unlearned(trunks))
  ]


def row_shape(form, limits, *, trunk: int, bins: int) -> packing.Shape:
  """Of a row of the update: a prompt, and bins that hold any rollout."""
  bin_size = -(-(limits.positions(form) + 2) // 32) * 32
  maps = bin_size // (form.model.map_positions + 1)
  return packing.Shape(
    length=trunk + bins * bin_size,
    texts=bins * bin_size,
    codes=bins * maps * form.model.map_codes,
    trunk=trunk,
    bin_size=bin_size,
  )


def spread(documents, form, *, bin_size: int, bins: int) -> list:
  """Documents divided into rows of at most `bins` bins, longest branch first.

  Returns (document, indices) pairs: the trunk with some of the branches, and
  which they are, counted through all documents. A prompt whose rollouts are
  short takes few rows, and no two rollouts share what they do not share.

  Raises:
    UserError: a branch is longer than a bin.
  """
  rows, count = [], 0
  for document in documents:
    lengths = [
      measure(Document(branch), form)[0] for branch in document.branches
    ]
    if max(lengths) > bin_size:
      raise errors.UserError(
        f"a rollout has {max(lengths)} tokens, a bin of the update {bin_size}"
      )
    own = []  # of each row: room in its bins, and the branches in it
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
      fits = (
        (row, place)
        for row in own
        for place, room in enumerate(row[0])
        if room >= lengths[i]
      )
      row, place = next(fits, (None, 0))
      if row is None:
        row = ([bin_size] * bins, [])
        own.append(row)
      row[0][place] -= lengths[i]
      row[1].append(i)
    for _, held in own:
      branches = tuple(document.branches[i] for i in held)
      made = Document(document.trunk, branches)
      rows.append((made, [count + i for i in held]))
    count += len(lengths)
  return rows
