"""Every setting has a kind, and all that is here is of it."""

import pytest

from configs import base
from cooper_jax import command
from cooper_jax.errors import UserError, nearest
from cooper_jax.settings import kinds
from cooper_jax.training import json_files

CLASSES = base.SECTION_CLASSES


def config(variant="smoke"):
  return command.load_config(f"configs/grpo.py:{variant}")


def test_every_setting_has_a_kind():
  known = kinds.hints(CLASSES)
  names = json_files.flat(config().to_dict())
  assert len(names) > 200 and set(names) <= set(known)
  # A number says nothing of a kind that is not known.
  assert not [n for n in names if known[n] in (dict, tuple, kinds.typing.Any)]


@pytest.mark.parametrize("variant", ["tiny", "scratch", "long", "7b@v6e:16x16"])
def test_every_config_that_is_here_is_of_its_kinds(variant):
  kinds.check(config(variant), CLASSES)


def test_no_setting_but_a_reward_may_be_none():
  for name in json_files.flat(config().to_dict()):
    made = config().copy_and_resolve_references()
    *sections, last = name.split(".")
    here = made
    for section in sections:
      here = here[section]
    with made.unlocked(), here.ignore_type():
      here[last] = None
    if name.startswith("grpo.rl.rewards."):
      kinds.check(made, CLASSES)
      continue
    with pytest.raises(UserError, match=f"^config.{name} is None; allowed: "):
      kinds.check(made, CLASSES)


@pytest.mark.parametrize(
  ("value", "hint", "fit"),
  [
    ((), tuple[str, ...], True),
    (("a",), tuple[str, ...], True),
    (["a"], tuple[str, ...], True),  # as a file of one's own may have it
    ("a", tuple[str, ...], False),
    ((1, 0.5), tuple[float, ...], True),
    ((True,), tuple[float, ...], False),
    ((1.0,), tuple[int, ...], False),
    ((1, 2), tuple[int, int], True),
    ((1, 2, 3), tuple[int, int], False),
    ((("a", "b"),), tuple[tuple[str, str], ...], True),
    ((("a", 1),), tuple[tuple[str, str], ...], False),
    (None, float | None, True),
    (0.5, float | None, True),
    ("a", float | None, False),
    (object(), object, True),
  ],
)
def test_what_fits_a_kind(value, hint, fit):
  assert kinds.fits(value, hint) is fit


@pytest.mark.parametrize("name", [None, 1, -1.5, ("a",)])
def test_nothing_is_near_to_what_is_no_text(name):
  assert nearest(name, ["depth"]) == ""
