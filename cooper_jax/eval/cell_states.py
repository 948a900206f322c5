"""States of image cells by layer, and the depth of the objects in them.

What the image encoder and each layer of the decoder say of a cell, of images
alone: no question is asked and no map drawn.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.modalities import depth
from cooper_jax.models import masks, transformer, unified
from cooper_jax.sequences import packing, segments

IMAGES_AT_ONCE = 20
ENCODER = "encoder"
METRES = depth.__name__.rpartition(".")[2]  # the modality that has them


@dataclasses.dataclass(frozen=True)
class Cells:
  """Cells that hold objects: log metres [n], states [n, D] by layer."""

  states: dict
  log_depth: np.ndarray


def layers(form: segments.Format) -> list[str]:
  """Names of what is looked at: the encoder, then the decoder's layers."""
  count = form.model.layers
  return [ENCODER, *(f"decoder {i + 1}" for i in range(count))]


def of_samples(form: segments.Format, params, samples) -> Cells:
  """The cells of samples with depth, in which objects cover more than half.

  Where a sample does not say which pixels are objects, all are. Raises
  UserError where no cell is left.
  """
  model = _plain(form)
  shape = packing.Shape(length=form.model.locations, texts=1, codes=0)
  states, truth = [], []
  for start in range(0, len(samples), IMAGES_AT_ONCE):
    some = samples[start : start + IMAGES_AT_ONCE]
    documents = [
      segments.Document((segments.Image(each.image),)) for each in some
    ]
    batch = packing.pack(documents, form=form, shape=shape, rows=IMAGES_AT_ONCE)
    by_layer = np.asarray(_forward(model, params, batch))
    for b, sample in enumerate(some):
      which = segments.shape_of(form.model, sample.image)
      depth_J = object_depth(sample, form.model.vision.grids[which])
      here = np.flatnonzero(np.isfinite(depth_J))
      states.append(by_layer[:, b, here])
      truth.append(np.log(depth_J[here]))
  if not sum(map(len, truth)):
    raise UserError(
      "no object with a known depth in these samples; the regression is of"
      " depth at objects, so take a run on data with depth maps"
    )
  together = np.concatenate(states, axis=1).astype(np.float64)
  return Cells(
    dict(zip(layers(form), together, strict=True)), np.concatenate(truth)
  )


def object_depth(sample, grid: tuple[int, int]) -> np.ndarray:
  """Median metres [J] of the object pixels of each cell, NaN where too few.

  grid: (rows, columns) of the image's cells, over which its map is stretched.
  """
  metres, found = sample.maps.get(METRES), np.full(grid, np.nan)
  if metres is None:
    return found.ravel()
  inside = (metres > 0) & np.isfinite(metres)
  if sample.instances is not None:
    inside &= sample.instances > 0
  rows, columns = (
    -(-side * np.arange(count + 1) // count)  # the first pixel of each
    for side, count in zip(metres.shape, grid, strict=True)
  )
  for i, j in np.ndindex(grid):
    cell = slice(*rows[i : i + 2]), slice(*columns[j : j + 2])
    known = metres[cell][inside[cell]].astype(np.float64)
    if 2 * len(known) > inside[cell].size:
      found[i, j] = np.median(known)
  return found.ravel()


def _plain(form: segments.Format) -> unified.Unified:
  """The model without what only its training asks for."""
  config = dataclasses.replace(form.model, attention="xla", remat="none")
  return unified.Unified(config, form.vocabulary.text_rows)


@functools.partial(jax.jit, static_argnums=0)
def _forward(model: unified.Unified, params, batch):
  """States [layers + 1, B, J, D] of the cells of one image a row."""
  tokens, layout = packing.inputs(batch)
  pictures = packing.pictures(batch)
  features_BJD, deep = model.apply(params, pictures, method="see_deep")
  x_BLD = model.apply(
    params, tokens, features_BJD, sharded=False, method="embed"
  )
  shared = model.apply(params, tokens, method="shared")
  shared |= {"mask": masks.attention_mask(layout)}
  if deep is not None:
    shared["deep"] = unified.at_cells(deep, tokens)
  block = transformer.Block(model.config, "train", parent=None)

  def layer(x_BLD, of_layer):
    number, own = of_layer
    x_BLD, _ = block.apply({"params": own}, x_BLD, number, shared)
    return x_BLD, x_BLD

  blocks = params["params"]["decoder"]["blocks"]
  numbers = jnp.arange(model.config.layers)
  _, by_layer = jax.lax.scan(layer, x_BLD, (numbers, blocks))
  at = jnp.maximum(batch["image_at"], 0)[None, :, :, None]
  decoder = jnp.take_along_axis(by_layer, at, axis=2)
  states = jnp.concatenate([features_BJD[None], decoder])
  return states.astype("float32")
