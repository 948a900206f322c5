"""Log-probabilities of a packed batch's targets, and next-token losses.

`score` runs the model once over packed rows and returns the log-probability of
every target; pretraining, SFT and GRPO differ only in what they do with it.
Losses are (sum, weight) pairs, divided once per optimiser step, so that no
result depends on how a batch was divided into micro-batches.
"""

import jax
import jax.numpy as jnp
from flax import struct

from cooper_jax.models import unified
from cooper_jax.models.config import BinLayout
from cooper_jax.parallel import shard
from cooper_jax.parallel.shard import constrain
from cooper_jax.sequences import distribution, packing, truncation
from cooper_jax.sequences.segments import Format

CHUNK = 256  # scored positions whose logits are in memory at once, per row


@struct.dataclass
class TokenScores:
  """What the model gives each target, f32 [B, X] of text and of codes."""

  text_log_prob: jax.Array  # [B, X] natural logarithm
  text_entropy: jax.Array  # [B, X] nats, without a gradient
  text_lse: jax.Array  # [B, X] logsumexp of the logits
  text_hit: jax.Array  # [B, X] 1 where no token is likelier, else 0
  code_log_prob: jax.Array  # [B, X]
  code_entropy: jax.Array  # [B, X]
  code_lse: jax.Array  # [B, X]
  code_hit: jax.Array  # [B, X]


def score(
  model: unified.Unified,
  params,
  batch,
  *,
  form: Format,
  sampled: bool,
  bins: BinLayout | None = None,
  text_temperature=1.0,
  code_temperature=1.0,
  kept=None,
) -> TokenScores:
  """Scores [B, X] every target of packed rows as the sampler would draw it.

  `sampled` says whether the targets were drawn by the sampler, whose calls for
  maps that may not be opened are barred (`distribution.restrict`), or are text
  to be learned; `bins` is how the rows are laid out, None if free. Both are
  static. kept: of how many of the likeliest each target of text and of codes
  was drawn, a pair of i32 [B, X]; None, of both or of one, where of all.

  Logits exist for the scored positions only. Up to `kept_logits_mib` of them
  are kept for the backward pass; more are made CHUNK positions at a time, and
  made again there.
  """
  tokens, layout = packing.inputs(batch)
  pictures = packing.pictures(batch)
  hidden, _, _ = model.apply(params, tokens, layout, pictures, bins=bins)
  keys = model.apply(
    params, hidden, batch["image_at"], method=unified.Unified.cell_keys
  )
  exists = batch["image_at"] >= 0

  def text(at, target, cell, allowed_maps, *left):
    after = jnp.take_along_axis(batch["ids"], at, axis=1)
    words, cells = model.apply(
      params,
      _gather(hidden, at),
      keys,
      cell,
      exists,
      sharded=True,
      method=unified.Unified.text_parts,
    )
    words = distribution.scale(words, text_temperature)
    words = distribution.restrict(
      words, allowed_maps, form, after, sampled=sampled
    )
    cells = distribution.scale(cells, text_temperature)
    return _judge((words, cells), target, *left)

  def code(at, target, *left):
    logits = model.apply(
      params, _gather(hidden, at), method=unified.Unified.code_logits
    )
    scaled = distribution.scale(logits, code_temperature)
    return _judge((scaled,), target, *left)

  left = [() if each is None else (each,) for each in kept or (None, None)]
  keep = logits_mib(model, batch) <= model.config.kept_logits_mib
  text_scores = _chunked(
    text,
    batch["text_at"],
    batch["text_target"],
    batch["text_cell"],
    batch["text_allowed_maps"],
    *left[0],
    keep=keep,
  )
  code_scores = _chunked(
    code, batch["code_at"], batch["code_target"], *left[1], keep=keep
  )
  return TokenScores(*text_scores, *code_scores)


def _gather(hidden_BLD, at_BX):
  return jnp.take_along_axis(hidden_BLD, at_BX[..., None], axis=1)


def _judge(parts, target_BX, kept_BX=None):
  """Fields of TokenScores, of targets under logits that come in parts.

  kept_BX: of how many of the likeliest they were drawn, None = of all.
  """
  if kept_BX is None:
    lse, picked = distribution.judge(parts, target_BX)
  else:
    # The target's own logit stays: by rounding it may be the next one here.
    picked = distribution.pick(parts, target_BX)
    parts = truncation.keep(parts, kept_BX)
    lse = distribution.judge(parts, target_BX)[0]
  entropy = distribution.entropy(*jax.lax.stop_gradient((parts, lse)))
  hit = picked >= distribution.highest(parts)
  found = (picked - lse, entropy, lse, hit.astype(jnp.float32))
  return tuple(constrain(each, "batch", None) for each in found)


def logits_mib(model: unified.Unified, batch) -> float:
  """MiB of a batch's logits [B, X, V] and [B, X, C] that one device has."""
  words = model.text_rows - model.config.locations
  sizes = (
    shard.local_size((*batch[at].shape, rows), *axes)
    for at, rows, axes in (
      ("text_at", words, ("copies", None, "logits")),
      ("text_at", model.config.locations, ("batch", None, None)),
      ("code_at", model.config.codes, ("batch", None, None)),
    )
  )
  return 4 * sum(sizes) / 2**20


def _chunked(fn, *arrays, keep: bool):
  """Applies fn to [B, X] arrays: at once, or in chunks of CHUNK columns.

  keep: whether the backward pass finds what fn makes, else it is made again.
  """
  count = arrays[0].shape[1]
  if keep:
    return fn(*arrays)
  if count <= CHUNK:
    return jax.checkpoint(fn)(*arrays)
  padding = -count % CHUNK
  padded = [jnp.pad(a, ((0, 0), (0, padding))) for a in arrays]
  chunks = [
    jnp.moveaxis(a.reshape(a.shape[0], -1, CHUNK), 1, 0) for a in padded
  ]
  out = jax.lax.map(lambda xs: jax.checkpoint(fn)(*xs), chunks)
  return tuple(
    jnp.moveaxis(o, 0, 1).reshape(o.shape[1], -1)[:, :count] for o in out
  )


def next_token(scores: TokenScores, batch, *, form: Format, z_weight):
  """Losses and metrics of packed rows, as (sum, weight) pairs of numbers.

  scores, and of the batch text_weight, code_weight and code_modality: [B, X].
  Losses are named "text" and "map<MODALITY_ID>": cross-entropy, plus z_weight *
  logsumexp^2, of the text targets and of each modality's codes.
  """
  pairs, metrics = {}, {}
  parts = {"text": ("text", batch["text_weight"])}
  for modality_id in form.modality_ids:
    here = jnp.where(
      batch["code_modality"] == modality_id, batch["code_weight"], 0.0
    )
    parts[f"map{modality_id}"] = ("code", here)
  for name, (kind, weight) in parts.items():
    nll = -getattr(scores, f"{kind}_log_prob")
    z = getattr(scores, f"{kind}_lse") ** 2
    hit = getattr(scores, f"{kind}_hit")
    total = jnp.sum(weight)
    each = jnp.where(weight > 0, weight * (nll + z_weight * z), 0.0)
    pairs[name] = (jnp.sum(each), total)
    metrics[f"accuracy/{name}"] = (jnp.sum(weight * hit), total)
  return pairs, metrics
