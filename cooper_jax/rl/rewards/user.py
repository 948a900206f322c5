"""User reward: a function of a file of your own, named as FILE.py:function.

It is called once a step with everything by keyword, as TRL's GRPOTrainer calls
a reward function, and returns a number for each response, None to abstain:

  def reward(prompts, completions, **columns):
    return [float(len(text) < 80) for text in completions]

prompts: the questions; completions: the responses in the markup of the data
(`<think> .. </think> <depth> .. <answer> .. </answer>`). columns: answer,
answer_type, options, unit, value, flag, family, the true map of each modality;
maps, what was drawn, as (modality, codes, target) a map; groups, the prompt's
number; truncated. All are tuples or read-only arrays of one entry a response.

Whatever is wrong with it ends the run in one line, naming its file and line:
training on without a reward would go unseen.

Ways to game it: whatever the function leaves open.
"""

import dataclasses
import functools
import importlib.util
import math
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cooper_jax.errors import UserError, nearest

_SETTING = "config.grpo.rl.settings.user.function"


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the user's reward."""

  function: str = ""  # FILE.py:function; its file is run when a run begins


def check(config: Config) -> None:
  """Raises UserError where there is no such function."""
  load(config.function)


def reward(view, columns, config: Config) -> np.ndarray:
  """What the function returns [R], NaN for None; UserError where it fails."""
  function = load(config.function)
  given = dict(columns)
  try:
    values = function(
      prompts=given.pop("question", ("",) * len(view)),
      completions=view.text,
      maps=view.maps,
      groups=view.group,
      truncated=view.truncated,
      **given,
    )
  except Exception as error:
    raise UserError(_said(config.function, error)) from error
  return _numbers(values, len(view), config.function)


def load(named: str) -> Callable:
  """The function of FILE.py:function; its file is run once a process."""
  path, colon, name = named.rpartition(":")
  if not (colon and path and name.isidentifier()):
    raise UserError(
      f'{_SETTING} is "{named}"; name a file and a function in it, as in'
      " a.py:reward"
    )
  return _load(str(Path(path).expanduser().absolute()), name)


@functools.cache
def _load(path: str, name: str) -> Callable:
  if not Path(path).is_file():
    raise UserError(f"{_SETTING} names {path}, and there is no such file")
  # A name of its own: the file may be called as a module is.
  spec = importlib.util.spec_from_file_location(
    f"cooper_jax_user_reward_{Path(path).stem}", path
  )
  if spec is None:
    raise UserError(f"{_SETTING} names {path}, which is no .py file")
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module  # its dataclasses look there
  try:
    spec.loader.exec_module(module)
  except Exception as error:
    raise UserError(_said(path, error)) from error
  found = getattr(module, name, None)
  if not callable(found):
    here = [n for n, v in vars(module).items() if callable(v) and n[0] != "_"]
    raise UserError(
      f"{_SETTING} names {name}, which {path} does not have; it has"
      f" {', '.join(sorted(here)) or 'no function'}{nearest(name, here)}"
    )
  return found


def _said(where: str, error: Exception) -> str:
  """One line: which file and line, and what went wrong."""
  path = str(Path(where.rpartition(":")[0] or where).expanduser().absolute())
  frames = traceback.extract_tb(error.__traceback__)
  line = next((f.lineno for f in frames[::-1] if f.filename == path), None)
  if isinstance(error, SyntaxError) and error.filename == path:
    line = error.lineno
  at = f"{path}, line {line}" if line else path
  words = " ".join(str(error).split())
  return f"the reward {where} failed ({at}): {type(error).__name__}: {words}"


def _numbers(values, rows: int, named: str) -> np.ndarray:
  """[R] f32 of what a function returned; raises UserError for other things."""
  try:
    found = [math.nan if v is None else float(v) for v in values]
  except (TypeError, ValueError) as error:
    raise UserError(
      f"the reward {named} returned {_short(values)}; return a list with a"
      " number for each response, None to abstain"
    ) from error
  if len(found) != rows:
    raise UserError(
      f"the reward {named} returned {len(found)} numbers for {rows} responses;"
      " return one for each"
    )
  if any(math.isinf(value) for value in found):
    raise UserError(
      f"the reward {named} returned an infinite number; return finite ones,"
      " None to abstain"
    )
  return np.array(found, np.float32)


def _short(value) -> str:
  words = " ".join(repr(value).split())
  return words if len(words) <= 60 else f"{words[:57]}.."
