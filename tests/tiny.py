"""A very small random model, format and documents, shared by many tests."""

import dataclasses
import functools

import flax.linen as nn
import jax
import numpy as np

from cooper_jax.models import unified
from cooper_jax.models.config import ModelConfig, VisionConfig
from cooper_jax.parallel import mesh
from cooper_jax.sequences import packing, segments
from cooper_jax.tokenizers.vocab import Vocabulary

TEXT = 40

# Models constrain their activations and refuse to run without a mesh.
jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1]))


def make_config(**changes) -> ModelConfig:
  vision = VisionConfig(
    image_size=16, patch=4, width=16, layers=1, heads=2, ffn=32, stem="linear"
  )
  config = ModelConfig(
    text=TEXT,
    codes=12,
    code_levels=(2, 3, 2),
    map_lookup=True,
    tied_head=True,
    smear=False,
    attention="xla",
    unroll=False,
    d_model=24,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    ffn=32,
    map_grid=4,
    vision=vision,
  )
  return dataclasses.replace(config, **changes)


def make_form(config: ModelConfig) -> segments.Format:
  vocabulary = Vocabulary(TEXT, config.locations, config.codes)
  calls = ((0, 7), (1, 9))  # words that call for a map
  return segments.Format(vocabulary, config, modality_ids=(0, 1), calls=calls)


def make(seed=0, **changes):
  """Returns (model, form, params) with every parameter random."""
  config = make_config(**changes)
  form = make_form(config)
  model = unified.Unified(config, form.vocabulary.text_rows)
  return model, form, random_params(model, form, seed)


def random_params(model, form, seed):
  """Initialises, then adds noise to all: no zero bias, no unit norm."""
  shape = packing.Shape(length=80, texts=8, codes=32)
  empty = packing.pack([], form=form, shape=shape, rows=1)
  tokens, layout = packing.inputs(empty)
  params = nn.unbox(
    _init(model)(
      jax.random.key(seed),
      tokens,
      layout,
      packing.pictures(empty),
      empty["image_at"],
    )
  )
  leaves, tree = jax.tree.flatten(params)
  rng = np.random.default_rng(seed)
  noisy = [
    np.asarray(x) + rng.normal(0, 0.1, x.shape).astype(np.float32)
    for x in leaves
  ]
  return jax.tree.unflatten(tree, noisy)


@functools.cache
def _init(model):
  """`model.init`, compiled once for all tests that make this model."""
  return jax.jit(
    functools.partial(model.init, method=unified.Unified.everything)
  )


def random_image(rng, form):
  """A square, or where pictures have several shapes any of them."""
  vision = form.model.vision
  shapes = ((vision.image_size, vision.image_size), *vision.shapes)
  sides = shapes[rng.integers(len(shapes))] if vision.shapes else shapes[0]
  return rng.integers(0, 256, (*sides, 3), dtype=np.uint8)


def random_text(rng, form, low=2, high=6, pointing=0.3, **options):
  """Text of words and of location tokens, these with chance `pointing`."""
  vocabulary = form.vocabulary
  ids = rng.integers(0, vocabulary.text, rng.integers(low, high))
  points = rng.random(len(ids)) < pointing
  cells = vocabulary.locations_start + rng.integers(
    0, vocabulary.locations, len(ids)
  )
  return segments.Text(np.where(points, cells, ids), **options)


def random_map(rng, form, slot, **options):
  codes = rng.integers(0, form.vocabulary.codes, form.model.map_codes)
  return segments.Map(slot, codes, **options)


def random_document(rng, form, branches=3):
  """An image, then branches of text, a map, text, perhaps another map."""
  made = []
  for _ in range(branches):
    branch = [random_text(rng, form), random_map(rng, form, 0)]
    branch.append(random_text(rng, form))
    if rng.random() < 0.5:
      branch += [random_map(rng, form, 1), random_text(rng, form)]
    made.append(tuple(branch))
  trunk = (
    random_text(rng, form, pointing=0, learn=False),
    segments.Image(random_image(rng, form)),
    random_text(rng, form),
  )
  return segments.Document(trunk, tuple(made))
