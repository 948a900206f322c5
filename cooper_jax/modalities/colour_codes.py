"""Maps as pictures in colours, for image tokenizers of others; in [-1, 1].

These were trained on photographs and take three channels. A number is grey; a
class is one of the 27 colours whose channels are low, middle or high, which
are as far apart as so many can be.
"""

import itertools

import jax.numpy as jnp
import numpy as np

from cooper_jax.errors import UserError

LEVELS = (-1, 0, 1)  # of a channel
MOST_CLASSES = len(LEVELS) ** 3


def grey(values_BHW):
  """Numbers in [-1, 1] as pictures [B, H, W, 3]: three channels alike."""
  return jnp.repeat(values_BHW[..., None], 3, axis=-1)


def from_grey(pictures_BHWC):
  """The numbers [B, H, W] of pictures: the mean of their channels."""
  return jnp.mean(pictures_BHWC, axis=-1)


def colours(classes: int) -> np.ndarray:
  """A colour of each class, f32 [n, 3]: corners of the cube before the rest.

  Raises UserError where there are more classes than colours.
  """
  if classes > MOST_CLASSES:
    raise UserError(
      f"there are {classes} classes, and pictures tell {MOST_CLASSES} colours"
      " apart; leave it out, and a tokenizer of classes is trained here"
    )
  every = itertools.product(LEVELS, repeat=3)
  chosen = sorted(every, key=lambda colour: colour.count(0))
  return np.array(chosen[:classes], np.float32)


def of_ids(ids_BHW, classes: int):
  """Class ids as pictures [B, H, W, 3]; what is no class is in the middle."""
  table = np.concatenate([colours(classes), np.zeros((1, 3), np.float32)])
  return jnp.asarray(table)[jnp.minimum(ids_BHW.astype(jnp.int32), classes)]


def nearest(pictures_BHWC, classes: int):
  """The class i32 [B, H, W] whose colour is nearest to each pixel's."""
  apart = pictures_BHWC[..., None, :] - colours(classes)
  return jnp.argmin(jnp.sum(apart**2, axis=-1), axis=-1)
