"""The decoder of an import on text alone: logits, and hidden states by layer.

It is the model itself with all that is our own turned off; the arrays that text
does not read (vision, maps) are zeros.
"""

import operator

import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax.models import layers, masks, transformer, unified
from cooper_jax.models.config import ModelConfig, VisionConfig
from cooper_jax.models.token_kinds import TEXT
from cooper_jax.parallel import shard
from cooper_jax.tokenizers.vocab import Vocabulary
from cooper_jax.training.manifest import flatten

# The smallest that there can be: text never looks at it.
NO_VISION = VisionConfig(
  image_size=1, patch=1, width=1, layers=0, heads=1, ffn=1, stem="linear"
)


def check(sizes: dict) -> None:
  """Raises UserError where sizes of a folder don't go together."""
  if "text" in sizes:
    make_config(sizes)
  elif "vision" in sizes:
    VisionConfig(**sizes["vision"])


def make_config(sizes: dict) -> ModelConfig:
  """The model of a family, its sizes being fields of `ModelConfig`."""
  sizes = dict(sizes)
  vision = sizes.pop("vision", None)
  return ModelConfig(
    **sizes,
    codes=1,
    vision=VisionConfig(**vision) if vision else NO_VISION,
    attention="xla",
    unroll=False,
    map_grid=1,
    pointer=False,
    map_lookup=False,
    aligned_queries=False,
    code_digits=False,
    smear=False,
  )


def make_model(config: ModelConfig) -> unified.Unified:
  """The module, with rows of our own behind the folder's."""
  rows = Vocabulary(config.text, config.locations, config.codes)
  return unified.Unified(config, rows.text_rows)


def inputs(ids_BL: np.ndarray, config: ModelConfig):
  """(tokens, layout, blank images u8 [B, 1, 1, 1, 3]) of rows of plain text."""
  shape = ids_BL.shape
  at = np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape)
  none = np.full(shape, -1, np.int32)
  tokens = unified.Tokens(
    ids=jnp.asarray(ids_BL, jnp.int32),
    kind=np.full(shape, TEXT, np.int32),
    row=at,
    column=at,
    time=at,
    cell=none,
    query=none,
    opening=np.zeros(shape, np.int32),
    previous=none,
    read=np.full((*shape, config.max_maps, 2), -1, np.int32),
  )
  ones = np.ones(shape, np.int32)
  layout = masks.RowLayout(document=ones, branch=ones * 0, order=at)
  side = config.vision.image_size
  return tokens, layout, np.zeros((shape[0], 1, side, side, 3), np.uint8)


def shapes(model: unified.Unified) -> dict:
  """Shape and dtype of every leaf of a model, by path."""
  return flatten(_abstract(model))


def _abstract(model: unified.Unified):
  tokens, layout, images = inputs(np.zeros((1, 2), np.int32), model.config)
  at = np.zeros((1, model.config.locations), np.int32)

  def init():
    key = jax.random.key(0)
    method = unified.Unified.everything
    return model.init(key, tokens, layout, images, at, method=method)

  return shard.unbox(jax.eval_shape(init))


def placed(params, leaves: dict[str, np.ndarray]):
  """A model's tree with the leaves of an import, by path, in its dtype.

  Of a table [rows, D] the leaf's rows are the first, the others stay.
  """
  found = []
  for path, array in flatten(params).items():
    if path in leaves:
      own = jnp.asarray(leaves[path], array.dtype)
      array = jnp.concatenate([own, array[len(own) :]])
    found.append(array)
  return jax.tree.unflatten(jax.tree.structure(params), found)


def fill(model: unified.Unified, leaves: dict[str, np.ndarray]):
  """The tree of a model in float32: leaves by path, the others zeros."""
  zeros = jax.tree.map(
    lambda leaf: np.zeros(leaf.shape, np.float32), _abstract(model)
  )
  return placed(zeros, leaves)


def run(model: unified.Unified, params, ids_BL: np.ndarray):
  """(logits [B, L, V] of the folder's tokens, hidden [layers + 1, B, L, D]).

  hidden: the embedding, and what each layer gives, the last behind the final
  norm. V: config.text.
  """
  with jax.default_matmul_precision("highest"):
    return _run(model, params, ids_BL)


def _run(model, params, ids_BL):
  config = model.config
  tokens, layout, images = inputs(ids_BL, config)
  features = jnp.zeros((len(ids_BL), config.locations, config.d_model))
  call = lambda name, *given, **options: model.apply(  # noqa: E731
    params, *given, method=name, **options
  )
  x = call("embed", tokens, features, sharded=False)
  shared = call("shared", tokens) | {"mask": masks.attention_mask(layout)}
  decoder = params["params"]["decoder"]
  block = transformer.Block(config, "train", parent=None)
  hidden = [x]
  for layer in range(config.layers):
    own = jax.tree.map(operator.itemgetter(layer), decoder["blocks"])
    x, _ = block.apply({"params": own}, x, None, shared)
    hidden.append(x)
  norm = layers.RMSNorm(config.norm_eps, parent=None)
  hidden[-1] = norm.apply({"params": decoder["norm_final"]["main"]}, x)
  # The logits are of the whole model's own forward pass.
  last, _, _ = call("__call__", tokens, layout, images)
  keys = call("cell_keys", last, jnp.zeros((len(ids_BL), 1), jnp.int32))
  start, exists = jnp.zeros_like(tokens.ids), jnp.ones(keys.shape[:2], bool)
  logits = call("text_logits", last, keys, start, exists)
  return np.asarray(logits[..., : config.text]), np.stack(hidden)


def logits(model: unified.Unified, hidden_BLD):
  """Logits [B, L, V] of the folder's tokens; a method of the model."""
  shape = hidden_BLD.shape[:2]
  keys = jnp.zeros((shape[0], 1, model.config.d_model))
  start, exists = jnp.zeros(shape, jnp.int32), jnp.ones((shape[0], 1), bool)
  found = model.text_logits(hidden_BLD, keys, start, exists)
  return found[..., : model.config.text]
