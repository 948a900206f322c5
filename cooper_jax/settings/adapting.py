"""Checks of LoRA's settings: which stages, beside what, in what form out."""

from cooper_jax.errors import UserError, nearest
from cooper_jax.training import start_folders

ADAPTABLE = ("pretrain", "sft", "grpo")


def check(config) -> None:
  """Raises UserError, which names the setting, where one does not hold."""
  from cooper_jax.models.lora import LoraConfig

  made = LoraConfig(**config.lora)
  for stage in made.stages:
    if stage == "tokenizer":
      raise UserError(
        "config.lora.stages names tokenizer, whose networks are small and are"
        f" trained in full; allowed: {', '.join(ADAPTABLE)}"
      )
    if stage not in ADAPTABLE:
      raise UserError(
        f'config.lora.stages names "{stage}"; allowed: {", ".join(ADAPTABLE)}'
        f"{nearest(stage, ADAPTABLE)}"
      )
  if made.export != "none":
    _check_export(config, made)
  if not made.rank:
    return
  trained = [s for s in config.pipeline if s in (*ADAPTABLE, "tokenizer")]
  if trained and not set(trained) & set(made.stages):
    adaptable = [stage for stage in trained if stage in ADAPTABLE]
    mend = (
      f"add {' or '.join(adaptable)} to config.lora.stages"
      if adaptable
      else f"put {' or '.join(made.stages or ADAPTABLE)} into config.pipeline"
    )
    raise UserError(
      f"config.lora.rank is {made.rank}, and of what config.pipeline trains"
      f" ({', '.join(trained)}) config.lora.stages"
      f" ({', '.join(made.stages) or 'empty'}) names none; {mend}, or set"
      " config.lora.rank=0"
    )


def _check_export(config, made) -> None:
  if not made.rank:
    raise UserError(
      f"config.lora.export is {made.export} and config.lora.rank 0: there is no"
      " A and B; set a rank, or config.lora.export=none"
    )
  if not start_folders.folders(config):
    raise UserError(
      f"config.lora.export is {made.export}, which has the names of the folder"
      " that the run began with, and it began with none; set config.init.text,"
      " vision or from, or config.lora.export=none"
    )


def check_begin(config, ahead) -> None:
  """Raises UserError where LoRA would begin with new parameters.

  ahead: stages that will be run.
  """
  beside = start_folders.folders(config) or config.init_from
  adapted = config.lora.rank and "pretrain" in config.lora.stages
  if adapted and "pretrain" in ahead and not beside:
    raise UserError(
      f"config.lora.rank is {config.lora.rank} and pretrain begins with new"
      " parameters, which would stay as they are drawn; set config.init.text or"
      " from, or config.lora.stages=('sft','grpo') to pretrain in full"
    )
