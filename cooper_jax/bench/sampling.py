"""Benchmarks of sampling: `generate` is a Work, `maps` times three."""

import functools

from cooper_jax.bench.subjects import (
  Work,
  attention,
  in_turn,
  make_params,
  make_policy,
  make_trunks,
  matrices,
  timed,
  width_of,
  work_seconds,
)

_MODES = ("token", "row", "all")


class Sampling:
  """Rollouts of random prompts, compiled once."""

  def __init__(self, asked, policy, *, new: int, maps: bool):
    import jax

    from cooper_jax.sampling import grammar, sampler
    from cooper_jax.sampling.prompts import make, row_keys

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
    self.prompts = make(
      self.trunks,
      form=policy.form,
      length=asked.prompt_len,
      group=asked.group,
      limits=self.limits,
      modes=[mode] * asked.prompts,
    )
    rows = asked.prompts * asked.group
    self.keys = lambda number: row_keys(jax.random.key(number), range(rows))
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
    """A Rollout of device arrays; params: as they are trained."""
    from cooper_jax.policy import for_sampling

    params = for_sampling(self.policy, params)
    return self.sample(params, self.prompts, self.keys(number))

  def prefill(self, params):
    """The part that reads the prompts, alone."""
    import jax

    from cooper_jax.policy import for_sampling
    from cooper_jax.sampling.state import prefill

    params = for_sampling(self.policy, params)
    run = jax.jit(
      lambda params, prompts: prefill(
        params, prompts, self.policy.model, self.policy.form, self.limits,
        self.group,
      )
    )  # fmt: skip
    return lambda _: run(params, self.prompts)


def generate(asked) -> Work:
  """Samples `new` tokens in every rollout."""
  policy = make_policy(asked.shape, asked.precision)
  params = make_params(policy)
  sampling = Sampling(asked, policy, new=asked.new, maps=False)
  n, head = matrices(params, policy)
  rows, last = asked.prompts * asked.group, []

  def call(number):
    last[:] = [sampling(params, number)]
    return last

  def facts(timing):
    total = work_seconds(timing)
    prefill = work_seconds(timed(sampling.prefill(params), asked.repeats))
    count = int(last[0].trainable.sum())
    context = asked.prompt_len + asked.new / 2
    work = 2 * asked.prompts * asked.prompt_len * n
    work += 2 * rows * asked.new * (n + head + attention(policy, context))
    return {
      "parameters": n + head,
      "tokens": count,
      "tokens_per_s": count / total,
      "prefill_s": prefill,
      "step_ms": 1e3 * (total - prefill) / asked.new,
      "flops": work,
      "bytes": width_of(asked) * asked.new * (n + head),
    }

  return Work(call, facts)


def maps(asked) -> dict:
  """Draws one map in every rollout, with each size of group."""
  works = []
  for mode in _MODES:
    policy = make_policy(asked.shape, asked.precision, maps=mode)
    sampling = Sampling(asked, policy, new=0, maps=True)
    call = functools.partial(sampling, make_params(policy))
    works.append(Work(call))
  timings = in_turn(works, asked.repeats)
  seconds = [work_seconds(timing) for timing in timings]
  count = asked.prompts * asked.group
  found = {
    mode: timing | {"maps_per_s": count / each, "faster": seconds[0] / each}
    for mode, timing, each in zip(_MODES, timings, seconds, strict=True)
  }
  return {"map_codes": policy.form.model.map_codes, "maps": found}
