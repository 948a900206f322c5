"""The settings as tables: docs/settings.md, settings_model.md, settings_rl.md.

  python -m cooper_jax.settings.page

Writes them anew from the dataclasses that the config is made of: default and
meaning from each field, what is allowed from the table of ranges.
"""

import dataclasses
import sys
from pathlib import Path

from cooper_jax import plugins
from cooper_jax.settings import meaning, ranges
from cooper_jax.training import json_files

DOCS = Path(__file__).parents[2] / "docs"
TRAINED_STAGES = ("tokenizer", "pretrain", "sft", "grpo")
# What is turned often; the rest is settable all the same.
TURNED_OFTEN = (
  "init_from", "seed", "modalities", "data.source", "data.settings.jsonl.path",
  "data.train_scenes", "model.d_model", "model.layers", "sft.steps",
  "sft.optim.learning_rate", "grpo.steps", "grpo.batch",
  "grpo.optim.learning_rate", "grpo.rl.group_size", "grpo.rl.advantage",
  "grpo.rl.rewards.answer", "grpo.rl.map_weight", "grpo.rl.loss.kind",
  "grpo.rl.loss.clip_high", "grpo.rl.loss.kl_weight", "sampling.temperature",
  "evaluate.questions",
)  # fmt: skip
PAGE_HEAD = """\
# Settings{of}

Made by `python -m cooper_jax.settings.page`, not by hand. Defaults are those of
the default run (variant `tiny`). What the variants change of `configs/base.py`
and why stands in `configs/variants.py`, the sizes in `configs/sizes.py`. On the
command line a setting is changed as in `--config.grpo.steps=200`.
{other}
"""
REWARD_RULES = """\
The weight of each in the sum, as in `--config.grpo.rl.rewards.length=0.1`; with
0 a reward is computed and logged and does not count, with `None` it is not
computed. The order does not matter. A reward is a file in
`cooper_jax/rl/rewards/`, and its settings are those of its `Config`:"""


@dataclasses.dataclass(frozen=True)
class SettingRow:
  """One setting; name: dotted, below `config`."""

  name: str
  default: object
  meaning: str  # its first sentence
  allowed: str  # "" where the meaning lists it


def setting_rows() -> dict[str, SettingRow]:
  """Every setting of the default run by its name, in the order of the files."""
  from configs import base, variants

  config = base.defaults()
  variants.tiny(config)
  values = json_files.flat(config.to_dict())
  said, found = meaning.meanings(base.SECTION_CLASSES), {}
  for name in filter(values.__contains__, said):
    what, value = _sentence(_reward(name) or said[name]), values[name]
    found[name] = SettingRow(name, value, what, _allowed(name, value))
  return found


def _reward(name: str) -> str:
  """The first line of the file of a reward whose weight this is, or ""."""
  section, _, own = name.rpartition(".")
  if section != "grpo.rl.rewards":
    return ""
  return plugins.find("rewards", own).__doc__.splitlines()[0]


def _sentence(text: str) -> str:
  """The first sentence, as it goes on after a name."""
  first = text.partition(". ")[0].removesuffix(".")
  if first[1:2].islower():
    first = first[0].lower() + first[1:]
  return first


def _allowed(name: str, value) -> str:
  if isinstance(value, bool):
    return "True, False"
  *_, section, own = ("", *name.split("."))
  if section == "optim":
    from cooper_jax.training import optim

    return optim.LIMITS[own][2] if own in optim.LIMITS else ""
  number = value[0] if isinstance(value, tuple) and value else value
  if value is not None and not isinstance(number, (int, float)):
    return ""
  found = ranges.find(name)
  return "" if found is None else str(found)


def settings_pages() -> dict[str, str]:
  """File name in docs/ -> its text."""
  from configs import base

  found = setting_rows()
  shared = {f.name for f in dataclasses.fields(base.StageSettings)}
  parts = {n: r for n, r in found.items() if not _is_shared(n, shared)}

  def part(title, section, *without, own=None):
    """A heading and the table of a section, less some below it."""
    keep = {
      name.removeprefix(f"{section}.") if section else name: row
      for name, row in parts.items()
      if (name.startswith(f"{section}.") if section else "." not in name)
      and not name.startswith(tuple(f"{section}.{each}." for each in without))
    }
    where = f"`config.{section}`" if section else "`config`"
    return [f"## {title}: {where}", "", *_table(keep), ""]

  common = [
    _line([f"`{n}`", f"`{_show(found[n].default)}`", found[n].meaning])
    for n in TURNED_OFTEN
  ]
  main = [
    PAGE_HEAD.format(
      of="",
      other="Data and model: [settings_model.md](settings_model.md). "
      "GRPO: [settings_rl.md](settings_rl.md).",
    ),
    "## Turned most often",
    "",
    *_head("setting", "default", "meaning"),
    *common,
    "",
    *part("The run", ""),
    *part("Weights to start from", "init", "tokenizer"),
    *part("Image tokenizers to start from", "init.tokenizer"),
    *part("LoRA", "lora"),
    *part("Devices", "mesh"),
    "## Every training stage: `config.<stage>`",
    "",
    *_stages(found, shared),
    "",
    *part("Stage 0, the map tokenizers", "tokenizer"),
    *part("Stage 1, pretraining", "pretrain"),
    *part("Stage 2, SFT", "sft"),
    *part("Evaluation", "evaluate"),
  ]
  model = [
    PAGE_HEAD.format(
      of=" of data and model", other="The others: [settings.md](settings.md)."
    ),
    *part("Data", "data"),
    *part("What maps may hold", "maps"),
    *part("The rendered world", "world"),
    *part("The transformer", "model", "vision"),
    *part("The image encoder", "model.vision"),
    *part("Rollouts", "sampling"),
  ]
  rl = [
    PAGE_HEAD.format(
      of=" of GRPO", other="The others: [settings.md](settings.md)."
    ),
    *part("Stage 3, GRPO", "grpo", "rl"),
    *part(
      "Advantages and updates", "grpo.rl", "loss", "code", "rewards", "settings"
    ),
    *part("Rewards", "grpo.rl.rewards"),
    REWARD_RULES,
    "",
    *part("What rewards are set to", "grpo.rl.settings"),
    *part("The policy loss, of text and codes alike", "grpo.rl.loss"),
    *part("The loss of codes where it differs", "grpo.rl.code"),
  ]
  texts = {
    "settings.md": main,
    "settings_model.md": model,
    "settings_rl.md": rl,
  }
  return {
    name: "\n".join(lines).rstrip() + "\n" for name, lines in texts.items()
  }


def _is_shared(name: str, shared: set[str]) -> bool:
  stage, _, own = name.partition(".")
  return stage in TRAINED_STAGES and own.partition(".")[0] in shared


def _stages(found: dict[str, SettingRow], shared: set[str]) -> list[str]:
  """What all training stages have, a column a stage."""
  names = [
    name.removeprefix(f"{TRAINED_STAGES[0]}.")
    for name in found
    if name.startswith(f"{TRAINED_STAGES[0]}.") and _is_shared(name, shared)
  ]
  lines = _head("setting", *TRAINED_STAGES, "meaning", "allowed")
  for name in names:
    each = [found[f"{stage}.{name}"] for stage in TRAINED_STAGES]
    values = [f"`{_show(row.default)}`" for row in each]
    lines.append(
      _line([f"`{name}`", *values, each[0].meaning, each[0].allowed])
    )
  return lines


def _table(keep: dict[str, SettingRow]) -> list[str]:
  """A line each; what stands in the line above is not said again."""
  lines, above = _head("setting", "default", "meaning", "allowed"), ""
  for name, row in keep.items():
    said = row.meaning if row.meaning != above else '"'
    lines.append(
      _line([f"`{name}`", f"`{_show(row.default)}`", said, row.allowed])
    )
    above = row.meaning
  return lines


def _line(cells: list[str]) -> str:
  """A row of a table; what Markdown would take for its own is escaped."""
  cells = [cell.replace("|", "\\|").replace("<", "\\<") for cell in cells]
  return f"| {' | '.join(cells)} |"


def _head(*names: str) -> list[str]:
  return [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]


def _show(value) -> str:
  """As it is written in Python, but text without quotes where it is a word."""
  return value if isinstance(value, str) and value else repr(value)


def common_lines() -> list[str]:
  """What is turned most often, as lines of the command's help."""
  found = setting_rows()
  named = {n: f"{n}={_show(found[n].default)}" for n in TURNED_OFTEN}
  return [f"  {text:31s} {found[n].meaning}" for n, text in named.items()]


def main() -> int:
  """Writes the pages; gives the exit code."""
  for name, text in settings_pages().items():
    (DOCS / name).write_text(text, encoding="utf-8")
    print(f"docs/{name}: {len(text.splitlines())} lines")
  return 0


if __name__ == "__main__":
  sys.exit(main())
