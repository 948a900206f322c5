"""Rollouts -> documents: the way back from the sampler to the trainer.

The G rows of a prompt become branches of one document, so the update computes
their shared prefix once for all that share a row, forward and backward. Every
scored token carries the index of its slot, `row * T + slot`, by which its
sampled log-probability and its advantage are found again.
"""

import numpy as np

from cooper_jax import errors
from cooper_jax.sampling import grammar
from cooper_jax.sequences import packing
from cooper_jax.sequences import segments as sequence


def branch(rollout, row: int, form, limits: grammar.Limits) -> tuple:
  """Returns the segments of one row, `<assistant>` first."""
  slots = limits.slots(form)
  base = row * slots
  segments = []
  for turn in range(limits.maps + 1):
    start = limits.text_start(turn, form)
    state = rollout.state[row, start : start + limits.text]
    used = int((state != grammar.PAD).sum())
    if not used:
      break
    # The first token of turn 0 is the prompt's last; of the others it is the
    # closing of a map, which the map's segment brings.
    first = start if turn == 0 else start + 1
    end = start + used
    slot = rollout.map_slot[row, turn] if turn < limits.maps else -1
    opening = end - 1 if slot >= 0 else None
    at = np.arange(first, end if opening is None else opening)
    segments.append(
      sequence.Text(
        rollout.tokens[row, at],
        learn=rollout.live[row, at],
        source=base + at,
        openings=rollout.openings[row, at],
      )
    )
    if opening is None:
      break
    drawn = limits.map_start(turn, form) + form.model.group_size
    segments.append(
      sequence.Map(
        int(slot),
        rollout.codes[row, turn],
        learn_opening=bool(rollout.live[row, opening]),
        source=base + drawn + np.arange(form.model.map_codes),
        opening_source=base + opening,
        openings=int(rollout.openings[row, opening]),
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
    sequence.Document(
      tuple(trunk),
      tuple(branch(rollout, p * group + g, form, limits) for g in range(group)),
    )
    for p, trunk in enumerate(sequence.unlearned(trunks))
  ]


def row_shape(form, limits, *, trunk: int, blocks: int) -> packing.Shape:
  """Of a row of the update: a prompt, and blocks that hold any rollout."""
  block = -(-(limits.slots(form) + 2) // 32) * 32
  maps = block // (form.model.map_slots + 1)
  return packing.Shape(
    length=trunk + blocks * block,
    texts=blocks * block,
    codes=blocks * maps * form.model.map_codes,
    trunk=trunk,
    block=block,
  )


def spread(documents, form, *, block: int, blocks: int) -> list:
  """Documents cut into rows of at most `blocks` blocks, longest branch first.

  Returns (document, indices) pairs: the trunk with some of the branches, and
  which they are, counted through all documents. A prompt whose rollouts are
  short takes few rows, and no two rollouts share what they do not share.

  Raises:
    UserError: a branch is longer than a block.
  """
  rows, count = [], 0
  for document in documents:
    lengths = [
      sequence.measure(sequence.Document(branch), form)[0]
      for branch in document.branches
    ]
    if max(lengths) > block:
      raise errors.UserError(
        f"a rollout has {max(lengths)} tokens, a block of the update {block}"
      )
    own = []  # of each row: room in its blocks, and the branches in it
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
      fits = (
        (row, place)
        for row in own
        for place, room in enumerate(row[0])
        if room >= lengths[i]
      )
      row, place = next(fits, (None, 0))
      if row is None:
        row = ([block] * blocks, [])
        own.append(row)
      row[0][place] -= lengths[i]
      row[1].append(i)
    for _, held in own:
      branches = tuple(document.branches[i] for i in held)
      made = sequence.Document(document.trunk, branches)
      rows.append((made, [count + i for i in held]))
    count += len(lengths)
  return rows
