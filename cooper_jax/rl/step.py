"""One step of GRPO: rollout, rewards (on the host), advantages, update.

With `grpo.rl.pipeline` the rollouts of the next step are begun as soon as this
one's are on the host, by the parameters as they are then: the device samples
while the host scores and packs, and what is learned from is one step old.
"""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from cooper_jax import plugins
from cooper_jax.models import token_kinds
from cooper_jax.parallel import mesh, processes, shard
from cooper_jax.policy import for_sampling
from cooper_jax.rl import (
  advantages,
  dynamic_sampling,
  losses,
  scoring,
  shuffle_rewards,
  update,
)
from cooper_jax.rollouts import documents, generate
from cooper_jax.rollouts.prompts import trunk_of
from cooper_jax.rollouts.response import Responses
from cooper_jax.sampling import grammar
from cooper_jax.sampling.prompts import bucket
from cooper_jax.sequences import packing


class Rolled(NamedTuple):
  """Rollouts that were begun, perhaps not finished on the device."""

  items: list
  trunks: list
  ids: np.ndarray  # [R] sample ids
  number: int  # of the step
  turn: int  # of its batches, see dynamic.fill
  out: Any  # a Rollout of device arrays


class Seen(NamedTuple):
  """Rollouts on the host, the maps of this process' share decoded."""

  rolled: Rolled
  out: Any  # a Rollout of numpy arrays
  view: Responses  # of this process' share: all, where there is one


class Step:
  """One step of GRPO: (state, questions) -> (state, metrics)."""

  def __init__(self, config, policy, optimizer, codecs, reference):
    self.policy, self.codecs, self.reference = policy, codecs, reference
    self.group, self.updates = config.grpo.rl.group_size, config.grpo.rl.updates
    self.resample = config.grpo.rl.resample
    self.pipeline, self.steps = config.grpo.rl.pipeline, config.grpo.steps
    self.ahead = None  # Rolled of the coming step, if that was begun
    self.log = None  # a rollout_log.RolloutLog, which the stage may give
    self.apart = config.grpo.rl.advantage == "gdpo"  # an advantage each reward
    self.maps_teach = (
      bool(config.grpo.rl.map_weight) and not config.grpo.rl.text_only
    )
    self.buckets = config.sampling.prompt_buckets
    # Blocks of a row, and rows that are taken at once: as many a device.
    cuts = mesh.batch_cuts(jax.sharding.get_mesh())
    self.bins = config.grpo.bins
    self.rows = -(-config.grpo.rows // cuts) * cuts
    sampling = config.sampling
    self.temperatures = sampling.temperature, sampling.code_temperature
    self.key = jax.random.key(config.seed + 17)
    self.seed, self.shuffle = config.seed, config.grpo.rl.shuffle_rewards
    self.modules = {
      name: plugins.find("modalities", name) for name in config.modalities
    }
    self.scorer = scoring.make_scorer(config.grpo.rl)
    weights = self.scorer.weights
    self.weights = np.array(list(weights.values()), np.float32)
    self.overlong_filter = config.grpo.rl.overlong_filter
    self.advantages = jax.jit(
      functools.partial(
        update.token_advantages,
        rule=advantages.find(config.grpo.rl.advantage),
        eps=config.grpo.rl.advantage_eps,
        map_weight=config.grpo.rl.map_weight,
        codes=policy.form.model.map_codes,
        modality_ids=policy.form.modality_ids,
      )
    )
    self.configs = losses.configs_of(config.grpo.rl)
    self.normalisers, self.gradients, self.add, self.apply = update.compiled(
      policy,
      optimizer,
      self.configs,
      ema_decay=config.grpo.optim.ema_decay,
    )
    # The quantile of entropies is of all rollouts: they are taken in one piece.
    self.whole = any(each.top_entropy < 1 for each in self.configs.values())

  def __call__(self, state, batch):
    # The rewards and behaviour that are logged are those of this batch, before
    # any of its groups is replaced.
    seen = self.see(self.rollouts(state, batch))
    if self.pipeline and batch["number"] + 1 < self.steps:
      number = batch["number"] + 1
      self.ahead = self.begin(state.params, batch["after"](), number)
    sampled, metrics = self.score(seen)
    if self.resample:

      def another(turn):
        items, number = batch["more"](turn), batch["number"]
        begun = self.begin(state.params, items, number, turn)
        return self.score(self.see(begun))[0]

      sampled, found = dynamic_sampling.fill(
        sampled,
        another,
        self.resample,
        each=self.weights != 0 if self.apart else None,
        maps=self.maps_teach,
        overlong=not self.overlong_filter,
      )
      metrics |= found
    out = sampled.out
    rewards = advantages.Rewards(
      sampled.total, sampled.columns, self.weights, out.trainable.sum(axis=1)
    )
    answer_R, advantage_RT = self.advantages(
      rewards, sampled.quality, out.map_modality, out.state, sampled.groups
    )
    if self.log is not None:
      self.log.add(batch["number"] + 1, sampled, answer_R, self)
    counts = update.loss_mask(
      out.trainable, sampled.truncated, self.overlong_filter
    )
    rolled = {
      "log_prob": out.log_prob,
      "advantage": advantage_RT,
      "text": counts & (out.state == token_kinds.TEXT),
      "code": counts & (out.state == token_kinds.CODE),
    }
    pieces = self.pack(out, sampled.trunks)
    figures = []
    for turn in range(self.updates):
      state, found = self.update(state, pieces, rolled, first=turn == 0)
      figures.append(found)
    metrics |= advantages.summary(
      sampled.total,
      sampled.groups,
      answer_R,
      sampled.truncated & self.overlong_filter,
    )
    metrics = {
      name: value
      for name, value in metrics.items()
      if isinstance(value, tuple) or np.isfinite(value)
    }
    metrics["tokens"] = float((out.state > token_kinds.PAD).sum())
    return state, update.together(figures) | metrics

  def update(self, state, pieces, rolled, *, first: bool):
    """One optimiser step on all rollouts, piece by piece: (state, metrics)."""
    weights, found = self.normalisers(rolled), None
    for batch, here_R, bins in pieces:
      more = self.gradients(
        state.params,
        batch,
        rolled,
        here_R,
        weights,
        self.reference,
        temperatures=self.temperatures,
        bins=bins,
        on_policy=self.updates == 1 and not self.pipeline,
      )
      found = more if found is None else self.add(found, more)
    grads, metrics = found
    if self.pipeline:  # the rollouts are of older parameters: no mismatch
      gaps = [name for name in metrics if name.startswith("mismatch")]
      metrics = {k: v for k, v in metrics.items() if k not in gaps}
    remember = self.pipeline and first
    state, extra = self.apply(state, grads, remember=remember)
    return state, metrics | extra

  def rollouts(self, state, batch) -> Rolled:
    """This step's rollouts; with a pipeline they may have been begun before."""
    items, number = batch["items"], batch["number"]
    if not self.pipeline:
      return self.begin(state.params, items, number)
    rolled, self.ahead = self.ahead, None
    if rolled is None or rolled.number != number:
      # The first step of a run, or the first after a stop: the same again.
      rolled = self.begin(state.stale_params, items, number)
    return rolled

  def begin(self, params, items, number: int, turn: int = 0) -> Rolled:
    """Begins to sample the rollouts of a step, or of a later turn of it."""
    policy, group = self.policy, self.group
    trunks = [trunk_of(item, policy) for item in items]
    rows = len(items) * group
    ids = (number * (self.resample + 1) + turn) * rows + np.arange(rows)
    out = generate.begin(
      policy,
      for_sampling(policy, params),
      trunks,
      [grammar.Mode(policy.form.allowed_maps)] * len(items),
      key=self.key,
      ids=ids,
      group=group,
      limits=policy.limits,
      buckets=self.buckets,
      temperature=self.temperatures,
    )
    return Rolled(items, trunks, ids, number, turn, out)

  def see(self, rolled: Rolled) -> Seen:
    """Waits for rollouts and decodes their maps: all that needs the device."""
    out = generate.fetch(rolled.out)
    own = processes.share(len(rolled.items), "config.grpo.batch")
    with processes.alone():
      view = self.view(rolled, out, own, generate.decoder(self.codecs))
    return Seen(rolled, out, view)

  def view(self, rolled: Rolled, out, prompts: range, decode) -> Responses:
    """What the rollouts of some prompts say and draw."""
    policy = self.policy
    rows = slice(prompts.start * self.group, prompts.stop * self.group)
    return Responses.from_rollout(
      jax.tree.map(lambda x: x[rows], out),
      vocabulary=policy.form.vocabulary,
      text_tokenizer=policy.text,
      decode_maps=decode,
      group=np.repeat(prompts, self.group),
      sample_id=rolled.ids[rows],
      modalities={
        modality_id: name for name, modality_id in policy.markup.modalities
      },
    )

  def score(self, seen: Seen):
    """Scores rollouts on the host: (dynamic.Sampled, figures to log).

    Of several processes each scores its part of the prompts and has the scores
    of all, so that what follows is the same everywhere.
    """
    (items, trunks, _, number, turn, _), out, view = seen
    own = processes.share(len(items), "config.grpo.batch")
    with processes.alone():
      scores = self.scorer(view, self.columns([items[i] for i in own]))
    if processes.several():
      scores = scoring.gather(scores, maps=out.map_modality.shape[1])
      everyone = range(len(items))
      # What else there is to count needs no decoded maps.
      view = self.view(seen.rolled, out, everyone, lambda name, codes: codes)
    scoring.check_any_scored(scores)
    quality = np.full(out.map_modality.shape, np.nan, np.float32)
    quality[:, : scores.map_quality.shape[1]] = scores.map_quality
    total = scores.total
    columns = np.stack(list(scores.rewards.values()), axis=1)
    if self.shuffle:
      total, columns, quality = shuffle_rewards.shuffle(
        self.seed + turn,
        number,
        total,
        columns,
        quality,
        out.map_modality,
        view.group,
      )
    sampled = dynamic_sampling.Sampled(
      items, trunks, out, view.truncated, total, columns, quality
    )
    hits = scores.rewards.get("answer")
    return sampled, scores.metrics() | behaviour(view, items, self.group, hits)

  def columns(self, items) -> dict:
    """What the rewards may know, one entry a rollout."""
    spread = [item for item in items for _ in range(self.group)]
    fields = ("answer", "answer_type", "options", "unit", "value", "flag")
    fields += ("family",)
    columns = {
      name: [getattr(item.question, name) for item in spread] for name in fields
    }
    columns["question"] = [item.question.text for item in spread]
    for name, module in self.modules.items():
      columns[name] = [module.read(item.sample) for item in spread]
    return columns

  def pack(self, out, trunks) -> list:
    """Rollouts as pieces of some rows: (arrays, which rollouts, bins).

    A row is a prompt and bins of whole rollouts of it. Pieces all have one
    shape, and only their number depends on how long the rollouts are; unless
    all must be in one piece, which then has as many rows as they need, and so
    few more that it comes in few sizes.
    """
    form, limits = self.policy.form, self.policy.limits
    made = documents.documents(
      out, trunks, form=form, limits=limits, group=self.group
    )
    trunk = bucket(trunks, form, self.buckets)
    shape = documents.row_shape(form, limits, trunk=trunk, bins=self.bins)
    rows = documents.spread(made, form, bin=shape.bin, bins=self.bins)
    size = self.rows
    while self.whole and size < len(rows):
      size *= 2
    pieces = []
    for start in range(0, len(rows), size):
      some = rows[start : start + size]
      here_R = np.zeros(len(out.stop), bool)
      here_R[[i for _, held in some for i in held]] = True
      packed = packing.pack(
        [document for document, _ in some], form=form, shape=shape, rows=size
      )
      if processes.several():
        own = shard.own_rows(size)
        packed = shard.spread({name: x[own] for name, x in packed.items()})
      pieces.append((packed, here_R, shape.bins))
    return pieces


def behaviour(view: Responses, items, group: int, hits_R=None) -> dict:
  """How the policy answers: maps by kind, lengths, truncation.

  And the answer reward (hits_R, or None) by flag and by whether it drew.
  """
  drew = np.array([bool(maps) for maps in view.maps])
  flags = np.repeat([item.question.flag for item in items], group)
  kinds = [[drawn.modality for drawn in maps] for maps in view.maps]
  figures = {
    "maps/drew": drew.mean(),
    "maps/each": np.mean([len(each) for each in kinds]),
    "length/text": view.text_tokens.mean(),
    "length/codes": view.code_tokens.mean(),
    "truncated": view.truncated.mean(),
  }
  for kind in sorted({name for each in kinds for name in each}):
    figures[f"maps/{kind}"] = np.mean([each.count(kind) for each in kinds])
  parts = {str(flag): flags == flag for flag in np.unique(flags)}
  for flag, rows in parts.items():
    figures[f"maps/{flag}"] = drew[rows].sum(), float(rows.sum())
  if hits_R is not None:
    for name, rows in (parts | {"drew": drew, "text": ~drew}).items():
      known = rows & ~np.isnan(hits_R)
      if known.any():
        right = float(hits_R[known].sum())
        figures[f"answer/{name}"] = right, float(known.sum())
  return {
    name: value if isinstance(value, tuple) else float(value)
    for name, value in figures.items()
  }
