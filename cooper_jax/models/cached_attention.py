"""Attention of a decoding step to the cache, in one TPU kernel (Pallas).

The products of a step are small, and XLA makes some thirty kernels a layer of
them, most of which arrange queries and scores. Here a program has one head of
keys and the rows of one prefix, or some of them: it turns queries and new keys
by their rotary angles, reads the prefix once for all rows, each row's own
positions and what is new, and writes no scores.

Keys and values are read in place, in the arrays of all layers, for one layer of
them would be copied first; what goes in and comes out is laid out as the
projections before and after have it. Equal to `layers.RMSNorm`,
`layers.apply_rope` and `attention.attend_shared`.
"""

import functools

import einops
import jax
import jax.numpy as jnp
from flax import struct
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from cooper_jax.models.attention import NEGATIVE
from cooper_jax.models.kernels import TILE
from cooper_jax.parallel import shard

# Of a program, at most: each row is compiled for itself, and what is kept of
# all of them must find room in the 16 MiB that a TPU v4 has for a program.
ROWS_A_PROGRAM = 16
QUERIES_A_PROGRAM = 2048
PROGRAM_ROOM = 12 * 2**20  # bytes of what it reads, makes and writes


@struct.dataclass
class Past:
  """What a step reads in every layer.

  cached: of all layers, prefixes' keys [layers, K, P, H, S] and values
  [layers, K, P, S, H], and those of R = P * G rows, R and T for P and S.
  unseen: what is added to scores, f32 [P, 1, S] and [R, 1, read], 0 or
  NEGATIVE. turn: cos and sin of the new positions, f32 [P, G * L, H].
  """

  cached: tuple
  unseen: tuple
  turn: tuple


def arrange(cached, masks, turn) -> Past:
  """A step's `Past`.

  Args:
    cached: as `Past` has it.
    masks: bool [P, S] and [R, read], the positions that are seen; of the T no
      more than the first `read` are.
    turn: of `layers.rope_turn`, [R, L, H] each.
  """
  read = whole(masks[1].shape[1], cached[2].shape[-1])
  missing = read - masks[1].shape[1]
  masks = masks[0], jnp.pad(masks[1], ((0, 0), (0, missing)))
  unseen = tuple(jnp.where(mask, 0.0, NEGATIVE)[:, None] for mask in masks)
  prefixes = cached[0].shape[2]
  turn = tuple(_by_prefix(x, prefixes) for x in turn)
  # Else they would be made anew in every layer.
  return Past(cached, *jax.lax.optimization_barrier((unseen, turn)))


def fits(cached, queries: int, read: int) -> bool:
  """Whether the kernel can take a step of this size on the mesh that is set.

  cached: prefixes' keys [layers, K, P, H, S] and so on, and read, as `arrange`
  is given them; queries: of a row and head of keys.
  """
  _, kv_heads, prefixes, head_dim, _ = cached[0].shape
  divided = shard.pieces("batch"), shard.pieces("kv_heads")
  if head_dim % TILE or prefixes % divided[0] or kv_heads % divided[1]:
    return False  # or a device would have rows without their prefix
  group = cached[2].shape[2] // prefixes
  return _rows_at_once(cached, group, queries, read) > 0


def attend_cached(
  q_RLNH, k_RLKH, v_RLKH, past: Past, layer, *, norm=None, interpret=False
):
  """Attention of a step's rows to prefixes, themselves and what is new.

  Args:
    q_RLNH, k_RLKH, v_RLKH: of the new positions, queries and keys not yet
      turned by their rotary angles; rows of one prefix are neighbours, and a
      row's new positions see each other.
    past: of `arrange`.
    layer: its number, an i32 scalar on the device.
    norm: (scales of the RMSNorm of queries and of keys, one array each, its
      eps); None = they come normalised, or there is none.
    interpret: runs it on any platform, slowly.

  Returns what is mixed [R, L, N, H], and the new keys turned. Pallas calls are
  not divided by the compiler: each device is given its heads, and its prefixes
  with all of their rows.
  """
  kv_heads, prefixes = past.cached[0].shape[1:3]
  head, row = shard.spec_for((kv_heads, prefixes), "kv_heads", "batch")
  held, own, new = jax.P(None, head, row), jax.P(row), jax.P(row, None, head)
  *scales, eps = norm or (None,)
  run = functools.partial(
    _attend, length=q_RLNH.shape[1], eps=eps, interpret=interpret
  )
  mixed, turned = jax.shard_map(
    run,
    in_specs=(
      jax.P(),
      *[new] * 3,
      *[own] * 2,
      *[held] * 4,
      *[own] * 2,
      *[jax.P()] * len(scales),
    ),
    out_specs=(new, new),
    check_vma=False,
  )(
    jnp.reshape(layer, 1),
    *(_by_prefix(x, prefixes) for x in (q_RLNH, k_RLKH, v_RLKH)),
    *past.turn,
    *past.cached,
    *past.unseen,
    *(x.astype(jnp.float32)[None] for x in scales),
  )
  return mixed.reshape(q_RLNH.shape), turned.reshape(k_RLKH.shape)


def _by_prefix(x, prefixes: int):
  """[P * G, L, ...] as [P, G * L, the rest], as a product has it."""
  return einops.rearrange(
    x.reshape(*x.shape[:2], -1), "(p g) l x -> p (g l) x", p=prefixes
  )


def _attend(layer, q_PLD, k_PLD, *given, length, eps, interpret):
  """The kernel on one device."""
  (v_PLD, *turn), cached, rest = given[:3], given[3:7], given[7:]
  unseen, scales = rest[:2], rest[2:]
  _, kv_heads, prefixes, width, prefix = cached[0].shape
  read, group = unseen[1].shape[-1], q_PLD.shape[1] // length
  heads = q_PLD.shape[2] // (kv_heads * width)
  rows = _rows_at_once(cached, group, heads * length, read)
  chunks = group // rows
  # A prefix's rows in chunks, on an axis of their own: a block may be any part
  # of that, but of the next whole registers alone.
  q, k, v, *turn = (
    x.reshape(prefixes * chunks, rows * length, -1)
    for x in (q_PLD, k_PLD, v_PLD, *turn)
  )

  # Where a program's blocks are; it has prefix p, head k and chunk c of rows.
  def of_new(p, k, c, _):
    return p * chunks + c, 0, k

  def of_turn(p, k, c, _):
    return p * chunks + c, 0, 0

  def of_prefix(p, k, c, layer):
    return layer[0], k, p, 0, 0

  def of_own(p, k, c, layer):
    return layer[0], k, p * chunks + c, 0, 0

  block, positions = pl.BlockSpec, rows * length
  asked = block((None, positions, heads * width), of_new)
  new = block((None, positions, width), of_new)
  angles = block((None, positions, width), of_turn)
  mixed, turned = pl.pallas_call(
    functools.partial(_kernel, length, eps),
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=1,
      grid=(prefixes, kv_heads, chunks),
      in_specs=[
        asked,
        new,
        new,
        angles,
        angles,
        block((None, None, None, width, prefix), of_prefix),
        block((None, None, None, prefix, width), of_prefix),
        block((None, None, rows, width, read), of_own),
        block((None, None, rows, read, width), of_own),
        block((None, 1, prefix), lambda p, k, c, _: (p, 0, 0)),
        block((rows, 1, read), of_turn),
        *[block((1, width), lambda *_: (0, 0))] * len(scales),
      ],
      out_specs=[asked, new],
      # In f32, of which a row's part may begin in any row of a register.
      scratch_shapes=[
        pltpu.VMEM((positions * heads, width), jnp.float32),
        pltpu.VMEM((positions, heads * width), jnp.float32),
      ],
    ),
    out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (q, k)],
    compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",) * 3),
    interpret=interpret,
  )(layer, q, k, v, *turn, *cached, *unseen, *scales)
  return mixed.reshape(q_PLD.shape), turned.reshape(k_PLD.shape)


def _kernel(
  length, eps, _, q, k, v, cos, sin, prefix_k, prefix_v, own_k, own_v,
  prefix_unseen, own_unseen, *rest,
):  # fmt: skip
  """One program: some rows of one prefix, and one head of keys.

  Softmaxes over parts are joined by their largest score and their sums.
  """
  *scales, out, turned, queries, mixture = rest
  scale_q, scale_k = scales or (None, None)
  rows, width, dtype = own_k.shape[0], k.shape[1], own_v.dtype
  heads, scale = q.shape[1] // width, width**-0.5
  f32 = jnp.float32
  dot = functools.partial(jax.lax.dot_general, preferred_element_type=f32)
  times, times_turned = (((1,), (0,)), ((), ())), (((1,), (1,)), ((), ()))
  highest = functools.partial(jnp.max, axis=-1, keepdims=True)
  summed = functools.partial(jnp.sum, axis=-1, keepdims=True)

  def turn(x, norm):  # and rounded, as it is kept
    x = x.astype(f32)
    if norm is not None:
      size = jnp.mean(x * x, axis=-1, keepdims=True)
      x = x * jax.lax.rsqrt(size + eps) * norm[...]
      x = x.astype(dtype).astype(f32)
    other = pltpu.roll(x, width // 2, axis=1)
    return (x * cos[...] + other * sin[...]).astype(dtype).astype(f32)

  new_k, new_v = turn(k[...], scale_k), v[...].astype(f32)
  turned[...] = new_k.astype(turned.dtype)
  # Along queries: row by row, in each head by head, in each the new ones.
  for head in range(heads):
    its = turn(q[:, head * width : (head + 1) * width], scale_q)
    for row in range(rows):
      at = (row * heads + head) * length
      queries[at : at + length] = its[row * length : (row + 1) * length]

  raw = dot(queries[...].astype(dtype), prefix_k[...], times) * scale
  raw += prefix_unseen[...]
  largest = highest(raw)
  weights = jnp.exp(raw - largest)
  sums = summed(weights)
  mixed = dot(weights.astype(dtype), prefix_v[...], times)
  for row in range(rows):
    here = slice(row * heads * length, (row + 1) * heads * length)
    news = slice(row * length, (row + 1) * length)
    mine = queries[here]
    held = dot(mine.astype(dtype), own_k[row], times) * scale
    held += own_unseen[row]
    if length == 1:  # Mosaic makes no product of it
      fresh = summed(mine * new_k[news]) * scale
    else:
      fresh = dot(mine.astype(dtype), new_k[news].astype(dtype), times_turned)
      fresh *= scale
    best = jnp.maximum(largest[here], highest(held))
    best = jnp.maximum(best, highest(fresh))
    of_prefix = jnp.exp(largest[here] - best)
    held, fresh = jnp.exp(held - best), jnp.exp(fresh - best)
    mass = sums[here] * of_prefix + summed(held) + summed(fresh)
    mix = mixed[here] * of_prefix + dot(held.astype(dtype), own_v[row], times)
    if length == 1:
      mix += fresh.astype(dtype).astype(f32) * new_v[news]
    else:
      mix += dot(fresh.astype(dtype), new_v[news].astype(dtype), times)
    mix /= mass
    for head in range(heads):
      its = mix[head * length : (head + 1) * length]
      mixture[news, head * width : (head + 1) * width] = its
  out[...] = mixture[...].astype(out.dtype)


def whole(read: int, positions: int) -> int:
  """So many positions that they are whole registers, or all."""
  return min(positions, -(-read // TILE) * TILE)


def _rows_at_once(cached, group: int, queries: int, read: int) -> int:
  """Rows of a prefix that one program takes; 0 where it has no room for any."""
  _, prefix_v, own_k, _ = cached
  width, size = prefix_v.shape[-1], prefix_v.dtype.itemsize
  shared, own = prefix_v.shape[-2], whole(read, own_k.shape[-1])
  for rows in range(min(group, ROWS_A_PROGRAM), 0, -1):
    asked = rows * queries
    # Keys and values, of this program and of the next; scores and weights;
    # queries and what they mix, as they come and go and in between.
    room = 4 * width * size * (shared + rows * own)
    room += 8 * (asked * shared + queries * own)
    room += asked * width * (8 + 4 * size)
    small = asked <= QUERIES_A_PROGRAM and room <= PROGRAM_ROOM
    if small and group % rows == 0:
      return rows
  return 0
