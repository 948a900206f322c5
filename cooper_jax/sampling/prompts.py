"""Prompts for the sampler: trunks, padded to one of a few lengths.

The sampler feeds the last token of a prompt itself, so a trunk ends before it;
that token is `<assistant>`, the same in training branches and in rollouts, or
`<think>` where a response is gone on with after a map that was given.
"""

import jax
import numpy as np
from flax import struct

from cooper_jax import errors
from cooper_jax.models import masks, unified
from cooper_jax.sampling import grammar
from cooper_jax.sequences import packing, segments


@struct.dataclass
class Prompts:
  """P prompts, all but their last token, and what R = P * G rows may do."""

  tokens: unified.Tokens  # [P, S] each
  layout: masks.RowLayout  # [P, S] each
  # [P, images, side, side, 3] u8, or `patches.PackedPictures`.
  images: jax.Array
  image_at: jax.Array  # [P, J] i32 position of each image cell, -1 none
  last: jax.Array  # [P] i32 id of the last prompt token, fed first
  previous: jax.Array  # [P] i32 id before it, -1 none
  rope_position: jax.Array  # [P] i32 RoPE position of the last prompt token
  cell: jax.Array  # [P] i32 first cell of the image that locations point at
  allowed_maps: jax.Array  # [R] i32 bit set of the maps that may be drawn
  forced: jax.Array  # [R, turns, script] i32 ids a turn begins with, -1 free
  # [P, M, Q + 1] i32 ids of the codes and of the opening of each map that a
  # prompt holds or was given, the oldest first, -1 none; M = max_maps.
  seen: jax.Array
  # [P] i32 shape of the image that locations point at; None = all are squares.
  image_shape: jax.Array | None = None


def bucket(trunks, form: segments.Format, buckets) -> int:
  """Returns the smallest of the bucket lengths that holds every trunk."""
  need = max(segments.measure(segments.Document(t), form)[0] for t in trunks)
  for length in sorted(buckets):
    if need <= length:
      return length
  raise errors.UserError(
    f"a prompt needs {need} positions, the longest bucket is {max(buckets)};"
    " raise config.sampling.prompt_buckets"
  )


def make(
  trunks,
  *,
  form: segments.Format,
  length: int,
  group: int,
  limits: grammar.Limits,
  modes,
  last: str = "<assistant>",
) -> Prompts:
  """Builds P prompts for R = P * group rows.

  Args:
    trunks: P tuples of segments, each ending with text or with a map,
      without the last token.
    form: vocabulary and sizes.
    length: S, the bucket.
    group: rows of one prompt.
    limits: sizes of the rollout.
    modes: one `grammar.Mode` a prompt.
    last: the special token that each prompt ends with.
  """
  images = max(
    sum(isinstance(s, segments.Image) for s in trunk) for trunk in trunks
  )
  shape = packing.Shape(length=length, texts=0, codes=0, images=images)
  packed = [
    packing.pack([segments.Document(t)], form=form, shape=shape, rows=1)
    for t in segments.unlearned(trunks)
  ]
  arrays = {
    name: np.concatenate([p[name] for p in packed]) for name in packed[0]
  }
  tokens, layout = packing.inputs(arrays)
  # A smaller image leaves padding inside of a prompt.
  end = length - 1 - np.argmax(arrays["document"][:, ::-1] > 0, axis=1)
  pick = lambda name: arrays[name][np.arange(len(trunks)), end]  # noqa: E731
  count = [
    max(sum(isinstance(s, segments.Image) for s in t) - 1, 0) for t in trunks
  ]
  return Prompts(
    tokens=tokens,
    layout=layout,
    images=packing.pictures(arrays),
    image_at=arrays["image_at"],
    last=np.full(len(trunks), form.vocabulary.special(last), np.int32),
    previous=pick("ids"),
    rope_position=pick("row") + 1,
    cell=np.array(count, np.int32) * form.model.locations,
    **_of_modes(modes, limits, group),
    seen=np.stack([_seen(trunk, form) for trunk in trunks]),
    image_shape=_shapes(arrays, count),
  )


def held_to(made: Prompts, mode: grammar.Mode, limits) -> Prompts:
  """The same prompts, each with one row that is held to a mode."""
  return made.replace(**_of_modes([mode] * len(made.last), limits, 1))


def _of_modes(modes, limits, group: int) -> dict[str, np.ndarray]:
  """`Prompts.allowed_maps` and `Prompts.forced`."""
  allowed = np.array([mode.allowed_maps for mode in modes], np.int32)
  forced = np.stack([mode.forced(limits) for mode in modes])
  return {
    "allowed_maps": np.repeat(allowed, group),
    "forced": np.repeat(forced, group, axis=0),
  }


def _shapes(arrays, last) -> np.ndarray | None:
  """The shape [P] of the last image of each prompt, `last` its number."""
  if "image_shape" not in arrays:
    return None
  shape = arrays["image_shape"]
  return shape[np.arange(len(shape)), last] if shape.shape[1] else shape.sum(1)


def _seen(trunk, form: segments.Format) -> np.ndarray:
  model, seen = form.model, ()
  for segment in trunk:
    seen = segments.remembered(seen, segment, form)
  out = np.full((model.max_maps, model.map_codes + 1), -1, np.int32)
  for i, (opening, held) in enumerate(seen):
    out[i, :-1], out[i, -1] = held, opening
  return out


def row_keys(key, sample_ids):
  """One key a row [R], fold_in(run key, sample id), of sample ids [R]."""
  ids = np.asarray(sample_ids, np.uint32)
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(ids)
