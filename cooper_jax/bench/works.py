"""The works that are timed, each a function of the command line: a dict."""

import dataclasses
import functools
import math
import re
import statistics
import time

from cooper_jax.bench.subjects import (
  attention,
  make_params,
  make_policy,
  make_trunks,
  matrices,
)

MODES = ("token", "row", "all")
ADAM_BYTES = 7 * 4  # of a parameter: read and write it and its moments


def timed(call, repeats: int) -> dict:
  """Seconds of the first call and of those after it, wall and CPU."""
  import jax

  def once(number):
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(call(number))
    return time.perf_counter() - wall, time.process_time() - cpu

  first = once(0)[0]
  runs = [once(i + 1) for i in range(repeats)]
  wall, cpu = ([run[i] for run in runs] for i in (0, 1))
  return {
    "first_s": first,
    "seconds": {
      "min": min(wall), "median": statistics.median(wall), "n": repeats
    },
    "cpu_seconds": statistics.median(cpu),
  }  # fmt: skip


class Sampling:
  """Rollouts of random prompts, compiled once."""

  def __init__(self, asked, policy, *, new: int, maps: bool):
    import jax

    from cooper_jax.sampling import grammar, sampler
    from cooper_jax.sampling import prompts as prompting

    self.policy, self.group = policy, asked.group
    self.limits = grammar.Limits(
      text=4 if maps else new + 1, maps=int(maps), script=2
    )
    self.trunks = make_trunks(
      policy, asked.prompts, asked.prompt_len, image=maps
    )
    mode = grammar.Mode(0)
    if maps:
      mode = grammar.Mode(0, ((policy.form.vocabulary.opening(0),),))
    self.prompts = prompting.make(
      self.trunks,
      form=policy.form,
      length=asked.prompt_len,
      group=asked.group,
      limits=self.limits,
      modes=[mode] * asked.prompts,
    )
    rows = asked.prompts * asked.group
    self.keys = lambda number: prompting.row_keys(
      jax.random.key(number), range(rows)
    )
    self.sample = functools.partial(
      sampler.sample,
      model=policy.model,
      form=policy.form,
      limits=self.limits,
      group=asked.group,
      text_temperature=1.0,
      code_temperature=1.0,
    )

  def __call__(self, params, number):
    return self.sample(params, self.prompts, self.keys(number))

  def prefill(self, params):
    """The part that reads the prompts, alone."""
    import jax

    from cooper_jax.sampling import carry

    run = jax.jit(
      lambda params, prompts: carry.prefill(
        params, prompts, self.policy.model, self.policy.form, self.limits,
        self.group,
      )
    )  # fmt: skip
    return lambda _: run(params, self.prompts)


def largest_array(compiled: str) -> int:
  """Bytes of the largest array in a compiled program's text."""
  sizes = {"pred": 1, "bf16": 2}
  largest = 0
  for kind, dims in re.findall(r"\b(pred|bf16|[fsu]\d+)\[([\d,]+)\]", compiled):
    bits = 8 * sizes[kind] if kind in sizes else int(kind[1:])
    count = math.prod(int(size) for size in dims.split(","))
    largest = max(largest, count * bits // 8)
  return largest


def generate(asked) -> dict:
  """Samples `new` tokens in every rollout."""
  policy = make_policy(asked.shape)
  params = make_params(policy)
  sampling = Sampling(asked, policy, new=asked.new, maps=False)
  found = timed(lambda number: sampling(params, number), asked.repeats)
  prefill = timed(sampling.prefill(params), asked.repeats)["seconds"]["median"]
  count = int(sampling(params, 1).live.sum())
  rows = asked.prompts * asked.group
  n, head = matrices(params, policy)
  context = asked.prompt_len + asked.new / 2
  work = 2 * asked.prompts * asked.prompt_len * n
  work += 2 * rows * asked.new * (n + head + attention(policy, context))
  total = found["seconds"]["median"]
  return found | {
    "parameters": n + head,
    "tokens": count,
    "tokens_per_s": count / total,
    "prefill_s": prefill,
    "step_ms": 1e3 * (total - prefill) / asked.new,
    "flops": work,
    "bytes": 4 * asked.new * (n + head),
  }


def sft(asked) -> dict:
  """One AdamW step on full rows of text."""
  import jax
  import numpy as np

  from cooper_jax import losses, optim, packing, sequence
  from cooper_jax import state as states

  policy = make_policy(asked.shape)
  length = asked.prompt_len
  shape = packing.Shape(length=length, texts=length - 1, codes=0, images=0)
  rng = np.random.default_rng(0)
  rows = [
    sequence.Document(
      (
        sequence.Text(rng.integers(8, 4096, 1), learn=False),
        sequence.Text(rng.integers(8, 4096, length - 1)),
      )
    )
    for _ in range(asked.prompts)
  ]
  batch = packing.pack(rows, form=policy.form, shape=shape, rows=asked.prompts)
  optimizer = optim.make_optimizer(optim.OptimConfig(), steps=1000)

  def loss(params):
    scores = losses.score(policy.model, params, batch, form=policy.form)
    pairs, _ = losses.next_token(scores, batch, form=policy.form, z_weight=0.0)
    total, weight = pairs["text"]
    return total / weight

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state):
    grads = jax.grad(loss)(state.params)
    return optim.apply_gradients(state, grads, optimizer=optimizer)[0]

  params = make_params(policy)
  n, head = matrices(params, policy)
  held = [states.create(params, optimizer, key=jax.random.key(0))]

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

  from cooper_jax import optim, packing
  from cooper_jax import state as states
  from cooper_jax.rl import advantages, update
  from cooper_jax.rl import losses as policy_losses
  from cooper_jax.rl import rollout as rollouts
  from cooper_jax.sampling import grammar

  policy = make_policy(asked.shape)
  sampling = Sampling(asked, policy, new=asked.new, maps=False)
  optimizer = optim.make_optimizer(optim.OptimConfig(), steps=1000)
  config = policy_losses.LossConfig("dapo")
  configs = {
    "text": config, "code": dataclasses.replace(config, weight=0.0)
  }  # fmt: skip

  @functools.partial(jax.jit, donate_argnums=0)
  def learn(state, batch, rolled):
    grads, metrics = update.gradients(
      state.params,
      batch,
      rolled,
      np.ones(len(groups), bool),
      update.normalisers(rolled, configs=configs),
      None,
      policy=policy,
      configs=configs,
      temperatures=(1.0, 1.0),
      blocks=shape.blocks,
      on_policy=True,
    )
    state, _ = update.apply(state, grads, optimizer=optimizer, ema_decay=0.0)
    return state, metrics

  shape = packing.Shape(
    length=asked.prompt_len + asked.group * (asked.new + 1),
    texts=asked.group * asked.new,
    codes=0,
    images=0,
    trunk=asked.prompt_len,
    block=asked.new + 1,
  )
  params = make_params(policy)
  n, head = matrices(params, policy)
  state = [states.create(params, optimizer, key=jax.random.key(0))]
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
    made = rollouts.documents(
      out,
      sampling.trunks,
      form=policy.form,
      limits=sampling.limits,
      group=asked.group,
    )
    batch = packing.pack(
      made, form=policy.form, shape=shape, rows=asked.prompts
    )
    text = out.live & (out.state == grammar.TEXT)
    given = {
      "log_prob": out.log_prob,
      "advantage": np.broadcast_to(advantage, text.shape),
      "text": text,
      "code": np.zeros_like(text),
    }
    if not compiled:
      compiled.append(learn.lower(state[0], batch, given).compile())
    state[0], _ = compiled[0](state[0], batch, given)
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

  from cooper_jax import losses, packing, sequence

  policy = make_policy(asked.shape)
  params = make_params(policy)
  trunks = make_trunks(policy, asked.prompts, asked.prompt_len, image=False)
  rng = np.random.default_rng(1)
  one = lambda: sequence.Text(rng.integers(8, 4096, asked.new))  # noqa: E731
  together = [
    sequence.Document(trunk, tuple((one(),) for _ in range(asked.group)))
    for trunk in sequence.unlearned(trunks)
  ]
  apart = [
    sequence.Document(document.trunk, (branch,))
    for document in together
    for branch in document.branches
  ]
  found, results = {}, {}
  for name, documents in (("shared", together), ("apart", apart)):
    count = len(documents[0].branches)
    shape = packing.Shape(
      length=asked.prompt_len + count * asked.new,
      texts=count * asked.new,
      codes=0,
      images=0,
      trunk=asked.prompt_len,
      block=asked.new,
    )
    batch = packing.pack(
      documents, form=policy.form, shape=shape, rows=len(documents)
    )

    @jax.jit
    def learn(params, batch, blocks=shape.blocks):
      def loss(params):
        scores = losses.score(
          policy.model, params, batch, form=policy.form, blocks=blocks
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


def maps(asked) -> dict:
  """Draws one map in every rollout, with each size of group."""
  found = {}
  for mode in MODES:
    policy = make_policy(asked.shape, maps=mode)
    params = make_params(policy)
    sampling = Sampling(asked, policy, new=0, maps=True)
    run = timed(lambda n, p=params, s=sampling: s(p, n), asked.repeats)
    count = asked.prompts * asked.group
    found[mode] = run | {"maps_per_s": count / run["seconds"]["median"]}
  slow = found["token"]["seconds"]["median"]
  for mode in MODES:
    found[mode]["faster"] = slow / found[mode]["seconds"]["median"]
  return {"map_codes": policy.form.model.map_codes, "maps": found}


WORKS = {
  "generate": generate,
  "sft": sft,
  "grpo": grpo,
  "maps": maps,
  "prefix": prefix,
}
