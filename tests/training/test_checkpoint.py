"""What is saved comes back bit for bit, or not at all."""

import collections
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.training import (
  checkpoint,
  checkpoint_folder,
  optim,
  state,
)
from cooper_jax.training.checkpoint import Checkpoints


def make_state(width=8, name="muon"):
  params = {
    "blocks": {
      "q": {"kernel": jnp.linspace(0, 1, 2 * width * 4).reshape(2, width, 4)}
    },
    "table": jnp.arange(6, dtype=jnp.bfloat16),
  }
  optimizer = optim.make_optimizer(
    optim.OptimConfig(name=name, learning_rate=1e-3, adam_learning_rate=1e-3),
    steps=9,
  )
  return state.create(params, optimizer, key=jax.random.key(7), ema=True)


@pytest.fixture
def saved(tmp_path):
  checkpoints = Checkpoints(tmp_path / "checkpoints")
  made = make_state()
  data = {"position": 5, "order": np.arange(3, dtype=np.int64), "raw": b"\0x"}
  checkpoints.save(4, made, data_state=data, meta={"window": 0.1 + 0.2})
  yield checkpoints, made
  checkpoints.close()


def assert_same(one, other):
  one, other = checkpoint.flatten(one), checkpoint.flatten(other)
  assert one.keys() == other.keys()
  for name, leaf in one.items():
    assert leaf.dtype == other[name].dtype, name
    np.testing.assert_array_equal(leaf, other[name], err_msg=name)


def test_everything_comes_back_bit_for_bit(saved):
  checkpoints, made = saved
  restored, data, meta = checkpoints.restore(jax.eval_shape(lambda: made))
  assert_same(restored, made)
  # The key draws what the key before would have drawn.
  assert jnp.array_equal(
    jax.random.bits(restored.key, (4,)), jax.random.bits(made.key, (4,))
  )
  assert data["position"] == 5 and data["raw"] == b"\0x"
  np.testing.assert_array_equal(data["order"], np.arange(3))
  assert data["order"].dtype == np.int64
  assert meta["window"] == 0.1 + 0.2


def test_parameters_can_be_read_without_the_rest(saved):
  checkpoints, made = saved
  params = checkpoints.restore_part("params", made.params)
  assert_same(params, made.params)


def test_nothing_saved_gives_none(tmp_path):
  checkpoints = Checkpoints(tmp_path / "none")
  assert checkpoints.latest() is None
  assert checkpoints.restore(make_state()) is None
  assert not (tmp_path / "none").exists()


def test_only_the_newest_are_kept(saved):
  checkpoints, made = saved
  for step in (5, 6):
    checkpoints.save(step, made, data_state={}, meta={})
  assert checkpoints.steps() == [5, 6]


def test_another_shape_is_refused_by_name(saved):
  checkpoints, _ = saved
  with pytest.raises(UserError) as caught:
    checkpoints.restore(make_state(width=16))
  message = str(caught.value)
  assert "q/kernel is float32[2,8,4] there" in message
  assert "float32[2,16,4] here" in message
  assert "\n" not in message


def test_another_optimiser_is_refused_by_name(saved):
  checkpoints, _ = saved
  with pytest.raises(UserError, match="absent"):
    checkpoints.restore(make_state(name="adamw"))


def payloads(folder: pathlib.Path):
  """Files that hold array data, largest first."""
  files = [path for path in folder.rglob("d/*") if path.is_file()]
  return sorted(files, key=lambda path: -path.stat().st_size)


def contents(folder: pathlib.Path):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }


@pytest.mark.parametrize("damage", ["truncated", "missing", "no meta", "empty"])
def test_a_damaged_checkpoint_is_one_line_and_nothing_changes(saved, damage):
  checkpoints, made = saved
  folder = checkpoints.directory / "4"
  if damage == "truncated":
    for path in payloads(folder):
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  elif damage == "missing":
    for path in payloads(folder):
      path.unlink()
  elif damage == "no meta":
    shutil.rmtree(folder / "meta")
  else:
    shutil.rmtree(folder)
    folder.mkdir()
  before = contents(checkpoints.directory)
  with pytest.raises(UserError) as caught:
    Checkpoints(checkpoints.directory).restore(made)
  message = str(caught.value)
  assert "checkpoint of step 4 is damaged" in message
  assert str(folder) in message
  assert "\n" not in message
  assert contents(checkpoints.directory) == before


def test_a_flipped_bit_is_noticed(saved):
  # Orbax alone restores most of these in silence, with wrong values.
  checkpoints, made = saved
  target = payloads(checkpoints.directory / "4")[0]
  honest = target.read_bytes()
  for place in range(7, len(honest), len(honest) // 12):
    damaged = bytearray(honest)
    damaged[place] ^= 16
    target.write_bytes(damaged)
    try:
      restored, _, _ = Checkpoints(checkpoints.directory).restore(made)
    except UserError as error:
      assert "is damaged" in str(error)
    else:
      assert_same(restored, made)  # the bit carried nothing


@pytest.fixture
def two(saved):
  """Another checkpoint before and after, with other numbers."""
  checkpoints, made = saved
  data = {"next_index": 1280, "workers": {"0": 17}}
  meta = {"step": 60, "window": {"loss": [2.5, 8.0]}, "skipped": 0}
  checkpoints.save(60, made, data_state=data, meta=meta)
  checkpoints.close()
  return checkpoints.directory, made


def numbers_of(folder):
  """Every digit in a checkpoint's JSON, as (file, place)."""
  for name in ("data", "meta"):
    path = folder / name / "metadata"
    for place, byte in enumerate(path.read_bytes()):
      if chr(byte).isdigit():
        yield path, place


def test_a_flipped_digit_anywhere_is_noticed_and_the_older_one_used(
  two, capsys
):
  directory, made = two
  digits = list(numbers_of(directory / "60"))
  assert len(digits) > 100  # step, position, averages, shapes, checksums
  for path, place in digits:
    honest = path.read_bytes()
    damaged = bytearray(honest)
    damaged[place] = ord("0") + (damaged[place] - ord("0") + 1) % 10
    path.write_bytes(damaged)
    # What is told from JSON alone needs no array to be read.
    with pytest.raises(checkpoint_folder.Damaged):
      checkpoint_folder.describe(directory / "60")
    path.write_bytes(honest)
  assert checkpoint_folder.describe(directory / "60")
  for path, place in digits[:: len(digits) // 5]:
    honest = path.read_bytes()
    path.write_bytes(honest[:place] + b"x" + honest[place + 1 :])
    _, data, meta = Checkpoints(directory).restore(made)
    assert data["position"] == 5 and meta == {"window": 0.1 + 0.2}
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "checkpoint of step 60 is damaged" in said
    assert "step 4 is used" in said and "it is now 60.damaged" in said
    aside = directory / "60.damaged"
    assert Checkpoints(directory).steps() == [4] and aside.is_dir()
    aside.rename(directory / "60")
    path.write_bytes(honest)
  _, _, meta = Checkpoints(directory).restore(made)
  assert meta["step"] == 60


def test_every_byte_of_what_is_kept_as_json_is_guarded(two):
  directory, _ = two
  whole = checkpoint_folder.describe(directory / "60")
  for name in ("data", "meta"):
    path = directory / "60" / name / "metadata"
    honest = path.read_bytes()
    for place in range(len(honest)):
      for mask in (1, 32, 128):
        damaged = bytearray(honest)
        damaged[place] ^= mask
        path.write_bytes(damaged)
        try:
          # A space that became another, say, carried nothing.
          assert checkpoint_folder.describe(directory / "60") == whole, damaged
        except checkpoint_folder.Damaged:
          pass
    path.write_bytes(honest)


def test_the_number_of_a_folder_is_guarded(two, capsys):
  directory, made = two
  (directory / "60").rename(directory / "61")
  assert Checkpoints(directory).restore(made)[1]["position"] == 5
  assert "its own step is 60" in capsys.readouterr().err


def test_what_was_saved_before_there_was_that_checksum_is_read(two):
  directory, made = two
  path = directory / "60" / "meta" / "metadata"
  record = json.loads(path.read_text())
  del record["step"], record["checksum"]
  path.write_text(json.dumps(record))
  assert Checkpoints(directory).restore(made)[2]["step"] == 60
  # But not half of it, as after a flipped letter.
  path.write_text(json.dumps(record | {"step": 60, "checksun": 1}))
  with pytest.raises(checkpoint_folder.Damaged, match="checksun"):
    checkpoint_folder.describe(directory / "60")


def damage_arrays(folder):
  for path in payloads(folder):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_after_a_damaged_one_its_step_can_be_saved_again(two):
  directory, made = two
  for name in ("60.damaged", "60.damaged1"):
    damage_arrays(directory / "60")
    checkpoints = Checkpoints(directory, keep=2)
    checkpoints.restore(made)
    checkpoints.save(60, made, data_state={}, meta={})
    checkpoints.close()
    assert checkpoints.steps() == [4, 60] and (directory / name).is_dir()
  checkpoints.save(61, made, data_state={}, meta={})
  checkpoints.close()
  assert checkpoints.steps() == [60, 61]
  assert (directory / "60.damaged").is_dir()  # for a look, until it is deleted


def test_where_all_are_damaged_nothing_changes(two):
  directory, made = two
  damage_arrays(directory / "60")
  shutil.rmtree(directory / "4" / "data")
  before = contents(directory)
  with pytest.raises(UserError) as caught:
    Checkpoints(directory).restore(made)
  message = str(caught.value)
  assert "checkpoint of step 60 is damaged" in message
  assert "so are all 1 before it" in message and "\n" not in message
  assert contents(directory) == before


def test_reading_tools_say_it_and_rename_nothing(two, capsys):
  directory, made = two
  damage_arrays(directory / "60")
  before = contents(directory)
  checkpoints = Checkpoints(directory)
  params = checkpoints.restore_part("params", made.params, older=True)
  assert_same(params, made.params)
  assert "step 4 is read instead" in capsys.readouterr().err
  with pytest.raises(UserError, match="step 60 is damaged") as caught:
    checkpoints.restore_part("params", made.params)
  stage = directory.parent
  assert f"delete {stage / 'stage.json'}" in str(caught.value)
  shutil.rmtree(directory / "4")
  with pytest.raises(UserError, match=f"delete {stage} to start"):
    checkpoints.restore_part("params", made.params, older=True)
  left = {name: each for name, each in before.items() if name[:2] == "60"}
  assert contents(directory) == left


@pytest.mark.parametrize(
  "error",
  [
    MemoryError(),
    ValueError("RESOURCE_EXHAUSTED: 4 GiB"),
    OSError(24, "Too many open files"),
  ],
)
def test_a_machine_that_fails_damages_no_checkpoint(two, monkeypatch, error):
  directory, made = two

  class Failing:
    def restore(self, *args, **options):
      raise error

  monkeypatch.setattr(checkpoint_folder, "_reader", Failing)
  before = contents(directory)
  with pytest.raises(type(error)):
    Checkpoints(directory).restore(made)
  assert contents(directory) == before


def test_what_may_not_be_read_is_not_called_damaged(two, monkeypatch):
  directory, made = two

  def refuse(self):
    raise PermissionError(13, "Permission denied", str(self))

  monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)
  with pytest.raises(UserError, match="may not be read"):
    Checkpoints(directory).restore(made)
  assert Checkpoints(directory).steps() == [4, 60]


def test_a_wrong_checksum_names_the_array(saved, monkeypatch):
  checkpoints, made = saved
  monkeypatch.setattr(checkpoint_folder, "checksum", lambda leaf: 1)
  with pytest.raises(UserError, match=r"checksum of \S+ differs"):
    checkpoints.restore(made)


def test_too_few_bytes_on_the_disk_is_said_before_writing(saved, monkeypatch):
  checkpoints, made = saved
  usage = collections.namedtuple("usage", "total used free")
  monkeypatch.setattr(
    checkpoint.shutil, "disk_usage", lambda path: usage(10, 9, 1000)
  )
  with pytest.raises(UserError, match=r"needs 1 MiB, .* has 0 MiB free"):
    checkpoints.save(5, made, data_state={}, meta={})
  assert checkpoints.steps() == [4]


def test_a_spread_state_restores_onto_its_own_shardings(tmp_path):
  from cooper_jax.parallel.mesh import MeshConfig, make_mesh

  mesh = make_mesh(MeshConfig(data=4, fsdp=2))
  spread = jax.sharding.NamedSharding(mesh, jax.P("fsdp"))
  everywhere = jax.sharding.NamedSharding(mesh, jax.P())
  made = {
    "w": jax.device_put(jnp.arange(8.0), spread),
    "key": jax.device_put(jax.random.key(3), everywhere),
  }
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(1, made, data_state={}, meta={})
  restored, _, _ = checkpoints.restore(made)
  assert restored["w"].sharding == spread
  # Else no step could take it together with the others.
  assert restored["key"].sharding.device_set == everywhere.device_set
  assert_same(restored, made)
  checkpoints.close()


def test_json_round_trip_keeps_arrays_and_bytes():
  value = {
    "a": np.array([[1.5, np.nan]], np.float32),
    "b": b"\xff\x00",
    "c": [1, "x", None, {"d": np.int64(3)}],
  }
  back = checkpoint.from_json(checkpoint.to_json(value))
  np.testing.assert_array_equal(back["a"], value["a"])
  assert back["a"].dtype == np.float32
  assert back["b"] == value["b"]
  assert back["c"] == [1, "x", None, {"d": 3}]
