"""Jitted programs of a run, traced with their arguments' shapes and shardings.

The functions are those that the stages run; no array is made, so a slice that
is not here will do.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from cooper_jax import plugins
from cooper_jax.parallel import shard
from cooper_jax.plan import decode
from cooper_jax.policy import (
  abstract_frozen,
  abstract_params,
  abstract_state,
  adaptation_of,
  make_policy,
  sampling_params,
)
from cooper_jax.rl import losses
from cooper_jax.rl.build import (
  build_update,
  optimiser_steps,
  truncated_kinds,
  truncations_of,
)
from cooper_jax.rl.targets import TokenTargets
from cooper_jax.rollouts import documents
from cooper_jax.sampling import grammar, sampler
from cooper_jax.sampling.prompts import make
from cooper_jax.sampling.state import prefill
from cooper_jax.sequences import packing, segments
from cooper_jax.stages import supervised
from cooper_jax.training import optim


class Program(NamedTuple):
  """A jitted function with the shapes of its arguments."""

  trace: Callable  # () -> jax.stages.Traced
  flops: float  # of one call, on all devices, by formula
  traffic: float  # bytes that all devices must read or write at least
  state: int  # bytes of parameters and optimiser in it, on all devices
  params: dict  # abstract parameters, by path
  step: decode.StepReads | None = None  # of text, where tokens are drawn
  layers: int = 0  # of the decoder, where there is such a step


def of(config) -> dict[str, Callable[[], Program]]:
  """Programs of the stages of `config.pipeline`: name -> makes the Program."""
  made = {
    stage: functools.partial(_supervised, config, stage)
    for stage in ("pretrain", "sft")
    if stage in config.pipeline
  }
  if "grpo" in config.pipeline:
    made |= {
      "gradients": functools.partial(_gradients, config),
      "apply": functools.partial(_apply, config),
      "prefill": functools.partial(_sample, config, whole=False),
      "decode": functools.partial(_sample, config, whole=True),
    }
  return made


def _supervised(config, stage: str) -> Program:
  """One step of pretraining or of SFT."""
  settings, policy = config[stage], make_policy(config, platform="tpu")
  optimizer = _optimizer(settings, settings.steps)
  adaptation = adaptation_of(policy, config, stage)
  state = abstract_state(
    policy, optimizer, adaptation, ema=settings.optim.ema_decay > 0
  )
  frozen = abstract_frozen(policy, adaptation)
  whole = state.params if frozen is None else frozen.base
  shape = plugins.find("stages", stage).row_shape(config, policy)
  batch = _packed(policy, shape, settings.batch)
  batch["left_out"] = _rows(settings.batch, np.int32)
  step = supervised.jit_step(policy, optimizer, settings, shape, adaptation)
  given = state.params, policy, settings.batch, shape, frozen
  traffic = settings.optim.micro_batches * _backward(policy, whole)
  traffic += _step(state.params)
  return _program(
    lambda: step.trace(state, batch, frozen),
    supervised.flops(*given),
    traffic,
    (state, frozen),
    whole,
  )


def _gradients(config) -> Program:
  """Gradients of one piece of a step's rollouts."""
  policy, _, update = _update(config)
  adaptation = adaptation_of(policy, config, "grpo")
  params = abstract_params(policy, adaptation=adaptation)
  frozen = abstract_frozen(policy, adaptation)
  whole = params if frozen is None else frozen.base
  limits, rows = policy.limits, config.grpo.batch * config.grpo.rl.group_size
  rows //= config.grpo.rl.minibatches
  shape = documents.row_shape(
    policy.form,
    limits,
    trunk=max(config.sampling.prompt_buckets),
    bins=config.grpo.bins,
  )
  packed = _packed(policy, shape, config.grpo.rows)
  of_tokens = functools.partial(_rows, rows)
  positions = limits.positions(policy.form)
  targets = TokenTargets(
    log_prob_RT=of_tokens(np.float32, positions),
    advantage_RT=of_tokens(np.float32, positions),
    text_RT=of_tokens(np.bool_, positions),
    code_RT=of_tokens(np.bool_, positions),
    kept_RT=of_tokens(np.int32, positions) if truncated(config) else None,
  )
  penalised = losses.needs_reference(config.grpo.rl)
  trace = lambda: update.gradients.trace(  # noqa: E731
    params,
    packed,
    targets,
    of_tokens(np.bool_),
    jax.eval_shape(update.normalisers, targets),
    whole if penalised else None,
    frozen,
    temperatures=(1.0, 1.0),
    bins=shape.bins,
    on_policy=update.on_policy,
  )
  flops = supervised.flops(params, policy, config.grpo.rows, shape, frozen)
  traffic = _backward(policy, whole)
  return _program(trace, flops, traffic, (params, frozen), whole)


def _apply(config) -> Program:
  """The optimiser's step, after the last piece."""
  policy, optimizer, update = _update(config)
  state = abstract_state(
    policy,
    optimizer,
    adaptation_of(policy, config, "grpo"),
    ema=config.grpo.optim.ema_decay > 0,
    stale_params=config.grpo.rl.pipeline,
  )
  trace = lambda: update.apply.trace(  # noqa: E731
    state, state.params, remember=update.stale
  )
  return _program(trace, 0.0, _step(state.params), state, state.params)


def _sample(config, *, whole: bool) -> Program:
  """Prompts alone, or prompts and all that is sampled."""
  policy = make_policy(config, platform="tpu")
  params = sampling_params(policy)
  prompts, group, limits = (
    config.grpo.batch,
    config.grpo.rl.group_size,
    policy.limits,
  )
  rows = prompts * group
  one = make(
    [(segments.Image(np.zeros((config.data.image_size,) * 2 + (3,), np.uint8)),
      segments.Text(np.zeros(1, np.int32), learn=False))],
    form=policy.form,
    length=max(config.sampling.prompt_buckets),
    group=1,
    limits=limits,
    modes=[grammar.Mode(policy.form.allowed_maps)],
  )  # fmt: skip
  per_row = {"allowed_maps", "forced"}
  asked = one.replace(
    **{
      name: jax.tree.map(
        lambda x, n=name: _rows(
          rows if n in per_row else prompts, x.dtype, *np.shape(x)[1:]
        ),
        getattr(one, name),
      )
      for name in one.__dataclass_fields__
    }
  )
  fixed = dict(model=policy.model, form=policy.form, limits=limits, group=group)
  read = 2.0 * prompts * max(config.sampling.prompt_buckets)
  matrices = supervised.matrices(params)
  if not whole:
    run = jax.jit(functools.partial(prefill, **fixed))
    trace = lambda: run.trace(params, asked)  # noqa: E731
    traffic = _reading(policy, params)
    return _program(trace, read * matrices, traffic, params, params)
  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
  keys = jax.ShapeDtypeStruct(
    keys.shape, keys.dtype, sharding=_rows(rows, np.int32).sharding
  )
  trace = lambda: sampler.sample.trace(  # noqa: E731
    params, asked, keys, **fixed, text_temperature=1.0, code_temperature=1.0,
    truncations=truncations_of(config.sampling),
  )  # fmt: skip
  flops = (read + 2.0 * rows * limits.positions(policy.form)) * matrices
  sizes = dict(
    batch=prompts, group=group, prompt=max(config.sampling.prompt_buckets)
  )
  mesh = jax.sharding.get_mesh()
  text = decode.of_text(policy, params, **sizes, sizes=mesh.shape)
  drawn = decode.of_map(policy, params, **sizes, sizes=mesh.shape)
  model = policy.form.model
  traffic = text.total * limits.text * (limits.maps + 1)
  traffic += (
    drawn.total * limits.maps * (model.map_positions // model.step_codes)
  )
  made = _program(trace, flops, traffic * mesh.size, params, params)
  return made._replace(step=text, layers=model.layers)


def _update(config):
  """(policy, optimizer, Update) of GRPO."""
  policy = make_policy(config, platform="tpu")
  optimizer = _optimizer(config.grpo, optimiser_steps(config.grpo))
  adaptation = adaptation_of(policy, config, "grpo")
  update = build_update(config, policy, optimizer, adaptation=adaptation)
  return policy, optimizer, update


def truncated(config) -> bool:
  """Whether rollouts are drawn from a part of the distribution."""
  return any(truncated_kinds(config.sampling))


def _optimizer(settings, steps: int):
  return optim.make_optimizer(optim.OptimConfig(**settings.optim), steps=steps)


def _packed(policy, shape: packing.Shape, rows: int) -> dict:
  """A packed batch of `rows` rows, sharded as batches are."""
  one = packing.pack([], form=policy.form, shape=shape, rows=1)
  return {
    name: _rows(rows, array.dtype, *array.shape[1:])
    for name, array in one.items()
  }


def _rows(count: int, kind, *rest: int):
  """The shape of an array that leads with the batch's axis."""
  sharding = shard.batch_sharding(jax.sharding.get_mesh())
  return jax.ShapeDtypeStruct((count, *rest), kind, sharding=sharding)


def _width(dtype: str) -> int:
  return jax.numpy.dtype(dtype).itemsize


def _reading(policy, params) -> float:
  """Bytes of the decoder's matrices, read once by every device."""
  mesh = jax.sharding.get_mesh()
  devices = mesh.size / mesh.shape["tensor"]
  width = _width(policy.form.model.operands)
  return supervised.matrices(params) * width * devices


def _backward(policy, params) -> float:
  """Forward, backward and, if recomputed, forward again."""
  times = 2 if policy.form.model.remat == "none" else 3
  return times * _reading(policy, params)


def _step(params) -> float:
  """Adam in float32 reads four arrays of a parameter and writes three."""
  return 7.0 * 4 * sum(leaf.size for leaf in jax.tree.leaves(params))


def _program(trace, flops, traffic, state, params) -> Program:
  sizes = [leaf.size * leaf.dtype.itemsize for leaf in _arrays(state)]
  named = jax.tree_util.tree_leaves_with_path(params)
  return Program(
    trace,
    flops,
    traffic,
    sum(sizes),
    {shard.path_name(path): leaf for path, leaf in named},
  )


def _arrays(tree):
  """Leaves but random keys, which have no size that counts."""
  return [
    leaf
    for leaf in jax.tree.leaves(tree)
    if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  ]
