"""The GRPO stage: reinforces when to draw, what to draw and what to answer.

It is stage 3, after SFT. Text and codes are both in the policy gradient;
`config.grpo.rl.text_only` leaves the codes out. A step is `rl/step.py`, the
options of a run are chosen in `rl/build.py`.

`grpo.steps` may grow in a workdir: a finished stage then goes on, and the
stages after it are run again. With a constant learning rate that is the run
that had so many steps from the start. A rate that falls does so over all steps
there are now: at the seam it rises again to its value at that step of the
longer run, and the steps before were taken at other rates than in that.
"""

from pathlib import Path

from cooper_jax.data import mixture, selection
from cooper_jax.data.sources import DataConfig
from cooper_jax.eval import family_flags, validation
from cooper_jax.parallel import processes
from cooper_jax.policy import (
  adaptation_of,
  init_state,
  make_policy,
  own_params,
  start_from,
)
from cooper_jax.rl import losses, question_order, scoring
from cooper_jax.rl.build import build_step, optimiser_steps
from cooper_jax.rl.rollout_log import RolloutLog
from cooper_jax.rollouts import generate, lengths
from cooper_jax.stages import tokenizer
from cooper_jax.trained import begin_adapted, imported_params, load_stage
from cooper_jax.training import loop, optim, start_folders, telemetry
from cooper_jax.training.checkpoint import Checkpoints
from cooper_jax.training.workdir import add_summary

STAGE = "grpo"
# What the log line shows, most important first; see training/log_line.py.
_SHOWN = {
  "reward/total": "reward {:.2f}",
  "reward/answer": "right {:.0%}",
  "maps/drew": "drew {:.0%}",
  "length/text": "length {:.0f}",
  "reward/format": "format {:.0%}",
  "kl/text": "kl {:.2g}",
  "grad_norm": "norm {:.2g}",
}


def _shown(config) -> dict[str, str]:
  """What the log line has; a graded reward is no share of right answers."""
  if config.grpo.rl.settings.answer.graded:
    return _SHOWN | {"reward/answer": "answer {:.2f}"}
  return _SHOWN


def run(config, workdir) -> None:
  """Reinforces the SFT policy on questions of the training split.

  Where no stage trained the policy before, it begins with the folders of
  weights that the config names.
  """
  folder, settings = Path(workdir) / STAGE, config.grpo
  processes.share(settings.batch, "config.grpo.batch")  # refused now, not later
  policy = make_policy(config)
  optimizer = optim.make_optimizer(
    optim.OptimConfig(**settings.optim),
    steps=optimiser_steps(settings),
  )
  checkpoints = Checkpoints(folder / "checkpoints", keep=settings.keep)
  has_reference = losses.needs_reference(config.grpo.rl)
  adaptation, frozen = adaptation_of(policy, config, STAGE), None
  imports = start_folders.begins_grpo(config, workdir)
  parts = {
    "seed": config.seed,
    "ema": settings.optim.ema_decay > 0,
    "stale_params": config.grpo.rl.pipeline,
  }
  if adaptation:
    given = (policy, optimizer, adaptation, config, workdir, STAGE)
    before = None if imports else "sft"
    state, frozen = begin_adapted(*given, before=before, **parts)
    start = frozen.base  # A and B left out: what the stage began with
  elif imports and (has_reference or checkpoints.latest() is None):
    start = imported_params(policy, config, stage_folder=folder)
  elif imports:  # what the checkpoint has takes its place
    start = init_state(policy, optimizer, seed=config.seed).params
  else:
    start = load_stage(policy, config, workdir, "sft")
  if not adaptation:
    state = start_from(policy, optimizer, start, **parts)
  reference = start if has_reference else None
  source = processes.in_turn(
    "scenes",
    lambda: mixture.open_tolerant(DataConfig.from_config(config), "train"),
  )
  asked = selection.after(source, settings.skip_scenes)
  codecs, log = tokenizer.load(config, workdir), None
  if settings.flag_questions:
    flags = family_flags.of_start(
      config,
      policy,
      own_params(policy, state.params, frozen),  # not kept after this
      codecs,
      folder,
      begun=checkpoints.latest() is not None,
    )
    asked = selection.Asking(asked, family_flags.flagged(flags))
  stream = question_order.ORDERS[settings.order](
    lengths.fitting(config, selection.phrased(asked, settings.phrasings)),
    batch=settings.batch,
    seed=config.seed,
    families=tuple(settings.families),
  )
  if processes.is_first():
    log = RolloutLog(
      folder,
      policy=policy,
      rewards=[*scoring.weights_of(config.grpo.rl)],
      every=settings.log_every,
      steps=settings.steps,
    )
  step = build_step(
    config,
    policy,
    optimizer,
    codecs,
    reference=reference,
    stream=stream,
    log=log,
    adaptation=adaptation,
    frozen=frozen,
  )

  def pictures(number, state):
    del number, state
    if log is None:
      return {}
    with processes.alone():
      return log.pictures(generate.decoder(codecs))

  watched = None
  if settings.validate_every:
    watched = validation.Validation(config, policy, codecs, folder, frozen)
  writer = telemetry.make_writer(folder, config.trackers)
  _, figures = loop.Loop(
    label=STAGE,
    steps=settings.steps,
    state=state,
    step_fn=step,
    batches=stream,
    writer=writer,
    checkpoints=checkpoints,
    log_every=settings.log_every,
    save_every=settings.save_every,
    images=pictures,
    image_every=settings.image_every,
    validation=watched,
    shown=_shown(config),
  ).run()
  writer.close()
  checkpoints.close()
  if watched:
    watched.close()
  if not processes.is_first():
    return
  speed = {f"speed/{STAGE}/{name}": v for name, v in figures.items()}
  logged = telemetry.read_metrics(folder / "metrics.jsonl")
  curve = [row["reward/total"] for row in logged if "reward/total" in row]
  if curve:
    speed |= {"reward/first": curve[0], "reward/last": curve[-1]}
  add_summary(workdir, speed | validation.scores(logged, STAGE))
