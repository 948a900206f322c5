"""A disk without room for a stage's checkpoints is found before its steps."""

import collections

import jax.numpy as jnp
import pytest

from cooper_jax.errors import UserError
from cooper_jax.training import checkpoint, disk_space
from tests.training import test_loop

MIB = 2**20
Usage = collections.namedtuple("Usage", "total used free")


def has(monkeypatch, megabytes):
  """The disk has this much room, for whoever asks."""
  usage = Usage(0, 0, int(megabytes * MIB))
  monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda path: usage)


def check(folder, *, saves, keep=2, there=0):
  checkpoints = checkpoint.Checkpoints(folder / "checkpoints", keep=keep)
  for step in range(there):
    (checkpoints.directory / str(step + 1)).mkdir(parents=True)
  state = {"w": jnp.zeros(MIB, jnp.float32)}  # 4 MiB
  disk_space.check(checkpoints, state, label="toy", saves=saves)


@pytest.mark.parametrize(
  ("options", "more"),
  [
    (dict(saves=9), 3),  # two that stay, and the one that is written
    (dict(saves=9, keep=1), 2),
    (dict(saves=2), 2),
    (dict(saves=1), 1),
    (dict(saves=9, there=1), 2),
    (dict(saves=9, there=2), 1),
    (dict(saves=9, there=3), 1),
  ],
)
def test_the_need_is_that_of_all_checkpoints_to_come(
  options, more, tmp_path, monkeypatch
):
  # One takes 1.1 x (4 + 1) MiB: the arrays and what is said of them.
  has(monkeypatch, 5.5 * more + 0.01)
  check(tmp_path / "fits", **options)
  has(monkeypatch, 5.5 * more - 0.01)
  with pytest.raises(UserError) as said:
    check(tmp_path / "full", **options)
  text = str(said.value)
  assert text.startswith(f"toy needs {-(-55 * more // 10)} MiB for {more} ")
  assert "MiB free" in text and ("config.toy.keep" in text) == (more > 1)


def test_the_best_by_validation_needs_room_too(tmp_path, monkeypatch):
  has(monkeypatch, 8)  # enough for the checkpoints of this toy alone
  test_loop.run(tmp_path / "alone")
  watched = test_loop.Watched()
  watched.room = lambda state: 8 * MIB
  with pytest.raises(UserError, match=r"toy needs .* and the best by"):
    test_loop.run(tmp_path / "watched", validation=watched)


def test_no_step_is_taken_where_the_disk_is_full(tmp_path, monkeypatch):
  taken = []

  def step(state, batch):
    taken.append(1)
    return test_loop.train_step(state, batch)

  has(monkeypatch, 0.5)
  with pytest.raises(UserError, match="toy needs"):
    test_loop.run(tmp_path, step_fn=step)
  assert taken == []
