"""Stage 3: reinforcement of when to draw, what to draw and what to answer.

Text and codes are both in the policy gradient; `config.grpo.rl.text_only`
leaves the codes out. What a step does stands in `rl/step.py`.

`grpo.steps` may grow in a workdir: a finished stage then goes on, and what came
after it is done again. Where the rate is constant that is the run that had so
many steps from the start. A rate that falls does so over all steps there are
now: at the seam it rises again to what it is at that step of the longer run,
and what was learned before was learned at other rates than in that.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from cooper_jax.data import mixture
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.parallel import processes
from cooper_jax.policy import init_state, load_stage, make_policy, start_from
from cooper_jax.rl import losses, rollout_log
from cooper_jax.rl.step import Step
from cooper_jax.rollouts import generate, prompts
from cooper_jax.stages import tokenizer
from cooper_jax.training import loop, optim, telemetry
from cooper_jax.training.checkpoint import Checkpoints
from cooper_jax.training.workdir import add_summary

STAGE = "grpo"
# Of the log line, see stages/line.py; behaviour are counted in rl/step.py.
SHOWN = {
  "reward/total": "reward {:.2f}",
  "reward/answer": "right {:.0%}",
  "maps/drew": "drew {:.0%}",
  "length/text": "length {:.0f}",
  "reward/format": "format {:.0%}",
  "kl/text": "kl {:.2g}",
  "grad_norm": "norm {:.2g}",
}


def run(config, workdir) -> None:
  """Reinforces the SFT policy on questions of the training split."""
  folder, settings = Path(workdir) / STAGE, config.grpo
  processes.share(settings.batch, "config.grpo.batch")  # refused now, not later
  policy = make_policy(config)
  optimizer = optim.make_optimizer(
    optim.OptimConfig(**settings.optim),
    steps=settings.steps * config.grpo.rl.updates,
  )
  start = load_stage(policy, config, workdir, "sft")
  state = start_from(
    init_state(
      policy,
      optimizer,
      seed=config.seed,
      ema=settings.optim.ema_decay > 0,
      stale_params=config.grpo.rl.pipeline,
    ),
    start,
  )
  penalised = any(
    c.kl_weight for c in losses.configs_of(config.grpo.rl).values()
  )
  reference = start if penalised else None
  source = processes.in_turn(
    "scenes",
    lambda: mixture.open_split(DataConfig.from_config(config), "train"),
  )
  batches = Questions(
    source,
    batch=settings.batch,
    seed=config.seed,
    families=tuple(settings.families),
  )
  step = Step(
    config,
    policy,
    optimizer,
    tokenizer.load(config, workdir),
    reference,
  )
  if processes.is_first():
    step.log = rollout_log.RolloutLog(
      folder, every=settings.log_every, steps=settings.steps
    )

  def pictures(number, state):
    del number, state
    if step.log is None:
      return {}
    with processes.alone():
      return step.log.pictures(generate.decoder(step.codecs))

  writer = telemetry.make_writer(folder)
  checkpoints = Checkpoints(folder / "checkpoints", keep=settings.keep)
  _, figures = loop.run_loop(
    label=STAGE,
    steps=settings.steps,
    state=state,
    step_fn=step,
    batches=batches,
    writer=writer,
    checkpoints=checkpoints,
    log_every=settings.log_every,
    save_every=settings.save_every,
    images=pictures,
    image_every=settings.image_every,
    shown=SHOWN,
  )
  writer.close()
  checkpoints.close()
  if not processes.is_first():
    return
  speed = {f"speed/{STAGE}/{name}": v for name, v in figures.items()}
  logged = telemetry.read_metrics(folder / "metrics.jsonl")
  curve = [row["reward/total"] for row in logged if "reward/total" in row]
  if curve:
    speed |= {"reward/first": curve[0], "reward/last": curve[-1]}
  add_summary(workdir, speed)


@dataclasses.dataclass
class Questions:
  """An endless, resumable stream of questions: step s is a function of s.

  families: those that are asked; () = all.
  """

  source: object
  batch: int
  seed: int
  families: tuple[str, ...] = ()
  step: int = 0

  def __post_init__(self):
    known, missing = set(), set(self.families)
    for i in range(len(self.source)):
      if known and not missing:
        return
      known |= {question.family for question in self.source[i].questions}
      missing -= known
    if not known:
      raise UserError("the training split has no questions to reinforce")
    if missing:
      raise UserError(
        f"config.grpo.families names {', '.join(sorted(missing))}; the training"
        f" split asks {', '.join(sorted(known))}"
      )

  def __next__(self):
    number, self.step = self.step, self.step + 1
    more = functools.partial(self.draw, number)
    after = functools.partial(self.draw, number + 1, 0)
    return {
      "items": more(0), "number": number, "more": more, "after": after
    }  # fmt: skip

  def draw(self, number: int, turn: int) -> list:
    """The questions of a step; those of turn 1 and more take their place."""
    rng = np.random.Generator(
      np.random.Philox(key=[self.seed + (turn << 32), number])
    )
    items = []
    while len(items) < self.batch:
      sample = self.source[int(rng.integers(len(self.source)))]
      questions = [
        question
        for question in sample.questions
        if not self.families or question.family in self.families
      ]
      if questions:
        question = questions[rng.integers(len(questions))]
        items.append(prompts.Item(sample, question))
    return items

  def state(self) -> dict:
    return {"step": self.step}

  def restore(self, state) -> None:
    self.step = int(state["step"])
