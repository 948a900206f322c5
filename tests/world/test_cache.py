"""The rendered world on disk: written once, whole, by any number of workers."""

import copy
import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict

from cooper_jax import sample
from cooper_jax.data import mixture
from cooper_jax.errors import UserError
from cooper_jax.sample import Question, Sample
from cooper_jax.world import cache, cache_writer
from cooper_jax.world.config import WorldConfig

WORLD = WorldConfig(image_size=16)


def fake(world, split, start, count):
  """Samples like the world's, made in no time."""
  for index in range(start, start + count):
    rng = np.random.default_rng([world.seed, index])
    size = (world.image_size,) * 2
    yield Sample(
      id=f"{split}-{index}",
      source="fake",
      image=rng.integers(0, 256, (*size, 3)).astype(np.uint8),
      maps={
        "depth": rng.uniform(1, 9, size).astype(np.float32),
        "segmentation": rng.integers(0, 9, size).astype(np.uint8),
      },
      instances=rng.integers(0, 3, size).astype(np.uint8),
      questions=(Question("count", "How many ?", str(index), "number"),),
    )


@pytest.fixture
def rendered(tmp_path, monkeypatch):
  """A cache of 70 fake samples in three shards."""
  monkeypatch.setattr(cache_writer, "generate", fake)
  monkeypatch.setattr(cache, "SHARD", 32)
  return cache.build(WORLD, split="train", count=70, root=tmp_path, workers=1)


def test_samples_come_back_in_any_order(rendered):
  source = cache.CachedSource(rendered)
  assert len(source) == 70 and len(source.manifest["shards"]) == 3
  for index in (69, 0, 33, 31, 32):
    (expected,) = fake(WORLD, "train", index, 1)
    got = source[index]
    assert (got.id, got.questions) == (expected.id, expected.questions)
    assert np.array_equal(got.image, expected.image)
    assert np.array_equal(
      got.maps["segmentation"], expected.maps["segmentation"]
    )
    # depth is stored in half precision: 11 bits of mantissa
    assert np.allclose(
      got.maps["depth"], expected.maps["depth"], rtol=2**-11, atol=0
    )
  for read in (source.__getitem__, source.questions):
    with pytest.raises(IndexError):
      read(70)
  assert copy.deepcopy(source)[69].id == "train-69"  # as a worker gets it
  cache.verify(rendered)


def test_a_finished_cache_is_used_again(rendered, monkeypatch):
  def never(*_):
    raise AssertionError("rendered again")

  monkeypatch.setattr(cache_writer, "generate", never)
  root = rendered.parent
  assert cache.build(WORLD, split="train", count=70, root=root) == rendered
  for world, split, count in (
    (dataclasses.replace(WORLD, seed=1), "train", 70),
    (WORLD, "test", 70),
    (WORLD, "train", 71),
  ):
    with pytest.raises(AssertionError, match="rendered again"):
      cache.build(world, split=split, count=count, root=root)


def test_a_failed_build_leaves_nothing(tmp_path, monkeypatch):
  def dies(world, split, start, count):
    if start:
      raise KeyboardInterrupt
    yield from fake(world, split, start, count)

  monkeypatch.setattr(cache_writer, "generate", dies)
  with pytest.raises(KeyboardInterrupt):
    cache.build(WORLD, split="train", count=70, root=tmp_path, workers=1)
  assert list(tmp_path.iterdir()) == []


def test_too_small_a_disk_is_said_before_rendering(tmp_path, monkeypatch):
  monkeypatch.setattr(cache_writer, "generate", fake)
  usage = shutil.disk_usage(tmp_path)._replace(free=1000)
  monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage)
  with pytest.raises(UserError, match=r"train scenes need .* MB .* are free"):
    cache.build(WORLD, split="train", count=8, root=tmp_path)
  assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cant_be_written_is_one_line(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match=r"config\.data\.cache"):
    cache.build(WORLD, split="train", count=8, root=tmp_path / "file" / "x")


def test_a_damaged_record_names_file_and_index(rendered):
  shard = rendered / "00001-of-00003.array_record"
  raw = bytearray(shard.read_bytes())
  raw[40_000:40_064] = bytes(64)  # within the first block of 64 KiB
  shard.write_bytes(raw)
  source = cache.CachedSource(rendered)
  broken = []
  for index in range(70):
    try:
      source[index]
    except UserError as error:
      broken.append(index)
      assert f"{shard}: record {index - 32} (sample {index})" in str(error)
      assert "\n" not in str(error)
  assert broken and all(32 <= index < 64 for index in broken)
  with pytest.raises(UserError, match="not what was written"):
    cache.verify(rendered)
  raw[65_536 : 65_536 + 64] = bytes(64)  # the header of the second block
  shard.write_bytes(raw)
  with pytest.raises(UserError, match=f"{shard} is damaged"):
    cache.CachedSource(rendered)


@pytest.mark.parametrize("damage", ["cut", "gone", "manifest", "version"])
def test_an_incomplete_folder_is_refused(rendered, damage):
  shard, manifest = (
    rendered / "00002-of-00003.array_record",
    rendered / cache.MANIFEST,
  )
  if damage == "cut":
    shard.write_bytes(shard.read_bytes()[:-10])
  elif damage == "gone":
    shard.unlink()
  elif damage == "manifest":
    manifest.write_text("{")
  else:
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"version": 99}))
  with pytest.raises(UserError, match="rendered again"):
    cache.CachedSource(rendered)


def test_arrays_hold_the_same_samples(rendered):
  source = cache.CachedSource(rendered)
  arrays = cache.load_arrays(source)
  assert arrays["image"].shape == (70, 16, 16, 3)
  assert arrays["depth"].dtype == np.float32
  memory = cache.MemorySource(arrays, "world")
  assert len(memory) == 70
  for index in (0, 69):
    one, other = source[index], memory[index]
    assert (one.id, one.questions) == (other.id, other.questions)
    for name in cache.ARRAYS:
      assert np.array_equal(getattr(one, name), getattr(other, name))
    assert one.maps.keys() == other.maps.keys() == {"depth", "segmentation"}
    for name, array in one.maps.items():
      assert np.array_equal(array, other.maps[name])
  assert len(cache.load_arrays(source, count=5, maps=("depth",))["id"]) == 5


def test_questions_are_read_without_pictures(rendered, monkeypatch):
  source = cache.CachedSource(rendered)
  memory = cache.MemorySource(cache.load_arrays(source), "world")
  both = mixture.Mixture((source, [source[3], source[4]]))
  whole = [both[i].questions for i in range(len(both))]
  monkeypatch.setattr(sample, "_unpack", None)  # of pictures and maps
  assert [source.questions(i) for i in range(70)] == whole[:70]
  assert [memory.questions(i) for i in range(70)] == whole[:70]
  assert [mixture.questions_of(both, i) for i in range(72)] == whole
  with pytest.raises(IndexError):
    both.questions(72)


def test_arrays_need_the_same_maps_everywhere():
  both = [next(fake(WORLD, "train", 0, 1))] * 2
  bare = dataclasses.replace(
    both[0], maps={"segmentation": both[0].maps["segmentation"]}
  )
  assert "depth" not in cache.load_arrays([bare, bare])
  for samples in ([both[0], bare], [bare, both[0]]):
    with pytest.raises(UserError, match="depth"):
      cache.load_arrays(samples)


def test_subprocesses_write_the_bytes_that_one_process_writes(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(cache, "SHARD", 4)
  monkeypatch.setenv("PYTHONUNBUFFERED", "1")  # as in a container
  paths = [
    cache.build(
      WORLD,
      split="test",
      count=10,
      root=tmp_path / str(workers),
      workers=workers,
    )
    for workers in (1, 2)
  ]
  files = [sorted(p.name for p in path.iterdir()) for path in paths]
  assert files[0] == files[1] and len(files[0]) == 4
  for name in files[0]:
    assert (paths[0] / name).read_bytes() == (paths[1] / name).read_bytes()
  assert cache.CachedSource(paths[1])[9].questions


def test_renderers_do_not_load_jax():
  program = (
    "import sys, cooper_jax.world.cache_writer, cooper_jax.world;"
    "sys.exit(any(name in sys.modules for name in ('jax', 'tensorflow')))"
  )
  assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_renderer_that_fails_is_one_line(tmp_path, monkeypatch):
  monkeypatch.setattr(cache, "SHARD", 4)
  monkeypatch.setattr(cache_writer.sys, "executable", "/bin/false")
  with pytest.raises(UserError, match="rendering test scenes failed"):
    cache.build(WORLD, split="test", count=8, root=tmp_path, workers=2)
  assert list(tmp_path.iterdir()) == []


def test_the_world_is_a_source(tmp_path):
  config = mixture.DataConfig(
    image_size=16, cache=str(tmp_path), train_scenes=3, world=WORLD
  )
  disk = mixture.open_split(config, "train")
  memory = mixture.open_split(
    dataclasses.replace(config, in_memory=True), "train"
  )
  assert len(disk) == len(memory) == 3
  assert disk[2].questions == memory[2].questions
  assert np.array_equal(disk[2].image, memory[2].image)
  for wrong in ({"image_size": 32}, {"world": None}):
    with pytest.raises(UserError, match="config"):
      mixture.open_split(dataclasses.replace(config, **wrong), "train")
  with pytest.raises(UserError, match='mean "train"'):
    mixture.open_split(config, "trian")


def test_a_runs_config_is_read_whole():
  config = ConfigDict({"data": {"train_scenes": 3}, "world": {"seed": 5}})
  config.data.image_size = 32
  data = mixture.DataConfig.from_config(config)
  assert (data.train_scenes, data.names) == (3, ("world",))
  assert (data.world.seed, data.world.image_size) == (5, 32)
  for section, key, value in (
    ("data", "image_siz", 1),
    ("world", "sed", 1),
    ("world", "max_objects", 99),
  ):
    wrong = ConfigDict(config.to_dict())
    wrong[section][key] = value
    with pytest.raises(UserError, match=rf"config\.{section}: .*{key[-6:]}"):
      mixture.DataConfig.from_config(wrong)
