"""Benchmarks of training, `sft`, `grpo` and `prefix`: each returns a dict."""

import dataclasses
import functools
import math
import re
import statistics
import time

from cooper_jax.bench.sampling import Sampling
from cooper_jax.bench.subjects import (
  attention,
  make_params,
  make_policy,
  make_trunks,
  matrices,
  timed,
)
from cooper_jax.models import token_kinds

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


def sft(asked) -> dict:
  """One AdamW step on full rows of text."""
  import jax
  import numpy as np

  from cooper_jax.sequences import packing, scoring, segments
  from cooper_jax.training import optim
  from cooper_jax.training.state import create

  policy = make_policy(asked.shape, asked.precision)
  length = asked.prompt_len
  shape = packing.Shape(length=length, texts=length - 1, codes=0, images=0)
  rng = np.random.default_rng(0)
  rows = [
    segments.Document(
      (
        segments.Text(rng.integers(8, 4096, 1), learn=False),
        segments.Text(rng.integers(8, 4096, length - 1)),
      )
    )
    for _ in range(asked.prompts)
  ]
  batch = packing.pack(rows, form=policy.form, shape=shape, rows=asked.prompts)
  optimizer = optim.make_optimizer(
    optim.OptimConfig(learning_rate=1e-3), steps=1000
  )

  def loss(params):
    scores = scoring.score(
      policy.model, params, batch, form=policy.form, sampled=False
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

  found = timed(call, asked.repeats)
  tokens = asked.prompts * length
  work = 6 * tokens * (n + head + attention(policy, length / 2))
  return found | {
    "parameters": n + head,
    "tokens": tokens,
    "tokens_per_s": tokens / found["seconds"]["median"],
    "flops": work,
    "bytes": ADAM_BYTES * (n + head),
  }


def grpo(asked) -> dict:
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
  groups = np.repeat(np.arange(asked.prompts), asked.group)

  def call(number):
    start = time.perf_counter()
    out = jax.tree.map(
      np.asarray, jax.device_get(sampling(state[0].params, number))
    )
    rolled = time.perf_counter()
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
    spent["update_s"].append(time.perf_counter() - rolled)
    return state[0].params

  found = timed(call, asked.repeats)
  rows = asked.prompts * asked.group
  context = asked.prompt_len + asked.new / 2
  unique = asked.prompts * asked.prompt_len + rows * asked.new
  work = 2 * asked.prompts * asked.prompt_len * n
  work += 2 * rows * asked.new * (n + head + attention(policy, context))
  work += 6 * unique * (n + attention(policy, context))
  work += 6 * rows * asked.new * head
  return found | {
    "parameters": n + head,
    "tokens": rows * asked.new,
    "tokens_per_s": rows * asked.new / found["seconds"]["median"],
    **{name: statistics.median(each[1:]) for name, each in spent.items()},
    # Of the update as compiled: all that it holds beside its arguments, and its
    # largest array; and what one array [rollouts, new, vocabulary], which it
    # must not make, would take.
    "update_mib": compiled[0].memory_analysis().temp_size_in_bytes / 2**20,
    "largest_array_mib": largest_array(compiled[0].as_text()) / 2**20,
    "logits_mib": rows * asked.new * head / policy.form.model.d_model / 2**18,
    "flops": work,
    "bytes": (4 * asked.new + ADAM_BYTES) * (n + head),
  }


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
  found, results = {}, {}
  for name, documents in (("shared", together), ("apart", alone)):
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
    results[name] = run()
    found[name] = timed(lambda _, run=run: run(), asked.repeats)
  sizes = jax.tree.map(
    lambda a, b: float(jnp.max(jnp.abs(a - b)) / (jnp.max(jnp.abs(a)) + 1e-9)),
    *results.values(),
  )
  seconds = [each["seconds"]["median"] for each in found.values()]
  return found | {
    "faster": seconds[1] / seconds[0],
    "largest_difference": max(jax.tree.leaves(sizes)),  # of a tensor's largest
  }
