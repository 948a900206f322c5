"""The map tokenizer: shapes, consistency, learning, bad settings."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cooper_jax.errors import UserError
from cooper_jax.modalities import depth, segmentation
from cooper_jax.tokenizers import map_tokenizer
from cooper_jax.training import optim

SMALL = dict(image_size=16, grid=4, width=16, blocks=1, fine_width=8)


def make(modality, **changes):
  config = map_tokenizer.MapTokenizerConfig(
    channels=modality.CHANNELS,
    outputs=modality.OUTPUTS,
    **{**SMALL, **changes},
  )
  model = map_tokenizer.MapTokenizer(config)
  shape = (1, config.image_size, config.image_size, config.channels)
  params = jax.jit(model.init)(jax.random.key(0), jnp.zeros(shape))["params"]
  return map_tokenizer.Codec(modality, config, params)


def depth_maps(count, seed=0, size=16):
  """A slanted floor with a nearer disc at a random place."""
  rng = np.random.default_rng(seed)
  rows, columns = np.mgrid[:size, :size]
  far = rng.uniform(4, 8, (count, 1, 1))
  maps = far * (1.2 - rows / size)
  centre = rng.uniform(3, size - 3, (2, count, 1, 1))
  disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 9
  near = rng.uniform(0.8, 2, (count, 1, 1))
  return np.where(disc, near, maps).astype(np.float32)


def class_maps(count, seed=0, size=16):
  return np.where(depth_maps(count, seed, size) < 2.1, 5, 1).astype(np.uint8)


@pytest.mark.parametrize("quantizer", ["fsq", "vq_ema"])
def test_decoding_the_codes_gives_what_training_saw(quantizer):
  codec = make(depth, quantizer=quantizer)
  x = depth.to_input(depth_maps(3))
  model = map_tokenizer.MapTokenizer(codec.config)
  variables = {"params": codec.params}
  outputs, codes, aux = jax.jit(model.apply)(variables, x)
  assert outputs.shape == (3, 16, 16, depth.OUTPUTS)
  assert codes.shape == (3, 16)
  assert codes.dtype == jnp.int32
  assert codes.min() >= 0 and codes.max() < codec.config.codes == 1000
  assert aux["penalty"] > 0
  apply = jax.jit(model.apply, static_argnames="method")
  encoded = apply(variables, x, method="encode")
  np.testing.assert_array_equal(encoded, codes)
  decoded = apply(variables, codes, method="decode")
  np.testing.assert_allclose(decoded, outputs, atol=1e-5)


def test_following_moves_the_code_book_alone():
  codec = make(depth, quantizer="vq_ema")
  model = map_tokenizer.MapTokenizer(codec.config)
  _, _, aux = jax.jit(model.apply)(
    {"params": codec.params}, depth.to_input(depth_maps(2))
  )
  after = map_tokenizer.follow(
    codec.params, aux["assigned"], key=jax.random.key(0)
  )
  assert after.keys() == codec.params.keys()
  for name, leaf in after.items():
    same = jax.tree.all(jax.tree.map(np.array_equal, leaf, codec.params[name]))
    assert same == (not name.startswith("codebook")), name


def test_codes_lie_row_by_row():
  codec = make(depth)
  target = depth_maps(1)
  changed = target.copy()
  changed[:, :4, 12:] = 0.3  # the upper right cell: row 0, column 3
  before = map_tokenizer.encode_maps(codec, target)
  after = map_tokenizer.encode_maps(codec, changed)
  # Convolutions reach the neighbours; the opposite corner must not notice.
  assert before[0, 3] != after[0, 3]
  assert before[0, 12] == after[0, 12]


def test_helpers_work_in_batches_of_any_size():
  codec = make(segmentation)
  targets = class_maps(70)
  drawn, codes = map_tokenizer.redraw_maps(codec, targets)
  assert drawn.shape == targets.shape and drawn.dtype == np.uint8
  assert codes.shape == (70, 16) and codes.dtype == np.int32
  one = map_tokenizer.encode_maps(codec, targets[66:67])
  np.testing.assert_array_equal(one[0], codes[66])


def train(codec, make_maps, steps):
  """Fits the codec; returns it with its parameters after `steps`."""
  modality = codec.modality
  model = map_tokenizer.MapTokenizer(codec.config)
  optimizer = optim.make_optimizer(
    optim.OptimConfig(
      name="muon", learning_rate=2e-2, adam_learning_rate=5e-3, warmup_steps=5
    ),
    steps=steps,
  )

  @jax.jit
  def step(params, opt_state, target):
    def loss(params):
      outputs, _, aux = model.apply(
        {"params": params}, modality.to_input(target)
      )
      total, weight = modality.loss(outputs, target)
      return total / weight + aux["penalty"]

    grads = jax.grad(loss)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    return params, opt_state

  params, opt_state = codec.params, optimizer.init(codec.params)
  for index in range(steps):
    params, opt_state = step(params, opt_state, make_maps(16, seed=index + 1))
  return map_tokenizer.Codec(modality, codec.config, params)


@pytest.mark.ci
def test_learns_depth_with_many_codes():
  test = depth_maps(64, seed=999)

  def error(codec):
    drawn, codes = map_tokenizer.redraw_maps(codec, test)
    found = depth.metrics(depth.statistics(drawn, test))
    return found["abs_rel"], len(np.unique(codes))

  codec = make(depth)
  before, _ = error(codec)
  after, used = error(train(codec, depth_maps, 120))
  constant = depth.constant(depth_maps(256))
  baseline = depth.metrics(
    depth.statistics(np.broadcast_to(constant, test.shape), test)
  )["abs_rel"]
  assert after < 0.5 * baseline < before
  assert used > 50


def test_learns_classes():
  test = class_maps(64, seed=999)
  codec = train(make(segmentation), class_maps, 100)
  drawn, _ = map_tokenizer.redraw_maps(codec, test)
  found = segmentation.metrics(segmentation.statistics(drawn, test))
  assert found["iou/ball"] > 0.8


def test_flops_count_every_product():
  codec = make(segmentation, blocks=0, fine_blocks=0)
  # 64 fine cells of 2 x 2 pixels and 14 classes, 8 wide; 16 coarse ones, 16
  # wide, with two 3 x 3 convolutions in the encoder and 4 code coordinates.
  fine = 64 * (56 * 8 + 8 * 56)
  coarse = 16 * (32 * 16 + 2 * 9 * 16 * 16 + 16 * 4 + 4 * 16 + 16 * 32)
  assert map_tokenizer.flops(codec.params, codec.config) == 6 * (fine + coarse)


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"image_size": 20}, "image_size 20 does not divide"),
    ({"quantizer": "vq"}, "quantizer is 'vq'.*fsq, vq_ema"),
    ({"levels": (8, 1)}, "each level needs 2"),
  ],
)
def test_bad_settings_are_said_in_one_line(changes, said):
  with pytest.raises(UserError, match=said):
    make(depth, **changes)


def test_a_map_of_another_size_is_refused():
  with pytest.raises(UserError, match="map is 8x8, tokenizer expects 16x16"):
    map_tokenizer.encode_maps(make(depth), depth_maps(1, size=8))
