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
training on without a reward would go unseen. A digest of the file is among the
stage's settings: a run does not go on with another file. What that one imports
is not looked at.

Ways to game it: whatever the function leaves open.
"""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cooper_jax import python_file
from cooper_jax.errors import CODE_FAILS, UserError, fault, nearest, short

_SETTING = "config.grpo.rl.settings.user.function"
_LARGEST = float(np.finfo(np.float32).max)
_WANTED = (
  "return a list with a finite number for each response, None to abstain"
)
_NO_LIST = (str, bytes, Mapping, Set)  # iterated over, no number a response


class GivenMap(NamedTuple):
  """A drawn map, as a function is given it."""

  modality: str
  codes: np.ndarray  # [Q]
  target: np.ndarray  # what the codes stand for, as depth in metres


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the user's reward."""

  function: str = ""  # FILE.py:function; its file is run when a run begins
  digest: str = ""  # digest of the file, noted when a run begins; "" = any


def check(config: Config) -> None:
  """Raises UserError where there is no such function."""
  load(config.function)


def note(config) -> None:
  """Notes the file's digest in a run's config; UserError for another one."""
  settings = config.grpo.rl.settings.user
  path = Path(settings.function.rpartition(":")[0]).expanduser()
  if config.grpo.rl.rewards.user is None or not path.is_file():
    return  # `check` says what is wrong
  found = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
  if settings.digest not in ("", found):
    raise UserError(
      f"{_SETTING}: {path} has the digest {found}, and {settings.digest} was"
      " asked for; name the file that has it"
    )
  settings.digest = found


def reward(view, columns, config: Config) -> np.ndarray:
  """What the function returns [R], NaN for None; UserError where it fails."""
  function = load(config.function)
  given = dict(columns)
  try:
    values = function(
      prompts=given.pop("question", ("",) * len(view)),
      completions=view.text,
      maps=tuple(tuple(GivenMap(*m[:3]) for m in maps) for maps in view.maps),
      groups=view.group,
      truncated=view.truncated,
      **given,
    )
    if isinstance(values, Iterable) and not isinstance(values, _NO_LIST):
      values = [*values]  # here, for a generator fails where it is read
  except CODE_FAILS as error:
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
  try:
    module = python_file.load(Path(path), "reward")
  except CODE_FAILS as error:
    raise UserError(_said(path, error)) from error
  if module is None:
    raise UserError(f"{_SETTING} names {path}, which is no .py file")
  found = getattr(module, name, None)
  if not callable(found):
    here = [n for n, v in vars(module).items() if callable(v) and n[0] != "_"]
    raise UserError(
      f"{_SETTING} names {name}, which {path} does not have; it has"
      f" {', '.join(sorted(here)) or 'no function'}{nearest(name, here)}"
    )
  return found


def _said(where: str, error: BaseException) -> str:
  """One line: which file and line, and what went wrong."""
  path = str(Path(where.rpartition(":")[0] or where).expanduser().absolute())
  return f"the reward {where} failed {fault(path, error)}"


def _numbers(values, rows: int, named: str) -> np.ndarray:
  """[R] f32 of what a function returned; raises UserError for other things."""
  if not isinstance(values, list):
    raise UserError(f"the reward {named} returned {short(values)}; {_WANTED}")
  if len(values) != rows:
    raise UserError(
      f"the reward {named} returned {len(values)} numbers for {rows} responses;"
      " return one for each"
    )
  found_R = np.full(rows, np.nan, np.float32)
  for row, value in enumerate(values):
    if value is None:
      continue
    try:
      number = math.nan if isinstance(value, str) else float(value)
    except Exception:
      number = math.nan
    if not abs(number) <= _LARGEST:
      raise UserError(
        f"the reward {named} returned {short(value)} for response {row};"
        f" {_WANTED}"
      )
    found_R[row] = number
  return found_R
