"""Optimisers move what they should, and splitting a batch changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cooper_jax.errors import UserError
from cooper_jax.parallel import shard
from cooper_jax.training import accumulate, optim, state
from cooper_jax.training.optim import OptimConfig

PARAMS = {
  "embedding": jnp.ones((10, 8)),
  "blocks": {
    "q": {"kernel": jnp.ones((3, 8, 16)), "bias": jnp.ones((3, 16))},
    "norm": {"scale": jnp.ones((3, 8))},
  },
  "connector": {"kernel": jnp.ones((6, 8))},
  "head": {"kernel": jnp.ones((8, 10))},
}
MATRICES = {"blocks/q/kernel", "connector/kernel"}


def named(tree):
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {shard.path_name(path): leaf for path, leaf in leaves}


def test_only_matrices_decay():
  marked = named(optim.decay_mask(PARAMS))
  assert {name for name, decays in marked.items() if decays} == MATRICES


@pytest.mark.parametrize(
  "path, ndim, expected",
  [
    ("blocks/q/kernel", 3, ((1,), (2,))),  # [layers, in, out]
    ("connector/kernel", 2, ((0,), (1,))),
    ("conv/kernel", 4, ((0, 1, 2), (3,))),  # [rows, columns, in, out]
    ("q/kernel", 3, ((0,), (1, 2))),  # [in, heads, head]
    ("out/kernel", 3, ((0, 1), (2,))),  # [heads, head, out]
    ("blocks/norm/scale", 2, None),  # stacked vectors are no matrix
    ("map_query", 2, None),
    ("head/kernel", 2, None),
  ],
)
def test_matrix_axes(path, ndim, expected):
  found = optim.matrix_dimensions(path, ndim)
  assert (found and tuple(found)) == expected


def test_muon_gives_each_layer_of_a_stack_its_own_orthogonal_update():
  optimizer = optim.make_optimizer(
    OptimConfig(
      name="muon",
      learning_rate=1.0,
      schedule="constant",
      warmup_steps=0,
      clip_norm=0.0,
    ),
    steps=10,
  )
  params = {"blocks": {"q": {"kernel": jnp.zeros((2, 8, 8))}}}
  grads = {
    "blocks": {
      "q": {
        "kernel": jax.random.normal(jax.random.key(0), (2, 8, 8))
        * jnp.array([1.0, 100.0])[:, None, None]
      }
    }
  }
  updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(params), params)
  singular = jnp.linalg.svd(updates["blocks"]["q"]["kernel"])[1]
  # Newton-Schulz with Muon's coefficients ends between 0.7 and 1.2, whatever
  # the scale of the gradient; an update of the whole stack would differ 100x.
  assert float(singular.max()) < 1.3
  assert float(jnp.median(singular)) > 0.6


def test_muon_uses_its_own_rate_for_everything_else():
  config = OptimConfig(
    name="muon",
    learning_rate=0.0,
    adam_learning_rate=0.1,
    warmup_steps=0,
    schedule="constant",
    clip_norm=0.0,
  )
  optimizer = optim.make_optimizer(config, steps=10)
  grads = jax.tree.map(jnp.ones_like, PARAMS)
  updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(PARAMS), PARAMS)
  moved = {n for n, u in named(updates).items() if float(abs(u).max()) > 0}
  assert moved == set(named(PARAMS)) - MATRICES


def test_schedule_warms_up_then_falls_to_the_final_fraction():
  config = OptimConfig(
    learning_rate=2.0,
    schedule="linear",
    warmup_steps=4,
    decay_start=0.5,
    final_fraction=0.1,
  )
  rate = optim.schedule(config, steps=20)
  # (step + 1) / 4 of the peak; flat until 10; halfway down at 15: 2 * 0.55.
  values = [float(rate(step)) for step in (0, 1, 3, 9, 15, 20)]
  np.testing.assert_allclose(values, [0.5, 1.0, 2.0, 2.0, 1.1, 0.2], rtol=1e-6)
  cosine = optim.schedule(
    OptimConfig(learning_rate=1.0, warmup_steps=0, final_fraction=0.0),
    steps=10,
  )
  np.testing.assert_allclose(float(cosine(5)), 0.5, atol=1e-6)


def test_clipping_bounds_the_gradient_that_the_optimiser_sees():
  optimizer = optim.make_optimizer(OptimConfig(clip_norm=1.0), steps=10)
  params = {"w": jnp.zeros(4)}
  clip_state = optimizer.init(params)
  grads = {"w": jnp.full(4, 50.0)}
  _, after = optimizer.update(grads, clip_state, params)
  first = optax.tree_utils.tree_get(after, "mu")["w"]
  # Norm 100 is scaled to 1, 0.5 per entry; the first moment takes 1 - beta1.
  np.testing.assert_allclose(first, 0.5 * 0.1, rtol=1e-5)


def make_state(**fields):
  config = OptimConfig(learning_rate=0.1, warmup_steps=0, **fields)
  optimizer = optim.make_optimizer(config, steps=10)
  return optimizer, state.create(
    PARAMS, optimizer, key=jax.random.key(0), ema=config.ema_decay > 0
  )


def take_step(before, grads, optimizer, ema_decay):
  return jax.jit(
    lambda now, grads: optim.apply_gradients(
      now, grads, optimizer=optimizer, ema_decay=ema_decay
    )
  )(before, grads)


def test_a_gradient_that_is_not_finite_leaves_the_state_alone():
  optimizer, before = make_state(ema_decay=0.9)
  grads = jax.tree.map(jnp.ones_like, PARAMS)
  grads["connector"]["kernel"] = (
    grads["connector"]["kernel"].at[0, 0].set(jnp.nan)
  )
  after, metrics = take_step(before, grads, optimizer, 0.9)
  assert float(metrics["skipped"]) == 1.0
  assert float(metrics["update_norm"]) == 0.0
  assert int(after.step) == 1
  for name in ("params", "opt_state", "ema"):
    jax.tree.map(
      np.testing.assert_array_equal, getattr(before, name), getattr(after, name)
    )


def test_ema_follows_the_parameters():
  optimizer, before = make_state(ema_decay=0.75)
  grads = jax.tree.map(jnp.ones_like, PARAMS)
  after, metrics = take_step(before, grads, optimizer, 0.75)
  assert float(metrics["skipped"]) == 0.0
  # 0.75 * old + 0.25 * new, by hand.
  jax.tree.map(
    lambda ema, old, new: np.testing.assert_allclose(
      ema, 0.75 * old + 0.25 * new, rtol=1e-6
    ),
    after.ema,
    before.params,
    after.params,
  )


@pytest.mark.parametrize(
  "field, value, said",
  [
    ("name", "mun", 'did you mean "muon"'),
    ("schedule", "cosin", 'did you mean "cosine"'),
    ("micro_batches", 0, "allowed: 1 and more"),
    ("decay_start", 1.5, "allowed: 0 to 1"),
    ("ema_decay", 1.0, "below 1"),
  ],
)
def test_wrong_settings_are_refused(field, value, said):
  with pytest.raises(UserError, match=said):
    OptimConfig(**{field: value})


def token_losses(params, batch):
  """Two losses with weights that differ from row to row."""
  predicted = batch["x"] @ params["w"]
  error = (predicted - batch["y"]) ** 2
  losses = {
    "text": ((error * batch["mask"]).sum(), batch["mask"].sum()),
    "code": ((jnp.abs(predicted) * batch["code"]).sum(), batch["code"].sum()),
  }
  return losses, {"error": (error.sum(), jnp.float32(error.size))}


def make_batch():
  keys = jax.random.split(jax.random.key(1), 4)
  return {
    "x": jax.random.normal(keys[0], (8, 5)),
    "y": jax.random.normal(keys[1], (8,)),
    # Very uneven, so that a mean of per-piece means would be far off.
    "mask": jnp.array([1.0, 0, 0, 0, 1, 1, 1, 1]),
    "code": jnp.array([5.0, 0, 0, 1, 0, 0, 0, 1]),
  }


@pytest.mark.parametrize("pieces", [2, 4])
def test_gradients_do_not_depend_on_the_pieces(pieces):
  params, batch = {"w": jnp.arange(5.0)}, make_batch()

  def run(micro_batches):
    return jax.jit(
      lambda p, b: accumulate.accumulate(
        token_losses,
        p,
        b,
        micro_batches=micro_batches,
        coefficients={"code": 0.3},
      )
    )(params, batch)

  whole, split = run(1), run(pieces)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    whole,
    split,
  )
  # The control: averaging the pieces' own means gives another gradient.
  rows = [
    jax.tree.map(lambda v, i=i: v[i::pieces], batch) for i in range(pieces)
  ]
  means = [
    accumulate.accumulate(
      token_losses, params, row, coefficients={"code": 0.3}
    )[0]["w"]
    for row in rows
  ]
  assert float(abs(sum(means) / pieces - whole[0]["w"]).max()) > 1e-2


def test_gradient_is_that_of_the_weighted_sum():
  params, batch = {"w": jnp.arange(5.0)}, make_batch()

  def by_hand(params):
    losses, _ = token_losses(params, batch)
    text, code = losses["text"], losses["code"]
    return text[0] / text[1] + 0.3 * code[0] / code[1]

  grads, losses, metrics = accumulate.accumulate(
    token_losses, params, batch, coefficients={"code": 0.3}
  )
  np.testing.assert_allclose(
    grads["w"], jax.grad(by_hand)(params)["w"], rtol=1e-5
  )
  assert float(losses["text"][1]) == 5.0
  assert float(metrics["error"][1]) == 8.0


def test_a_batch_that_does_not_divide_is_refused():
  with pytest.raises(UserError, match=r"batch of 8 .* 3 pieces"):
    accumulate.accumulate(
      token_losses, {"w": jnp.ones(5)}, make_batch(), micro_batches=3
    )
