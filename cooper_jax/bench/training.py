"""Benchmarks of training: `sft` and `grpo` are Works, `prefix` times two."""

import dataclasses
import functools
import math
import re
import statistics

from cooper_jax.bench.sampling import Sampling
from cooper_jax.bench.subjects import (
  Work,
  attention,
  in_turn,
  make_params,
  make_policy,
  make_trunks,
  matrices,
  width_of,
  work_seconds,
)
from cooper_jax.models import token_kinds
from cooper_jax.training import telemetry

ADAM_BYTES = 7 * 4  # of a parameter: read and write it and its moments


def largest_array(compiled: str) -> int:
  """Bytes of the largest array in a compiled program's text."""
  sizes = {"pred": 1, "bf16": 2}
  largest = 0
  for kind, dims in re.findall(r"\b(pred|bf16|[fsu]\d+)\[([\d,]+)\]", compiled):
    bits = 8 * sizes[kind] if kind in sizes else int(kind[1:])
    count = math.prod(int(size) for size in dims.split(","))
    largest = max(largest, count * bits // 8)
  return largest


def rows_of_text(asked, policy):
  """(Documents, their packing.Shape, keys a position sees) of `sft`.

  Free: a row is one text, which is what other libraries train on. Packed: as
  the stages lay it out, an eighth of the row is a trunk that all its branches
  continue, and the rest are two bins of one branch each; in the stages the
  trunk is an image, here it is words that are not learned.
  """
  import numpy as np

  from cooper_jax.sequences import packing, segments

  length, rng = asked.prompt_len, np.random.default_rng(0)

  def text(count, *, learn=True):
    return segments.Text(rng.integers(8, 4096, count), learn=learn)

  if asked.rows == "free":
    shape = packing.Shape(length=length, texts=length - 1, codes=0, images=0)
    documents = [
      segments.Document((text(1, learn=False), text(length - 1)))
      for _ in range(asked.prompts)
    ]
    return documents, shape, length / 2
  size = length * 7 // 16
  trunk = length - 2 * size
  shape = packing.Shape(
    length=length,
    texts=2 * size,
    codes=0,
    images=0,
    trunk=trunk,
    bin_size=size,
  )
  documents = [
    segments.Document(
      (text(trunk, learn=False),), ((text(size),), (text(size),))
    )
    for _ in range(asked.prompts)
  ]
  seen = trunk * trunk / 2 + 2 * size * (trunk + size / 2)
  return documents, shape, seen / length


def sft(asked) -> Work:
  """One AdamW step on full rows of text, free or packed (`--rows`)."""
  import jax

  from cooper_jax.sequences import packing, scoring
  from cooper_jax.training import optim
  from cooper_jax.training.state import create

  policy = make_policy(asked.shape, asked.precision)
  rows, shape, context = rows_of_text(asked, policy)
  batch = packing.pack(rows, form=policy.form, shape=shape, rows=asked.prompts)
  optimizer = optim.make_optimizer(
    optim.OptimConfig(learning_rate=1e-3), steps=1000
  )

  def loss(params):
    scores = scoring.score(
      policy.model,
      params,
      batch,
      form=policy.form,
      sampled=False,
      bins=shape.bins,
    )
    pairs, _ = scoring.next_token(scores, batch, form=policy.form, z_weight=0.0)
    total, weight = pairs["text"]
    return total / weight

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state):
    grads = jax.grad(loss)(state.params)
    return optim.apply_gradients(state, grads, optimizer=optimizer)[0]

  params = make_params(policy)
  n, head = matrices(params, policy)
  held = [create(params, optimizer, key=jax.random.key(0))]

  def call(_):
    held[0] = step(held[0])
    return held[0].params

  def facts(timing):
    tokens = asked.prompts * shape.length
    work = tokens * (n + attention(policy, context))
    work += asked.prompts * shape.texts * head
    return {
      "rows": asked.rows,
      "parameters": n + head,
      "tokens": tokens,
      "tokens_per_s": tokens / work_seconds(timing),
      "flops": 6 * work,
      "bytes": ADAM_BYTES * (n + head),
    }

  return Work(call, facts)


def grpo(asked) -> Work:
  """Rollout, advantages of random rewards, and the update with AdamW."""
  import jax
  import numpy as np

  from cooper_jax.rl import advantages
  from cooper_jax.rl.losses import LossConfig
  from cooper_jax.rl.pack import PackedRows
  from cooper_jax.rl.targets import TokenTargets
  from cooper_jax.rl.update import make_update
  from cooper_jax.rollouts.documents import documents
  from cooper_jax.sequences import packing
  from cooper_jax.training import optim
  from cooper_jax.training.state import create

  policy = make_policy(asked.shape, asked.precision)
  sampling = Sampling(asked, policy, new=asked.new, maps=False)
  optimizer = optim.make_optimizer(
    optim.OptimConfig(learning_rate=1e-3), steps=1000
  )
  config = LossConfig("dapo")
  configs = {
    "text": config, "code": dataclasses.replace(config, weight=0.0)
  }  # fmt: skip

  update = make_update(policy, optimizer, configs, ema_decay=0.0)

  @functools.partial(jax.jit, donate_argnums=0)
  def learn(state, packed, targets):
    held_R = np.ones(len(groups), bool)
    rows = [PackedRows(packed, held_R, shape.bins)]
    return update.learn(state, rows, targets)

  shape = packing.Shape(
    length=asked.prompt_len + asked.group * (asked.new + 1),
    texts=asked.group * asked.new,
    codes=0,
    images=0,
    trunk=asked.prompt_len,
    bin_size=asked.new + 1,
  )
  params = make_params(policy)
  n, head = matrices(params, policy)
  state = [create(params, optimizer, key=jax.random.key(0))]
  spent, compiled = {"rollout_s": [], "update_s": []}, []
  clock = telemetry.work_clock()
  groups = np.repeat(np.arange(asked.prompts), asked.group)

  def call(number):
    start = clock()
    out = jax.tree.map(
      np.asarray, jax.device_get(sampling(state[0].params, number))
    )
    rolled = clock()
    rewards = np.random.default_rng(number).random(len(groups))
    advantage = advantages.grpo(rewards, groups)[:, None]
    made = documents(
      out,
      sampling.trunks,
      form=policy.form,
      limits=sampling.limits,
      group=asked.group,
    )
    batch = packing.pack(
      made, form=policy.form, shape=shape, rows=asked.prompts
    )
    text = out.trainable & (out.state == token_kinds.TEXT)
    targets = TokenTargets(
      log_prob_RT=out.log_prob,
      advantage_RT=np.broadcast_to(advantage, text.shape),
      text_RT=text,
      code_RT=np.zeros_like(text),
    )
    if not compiled:
      compiled.append(learn.lower(state[0], batch, targets).compile())
    state[0], _ = compiled[0](state[0], batch, targets)
    jax.block_until_ready(state[0].params)
    spent["rollout_s"].append(rolled - start)
    spent["update_s"].append(clock() - rolled)
    return state[0].params

  def facts(timing):
    rows = asked.prompts * asked.group
    context = asked.prompt_len + asked.new / 2
    unique = asked.prompts * asked.prompt_len + rows * asked.new
    work = 2 * asked.prompts * asked.prompt_len * n
    work += 2 * rows * asked.new * (n + head + attention(policy, context))
    work += 6 * unique * (n + attention(policy, context))
    work += 6 * rows * asked.new * head
    logits = rows * asked.new * head / policy.form.model.d_model
    return {
      "parameters": n + head,
      "tokens": rows * asked.new,
      "tokens_per_s": rows * asked.new / work_seconds(timing),
      **{name: statistics.median(each[1:]) for name, each in spent.items()},
      # Of the update as compiled: all that it holds beside its arguments, and
      # its largest array; and what one array [rollouts, new, vocabulary], which
      # it must not make, would take.
      "update_mib": compiled[0].memory_analysis().temp_size_in_bytes / 2**20,
      "largest_array_mib": largest_array(compiled[0].as_text()) / 2**20,
      "logits_mib": logits / 2**18,
      "flops": work,
      "bytes": (width_of(asked) * asked.new + ADAM_BYTES) * (n + head),
    }

  return Work(call, facts)


def prefix(asked) -> dict:
  """The gradient of G rollouts of a prompt: it once in a row, or in G rows."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from cooper_jax.sequences import packing, scoring, segments

  policy = make_policy(asked.shape, asked.precision)
  params = make_params(policy)
  trunks = make_trunks(policy, asked.prompts, asked.prompt_len, image=False)
  rng = np.random.default_rng(1)
  one = lambda: segments.Text(rng.integers(8, 4096, asked.new))  # noqa: E731
  together = [
    segments.Document(trunk, tuple((one(),) for _ in range(asked.group)))
    for trunk in segments.unlearned(trunks)
  ]
  alone = [
    segments.Document(document.trunk, (branch,))
    for document in together
    for branch in document.branches
  ]
  works, results = [], []
  for documents in (together, alone):
    count = len(documents[0].branches)
    shape = packing.Shape(
      length=asked.prompt_len + count * asked.new,
      texts=count * asked.new,
      codes=0,
      images=0,
      trunk=asked.prompt_len,
      bin_size=asked.new,
    )
    batch = packing.pack(
      documents, form=policy.form, shape=shape, rows=len(documents)
    )

    @jax.jit
    def learn(params, batch, bins=shape.bins):
      def loss(params):
        scores = scoring.score(
          policy.model,
          params,
          batch,
          form=policy.form,
          sampled=False,
          bins=bins,
        )
        return jnp.sum(scores.text_log_prob * batch["text_weight"])

      return jax.value_and_grad(loss)(params)

    run = functools.partial(learn, params, batch)
    results.append(run())
    works.append(Work(lambda _, run=run: run()))
  sizes = jax.tree.map(
    lambda a, b: float(jnp.max(jnp.abs(a - b)) / (jnp.max(jnp.abs(a)) + 1e-9)),
    *results,
  )
  shared, apart = in_turn(works, asked.repeats)
  return {
    "shared": shared,
    "apart": apart,
    "faster": work_seconds(apart) / work_seconds(shared),
    "largest_difference": max(jax.tree.leaves(sizes)),  # of a tensor's largest
  }
