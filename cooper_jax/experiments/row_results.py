"""Answers that a row of an experiment is read off, looked for before it runs.

A row is read off the answers that its last policy gave to a benchmark in a mode
of use. One that would not be asked so would be found out hours later.
"""

from ml_collections import ConfigDict

from cooper_jax import plugins
from cooper_jax.data import modes
from cooper_jax.errors import UserError, nearest
from cooper_jax.eval import pairing
from cooper_jax.experiments import rows_file

EVALUATE = "evaluate"
ANSWERING = (pairing.BEFORE, pairing.AFTER)  # stages whose policy is asked


def check(module, row: str, config: ConfigDict) -> None:
  """Raises UserError where a row would leave no answers to be read."""
  *_, before, last = ("", *config.pipeline)
  if last != EVALUATE:
    raise UserError(
      f"row {row} does not end with {EVALUATE}, so that it has no results"
    )
  if before not in ANSWERING:
    raise UserError(
      f"row {row} has {before or 'nothing'} before {EVALUATE}, and only what"
      f" {' or '.join(ANSWERING)} trained is asked; put one of them there"
    )
  named = config.evaluate.benchmarks
  benchmark = rows_file.of_row(module.BENCHMARKS, row, pairing.EMBEDDED)
  if benchmark not in named:
    raise UserError(
      f'row {row} is read off the benchmark "{benchmark}", and'
      f" config.evaluate.benchmarks is {', '.join(named) or '()'}; name it"
      f" there{nearest(benchmark, named)}"
    )
  mode = rows_file.of_row(module.MODES, row, pairing.FREE)
  asked = modes_asked(config, benchmark)
  if mode not in asked:
    raise UserError(
      f'row {row} is read in mode "{mode}", and benchmark "{benchmark}" is'
      f" asked in {', '.join(asked)}; take one of them{nearest(mode, asked)}"
    )


def modes_asked(config: ConfigDict, benchmark: str) -> list[str]:
  """Modes of use in which a benchmark is asked, as far as settings tell."""
  held = modes.of_policy(config.modalities)
  if benchmark != pairing.EMBEDDED:
    module = plugins.find("benchmarks", benchmark)
    held = [mode for mode in held if mode in getattr(module, "MODES", ())]
  fits = [
    mode
    for mode in held
    if config.sft.shares.get(mode, 0.0) > 0
    and len(modes.maps_of(mode, config.modalities)) <= config.sampling.maps
  ]
  return [*fits, pairing.FREE]


def check_start(row: str, config, start: str, of_start) -> None:
  """Raises UserError where a row can't begin with what another one trained.

  config, of_start: of the row, and of the one that it begins with.
  """
  for name, what, stage in (
    (start, of_start, pairing.BEFORE),  # which is packed
    (row, config, "pretrain"),  # in whose place the package stands
  ):
    if stage not in what.pipeline:
      raise UserError(
        f"row {row} begins with the {pairing.BEFORE} of row {start}, in place"
        f" of its own pretrain, and the pipeline of row {name} has no {stage};"
        " add it, or leave the row out of STARTS"
      )
