"""GRPO's update: from scored rollouts to new parameters, as pure functions.

`Update` is the jitted functions of an update and how they make a whole one.
The step, the benchmark and the compile-only plan all call this one.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax.policy import param_shardings
from cooper_jax.rl.gradients import gradients, normalisers
from cooper_jax.rl.pack import PackedRows
from cooper_jax.rl.rollout_batch import RolloutBatch, take_prompts
from cooper_jax.rl.targets import Targets, TokenTargets
from cooper_jax.training import optim


@dataclasses.dataclass(frozen=True)
class Update:
  """The jitted functions of an update, and the update as a whole.

  Rows that do not fit at once come in pieces, whose gradients add up to those
  of the whole batch.
  """

  normalisers: Callable  # (TokenTargets) -> {"text": weight, "code": weight}
  gradients: Callable  # (gradients, metrics) of a piece, see gradients.py
  add: Callable  # sum of two pieces' (gradients, metrics)
  apply: Callable  # (state, gradients) -> (state, metrics)
  pack: Callable | None = None  # RolloutBatch -> [PackedRows], see pack.py
  reference: Any = None  # parameters of the KL penalty; None = no penalty
  frozen: Any = None  # `lora.Frozen` beside what is trained; None = all is
  temperatures: tuple[float, float] = (1.0, 1.0)  # that text, codes had
  updates: int = 1  # times that a batch of rollouts is gone through
  minibatches: int = 1  # parts of a batch, an optimiser step each
  stale: bool = False  # rollouts are of the parameters before the last step

  @property
  def on_policy(self) -> bool:
    """Whether the rollouts are of the very parameters that are updated."""
    return self.updates == self.minibatches == 1 and not self.stale

  def __call__(self, state, scored: RolloutBatch, targets: Targets):
    """(state, metrics) after all updates on a batch; the state is used up."""
    parts = [(self.pack(scored), targets.tokens)]
    if self.minibatches > 1:
      parts = [
        (self.pack(some), tokens)
        for some, tokens in divided(scored, targets.tokens, self.minibatches)
      ]
    figures = []
    for rows, tokens in parts * self.updates:
      state, found = self.learn(state, rows, tokens, first=not figures)
      figures.append(found)
    return state, together(figures)

  def learn(
    self,
    state,
    rows: Sequence[PackedRows],
    targets: TokenTargets,
    *,
    first: bool = True,
  ):
    """One optimiser step on all rows, piece by piece: (state, metrics).

    first: of the steps on this batch, before which the parameters are kept
    where rollouts are stale.
    """
    weights, found = self.normalisers(targets), None
    for piece in rows:
      more = self.gradients(
        state.params,
        piece.packed,
        targets,
        piece.held_R,
        weights,
        self.reference,
        self.frozen,
        temperatures=self.temperatures,
        bins=piece.bins,
        on_policy=self.on_policy,
      )
      if jax.default_backend() == "cpu":
        # It would work at several pieces at once, with memory for each.
        jax.block_until_ready(more)
      found = more if found is None else self.add(found, more)
    grads, metrics = found
    if self.stale:  # the rollouts are of older parameters: no mismatch
      gaps = [name for name in metrics if name.startswith("mismatch")]
      metrics = {k: v for k, v in metrics.items() if k not in gaps}
    state, extra = self.apply(state, grads, remember=self.stale and first)
    return state, metrics | extra


def make_update(
  policy,
  optimizer,
  configs,
  *,
  ema_decay: float,
  truncated=(True, True),
  adaptation=None,
  **settings,
) -> Update:
  """Jits the functions of an update for a policy on the mesh that is set.

  configs: LossConfig of "text" and of "code". truncated: as in `gradients`.
  adaptation: of what LoRA trains, None = all is trained.
  settings: other fields of Update.
  """
  shardings = param_shardings(policy, adaptation)
  return Update(
    normalisers=jax.jit(functools.partial(normalisers, configs=configs)),
    gradients=jax.jit(
      functools.partial(
        gradients,
        policy=policy,
        configs=configs,
        truncated=truncated,
        shardings=shardings,
      ),
      static_argnames=("bins", "on_policy"),
    ),
    add=jax.jit(add, donate_argnums=0),
    apply=jax.jit(
      functools.partial(apply, optimizer=optimizer, ema_decay=ema_decay),
      static_argnames="remember",
      donate_argnames="state",
    ),
    **settings,
  )


def divided(scored: RolloutBatch, tokens: TokenTargets, count: int):
  """A batch as `count` smaller ones of whole prompts, with their targets.

  Dealt out in turn: dynamic sampling leaves groups without advantage last, and
  they would all be in one.
  """
  for start in range(count):
    prompts = np.arange(start, len(scored.items), count)
    rows = np.flatnonzero(np.isin(scored.group_R, prompts))
    own = jax.tree.map(lambda x, rows=rows: x[rows], tokens)
    yield take_prompts(scored, prompts), own


def together(figures: list[dict]) -> dict:
  """Metrics of all updates on a batch: their averages, and each by its number.

  A mismatch is the first update's, before which the parameters were those that
  sampled; a later one would say how far the updates have come. `skipped` is
  the share of the updates that were skipped. A norm is the largest of those
  that were not: an average would hide a step that went far off.
  """
  if len(figures) == 1:
    return figures[0]
  kept = [
    {k: v for k, v in each.items() if not (i and k.startswith("mismatch"))}
    for i, each in enumerate(figures)
  ]
  out = {}
  for name in kept[0]:
    values = [each[name] for each in kept if name in each]
    if isinstance(values[0], tuple):
      out[name] = tuple(map(sum, zip(*values, strict=True)))
    elif name.endswith("_norm"):
      out[name] = functools.reduce(jnp.fmax, values)
    else:
      out[name] = sum(values) / len(values)
  for i, each in enumerate(kept):
    out |= {f"update{i + 1}/{name}": value for name, value in each.items()}
  return out


def apply(state, grads, *, optimizer, ema_decay, remember=False):
  """One optimiser step: (state, metrics).

  remember: whether state.stale_params becomes the parameters before this step.
  """
  if remember:
    state = state.replace(stale_params=state.params)
  return optim.apply_gradients(
    state, grads, optimizer=optimizer, ema_decay=ema_decay
  )


def add(one, other):
  """The sum of two trees."""
  return jax.tree.map(jnp.add, one, other)
