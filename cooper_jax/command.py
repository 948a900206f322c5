"""The command line: flags and config in, one clear line where one is wrong.

Parsing is `config_flags`; this file only looks first, because what that
raises for a misspelt key names neither the key nor what it could have been.
"""

import dataclasses
import re
import sys
from pathlib import Path
from types import ModuleType

from absl import flags
from ml_collections import ConfigDict, config_flags

from cooper_jax.errors import UserError, nearest
from cooper_jax.parallel import chips
from cooper_jax.settings import (
  checks,
  config_file,
  kinds,
  meaning,
  page,
  suggest,
)
from cooper_jax.training import json_files

ROOT = Path(__file__).parent.parent
FLAGS = {
  "config": "settings, FILE.py or FILE.py:VARIANT; grpo is configs/grpo.py",
  "workdir": "folder of the run; default runs/<config>[-<variant>]",
  "compile_cache": 'folder of compiled code, "off" for none; default ~/.cache',
  "plan": "prints what every listed slice would hold, and stops",
  "compile_only": "compiles for --topology, prints a table, and stops",
  "topology": "a slice, as in v6e:16x16 or v5e:16x16,num_slices=2",
  "profile": "steps of every stage to trace, for TensorBoard",
}
SWITCHES = ("plan", "compile_only")  # flags that need no value
FLAG = re.compile(r"--?[A-Za-z]|--")  # as a flag begins, and no number does
REWARDS = "config.grpo.rl.rewards."
FROM = "config.init.from"
HELP = """\
usage: python -m cooper_jax.main --config=FILE.py[:VARIANT] [--workdir=DIR]
           [--config.KEY=VALUE ...] [--compile_cache=DIR|off]

Runs the stages that the config names; those that the workdir already holds
finished are skipped, an interrupted one goes on where it stopped.

  --config=configs/grpo.py         GRPO on the packaged model (the default)
  --config=configs/grpo.py:scratch every stage from nothing, in 40 minutes
  --config=configs/grpo.py:smoke   the same in three, learning nothing
  --config.grpo.steps=200          changes a setting (docs/settings.md: all)
  --workdir=runs/demo              where everything goes; default runs/<config>
  --compile_cache=off              compiles everything anew
  --plan                           memory on every listed slice, by arithmetic
  --compile_only --topology=v6e:4x4
                                   compiles for a slice that is not here
  --profile=5                      traces 5 steps of each stage, see TensorBoard

Turned most often, as --config.NAME=VALUE; here with what the default run has:

{settings}

In configs/: {configs}.
Exit codes: 0 done, 2 bad config, data or checkpoint, 42 no progress, 43
training is lost, 75 stopped and saved.
"""


@dataclasses.dataclass(frozen=True)
class Command:
  """What was asked for."""

  config: ConfigDict
  workdir: Path
  compile_cache: str
  plan: bool = False
  topology: str = ""  # compile for it, and no more
  profile: int = 0  # training steps of every stage to trace


def _configs() -> list[str]:
  """Names of the files of configs/ that --config takes, sorted."""
  return sorted(
    path.name
    for path in (ROOT / "configs").glob("*.py")
    if "\ndef get_config(" in path.read_text(encoding="utf-8")
  )


def _normalise(argv: list[str]) -> dict[str, str | bool]:
  """In: ["--config", "a.py", "--config.b=1"]   Out: {"config": "a.py", ..}.

  A setting without a value is True, or False after `no`: `_switched` looks
  whether it may be. Raises UserError for other flags that need a value.
  """
  given, rest = {}, list(argv)
  while rest:
    word = rest.pop(0)
    if not word.startswith("-"):
      name = word.partition("=")[0]
      raise UserError(
        f'"{word}" is no flag; write --config=FILE.py --workdir=DIR'
        f"{_nearest_flag(name) if '=' in word else ''}"
      )
    name, equals, value = word.lstrip("-").partition("=")
    negated = name.startswith("noconfig.")
    if negated and equals:
      raise UserError(f"--{name} takes no value; write --{name[2:]}={value}")
    if negated:
      name, value = name[2:], False
    elif not equals:
      value = True if not rest or FLAG.match(rest[0]) else rest.pop(0)
    if not name.startswith("config.") and name not in FLAGS:
      raise UserError(
        f"no flag --{name}; there are "
        f"{', '.join('--' + flag for flag in FLAGS)} and --config.KEY"
        f"{_nearest_flag(name)}"
      )
    if name in SWITCHES:
      value = str(value)
    elif name in FLAGS and value in (True, ""):
      raise UserError(f"--{name} needs a value: {FLAGS[name]}")
    given[name] = value
  return given


def _switched(config: ConfigDict, key: str, value: str | bool) -> str:
  """The value of a setting; UserError where one without is no switch."""
  if isinstance(value, str):
    return value
  if _setting(config, key)[1] is not bool:
    said = f"--{key} needs a value" if value else f"--no{key} is no switch"
    raise UserError(f"{said}; write --{key}=VALUE, {_example(config, key)}")
  return str(value)


def _nearest_flag(name: str) -> str:
  """As `nearest`, for a flag as it is written.

  In: "confg"          Out: '; did you mean "--config"?'
  In: "sft.steps"      Out: '; did you mean "--config.sft.steps"?'
  In: "seed"           Out: '; did you mean "--config.seed"?'
  """
  _find_configs()
  from configs import base

  known = _meanings(base.defaults())
  head, dot, rest = name.partition(".")
  if dot and nearest(head, ["config"]):
    name = rest
  if name in known:
    return f'; did you mean "--config.{name}"?'
  close = "" if dot else nearest(name, FLAGS, prefix="--")
  return close or suggest.suggest(name, known)


def _find(path: str) -> Path:
  """Looks in the working directory, then beside the package.

  In: "configs/grpo.py", or "grpo" where no file has that name.
  """
  names = [path] if Path(path).suffix else [path, f"configs/{path}.py"]
  for name in names:
    for folder in (Path.cwd(), ROOT):
      if (folder / name).is_file():
        return folder / name
  own, name = _configs(), Path(path).name
  bare = [each.removesuffix(".py") for each in own]
  close = (
    nearest(name, own, prefix="configs/")
    if Path(path).suffix
    else nearest(name, bare)
  )
  raise UserError(
    f"no config file {path}; in {ROOT / 'configs'} there are"
    f" {', '.join(own)}{close}"
  )


def _find_configs() -> None:
  if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # configs import configs.base


def load_module(file: str) -> ModuleType:
  """Loads a config FILE.py, which has a function get_config."""
  _find_configs()
  return config_file.load(_find(file))


def load_config(path: str) -> ConfigDict:
  """Loads FILE.py[:VARIANT] without overrides."""
  file, colon, variant = path.partition(":")
  if colon and (not variant or variant.endswith("@")):
    raise UserError(
      f"--config={path} names no {'slice' if variant else 'variant'} after"
      f' "{path[-1]}"; allowed: {", ".join(_variants())}, and sizes on a slice,'
      f" as in --config={file}:7b@v6e:16x16; --config={file} is the default"
    )
  return config_file.make(load_module(file), *([variant] if colon else []))


def _variants() -> list[str]:
  from configs import base, sizes

  return [*base.VARIANTS, *sizes.SIZES]


def _check_key(config: ConfigDict, key: str) -> None:
  here, done = config, "config"
  for part in key.split(".")[1:]:
    if not isinstance(here, ConfigDict):
      raise UserError(f"--{key}: {done} is a value, it has no keys")
    if part not in here:
      name = key.removeprefix("config.")
      raise UserError(
        f'--{key}: {done} has no key "{part}"; it has '
        f"{', '.join(sorted(here))}"
        f"{suggest.suggest(name, _meanings(config))}"
      )
    here, done = here[part], f"{done}.{part}"
  if isinstance(here, ConfigDict):
    raise UserError(
      f"--{key} is a section; set one of its keys: {', '.join(sorted(here))}"
    )


def _meanings(config: ConfigDict) -> dict[str, str]:
  """Name -> meaning of every setting of a config, "" where nothing is said."""
  from configs import base

  said = meaning.meanings(base.SECTION_CLASSES)
  return {
    name: said.get(name, "") for name in json_files.flat(config.to_dict())
  }


def _override(path: str, given: dict[str, str]) -> ConfigDict:
  """Applies the overrides with config_flags, which knows the types.

  It knows no None, which a reward's weight may be, and no name that is a word
  of Python.
  """
  off = [k for k, v in given.items() if v == "None" and k.startswith(REWARDS)]
  argv = ["cooper_jax"]
  own = {*off, FROM}
  argv += [f"--{k}={v}" for k, v in given.items() if k not in own]
  values = flags.FlagValues()
  config_flags.DEFINE_config_dict(
    "config", load_config(path), flag_values=values, sys_argv=argv
  )
  values(argv)
  for key in off:
    values.config.grpo.rl.rewards[key.removeprefix(REWARDS)] = None
  if FROM in given:
    values.config.init["from"] = given[FROM]
  return values.config


def _setting(config: ConfigDict, key: str) -> tuple:
  """(value, type) of a setting; a reward that is None is a float."""
  *sections, last = key.split(".")[1:]
  for section in sections:
    config = config[section]
  return config[last], config.get_type(last)


def _example(config: ConfigDict, key: str) -> str:
  """In: config, "config.sft.steps"   Out: "a whole number, as in 400"."""
  value, kind = _setting(config, key)
  if isinstance(value, (tuple, list)):
    return f'a tuple, as in "{value!r}"'
  names = {int: "a whole number", float: "a number", bool: "True or False"}
  shown = 0.1 if value is None else value
  return f"{names.get(kind, 'a text')}, as in {shown!r}"


def _check_noted(config: ConfigDict) -> None:
  """Image tokenizers of others are known by their folders alone."""
  for name, said in config.init.networks.items():
    if said:
      raise UserError(
        f"config.init.networks.{name} is noted when a run begins; leave it out,"
        f" and set config.init.tokenizer.{name} to a folder"
      )


def parse(argv: list[str]) -> Command | None:
  """Reads the command line, or prints the help and gives None."""
  if any(word in ("-h", "--help", "-help") for word in argv):
    _find_configs()
    settings = "\n".join(page.common_lines())
    print(HELP.format(configs=", ".join(_configs()), settings=settings))
    return None
  given = _normalise(argv)
  path = given.pop("config", "configs/grpo.py")
  folder = given.pop("workdir", "")
  cache = given.pop("compile_cache", "")
  plan = _is_on("plan", given)
  topology = _topology(path, given)
  profile = _count("profile", given)
  config = load_config(path)
  file, colon, variant = path.partition(":")
  found = f"{_find(file)}{colon}{variant}"
  for key, value in given.items():
    _check_key(config, key)
    given[key] = value = _switched(config, key, value)
    try:
      _override(found, {key: value})
    except (flags.Error, TypeError, ValueError, SyntaxError) as error:
      raise UserError(
        f"--{key}={value}: expected {_example(config, key)}"
      ) from error
  config = _override(found, given)
  if not folder:
    folder = "runs/" + Path(file).stem + (f"-{variant}" if variant else "")
  from configs import base
  from cooper_jax import modalities, package
  from cooper_jax.rl.rewards import user
  from cooper_jax.weights import starting

  kinds.check(config, base.SECTION_CLASSES)
  _check_noted(config)
  starting.take(config, {key.removeprefix("config.") for key in given})
  package.take_text(config)
  modalities.note(config)
  user.note(config)
  checks.validate(config)
  return Command(config, Path(folder), cache, plan, topology, profile)


def _is_on(name: str, given: dict[str, str]) -> bool:
  value = given.pop(name, "False")
  if value.lower() not in ("true", "false"):
    raise UserError(f"--{name}={value}: write --{name} or --{name}=False")
  return value.lower() == "true"


def _count(name: str, given: dict[str, str]) -> int:
  value = given.pop(name, "0")
  if not value.isdecimal():
    raise UserError(f"--{name}={value}: write a whole number, as in --{name}=5")
  return int(value)


def _topology(path: str, given: dict[str, str]) -> str:
  """The slice to compile for; a config that names one need not be told."""
  topology = given.pop("topology", "")
  if not _is_on("compile_only", given):
    if topology:
      raise UserError(f"--topology={topology} goes with --compile_only")
    return ""
  topology = topology or path.partition("@")[2]
  if not topology:
    raise UserError("--compile_only needs --topology, as in v6e:16x16")
  chips.find_slice(topology)
  return topology
