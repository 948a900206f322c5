"""A built set gives the very samples of its source, whenever it was stopped."""

import dataclasses
import json
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest

from cooper_jax.data import build, mixture, pipeline, shards, show, splits
from cooper_jax.data.sources import built, jsonl
from cooper_jax.errors import UserError
from cooper_jax.world import cache
from tests.data import layouts

NAMES = sorted(layouts.WRITERS)
SIZE = 16


def config_of(name, folder, **more):
  return show.config_of(name, str(folder), size=SIZE, **more)


def made(name, tmp_path, **more):
  """(config of the source, config of what was built of it, the folder)."""
  layouts.WRITERS[name](tmp_path / "raw")
  config, out = config_of(name, tmp_path / "raw"), tmp_path / "out"
  build.build(config, out, say=lambda line: None, **more)
  return config, show.config_of("built", str(out)), out


def check_alike(one, other):
  assert (one.id, one.source) == (other.id, other.source)
  assert one.questions == other.questions
  assert set(one.maps) == set(other.maps)
  for name in ("image", "camera", "instances"):
    np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
  for name, each in one.maps.items():
    assert each.dtype == other.maps[name].dtype
    np.testing.assert_array_equal(each, other.maps[name])


def check_same(direct, found):
  for split in splits.NAMES:
    one, other = (mixture.open_split(c, split) for c in (direct, found))
    other = pickle.loads(pickle.dumps(other))  # as other processes get it
    assert len(one) == len(other) > 0
    for index in range(len(one)):
      check_alike(one[index], other[index])
      assert one.questions(index) == other.questions(index)
      assert one.kind(index) == other.kind(index)


@pytest.mark.parametrize("name", NAMES)
def test_a_built_set_has_the_very_samples_of_its_source(name, tmp_path):
  direct, found, _ = made(name, tmp_path, workers=1)
  assert found.image_size == SIZE
  check_same(direct, found)
  assert mixture.survey(found)[0].endswith(f"of {name}")


def test_a_mixture_with_two_samples_of_one_id_is_refused(tmp_path, monkeypatch):
  direct, found, _ = made("ade20k", tmp_path, workers=1)
  one = mixture.open_split(found, "train").ids()[0]
  mixture.check_ids(found)
  both = {**direct.settings, **found.settings}
  twice = dataclasses.replace(found, source="ade20k,built", settings=both)
  said = rf"\(ade20k, .* and BuiltSource.*: two samples have the id '{one}'"
  with pytest.raises(UserError, match=said):
    mixture.check_ids(twice)
  monkeypatch.delattr(cache, "build")  # of the world, which is not looked at
  mixture.check_ids(dataclasses.replace(found, source="world,built"))
  made("sunrgbd", tmp_path / "other", workers=1)
  other = show.config_of("sunrgbd", str(tmp_path / "other/raw"), size=SIZE)
  both = {**other.settings, **found.settings}
  mixture.check_ids(
    dataclasses.replace(found, source="sunrgbd,built", settings=both)
  )


def test_questions_are_kept_and_told_without_pictures(tmp_path):
  layouts.picture(tmp_path / "a.png", 1)
  layouts.picture(tmp_path / "b.png", 2)
  layouts.scaled(tmp_path / "a_depth.png", layouts.metres(3), 1000)
  lines = [
    {"image": "a.png", "depth": "a_depth.png", "question": "Which ?",
     "answer": "ball", "options": ["ball", "box"], "camera": [9, 9, 4, 3]},
    {"image": "a.png", "question": "How far ?", "answer": "2.4", "unit": "m",
     "answer_type": "number"},
    {"image": "b.png", "question": "Is it red ?", "answer": "yes"},
  ]  # fmt: skip
  path = tmp_path / "own.jsonl"
  path.write_text("\n".join(map(json.dumps, lines)))
  config, out = config_of("jsonl", path), tmp_path / "out"
  build.build(config, out, workers=1, say=lambda line: None)
  found = show.config_of("built", str(out))
  check_same(config, found)
  for split in splits.NAMES:
    one = [(q, maps) for q, _, maps in jsonl.asked(config, split)]
    other = [(q, [*maps]) for q, _, maps in built.asked(found, split)]
    assert one == other and one
    source = mixture.open_split(found, split)
    assert source.ids() == [source[i].id for i in range(len(source))]


def broken_off(monkeypatch, after):
  """Makes a build die after so many shards."""
  write, done = shards.write, []

  def once(folder, source, job):
    if len(done) == after:
      (folder / f"{job.name}.partial.array_record").write_bytes(b"half")
      raise KeyboardInterrupt
    done.append(job.name)
    return write(folder, source, job)

  monkeypatch.setattr(shards, "write", once)
  return done


def files(folder):
  return {
    p.name: p.read_bytes()
    for p in sorted(folder.iterdir())
    if "partial" not in p.name and p.name != "run.lock"
  }


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_build_that_was_stopped_goes_on(after, tmp_path, monkeypatch):
  monkeypatch.setattr(build, "SHARD_MOST", 2)
  monkeypatch.setattr(build, "SHARD_LEAST", 2)
  _, _, whole = made("ade20k", tmp_path / "a", workers=1)
  with monkeypatch.context() as patch:
    done = broken_off(patch, after)
    with pytest.raises(KeyboardInterrupt):
      made("ade20k", tmp_path / "b", workers=1)
  out = tmp_path / "b/out"
  with pytest.raises(UserError, match="not built to its end"):
    show.config_of("built", str(out))
  before = {n: (out / f"{n}.array_record").stat().st_mtime_ns for n in done}
  said, config = [], config_of("ade20k", tmp_path / "b/raw")
  build.build(config, out, workers=1, say=said.append)
  assert len(said) == (after > 0)
  for name, when in before.items():
    assert (out / f"{name}.array_record").stat().st_mtime_ns == when
  assert files(out) == files(whole)
  build.build(config, out, say=said.append)
  assert said[-1].endswith("is built already")


def pixels(sample, rng):
  return {"image": sample.image, "draw": rng.integers(0, 1 << 30)}


def test_batches_of_a_built_set_go_on_exactly(tmp_path):
  _, found, _ = made("ade20k", tmp_path, workers=1)
  source = mixture.open_split(found, "train")
  options = {"build": pixels, "batch_size": 2, "seed": 5}
  with pipeline.make_batches(source, **options) as batches:
    first = [next(batches) for _ in range(3)]
    state = json.loads(json.dumps(batches.state()))
    rest = [next(batches) for _ in range(5)]
  again = mixture.open_split(found, "train")
  with pipeline.make_batches(again, **options) as batches:
    batches.restore(state)
    for each in rest:
      for name, array in next(batches).items():
        np.testing.assert_array_equal(array, each[name])
  seen = np.concatenate([b["image"] for b in first])[: 2 * len(source)]
  assert len(np.unique(seen[: len(source)], axis=0)) == len(source)
  facts = source._shards[0] | {"count": 1}
  other = shards.BuiltSource(
    source.folder,
    "train",
    {"source": "x", "splits": {"train": {"shards": [facts]}}},
  )
  with (
    pipeline.make_batches(other, **options) as batches,
    pytest.raises(UserError, match="source"),
  ):
    batches.restore(state)


@pytest.mark.slow
def test_a_build_that_is_killed_goes_on_in_several_processes(tmp_path):
  _, _, one = made("hypersim", tmp_path / "a", workers=1)
  layouts.WRITERS["hypersim"](tmp_path / "b")
  code = (
    "import sys; from cooper_jax.data import build;"
    "build.SHARD_MOST = build.SHARD_LEAST = 1;"
    "sys.exit(build.main(sys.argv[1:]))"
  )
  out = tmp_path / "out"
  command = [sys.executable, "-c", code, "hypersim", f"--root={tmp_path / 'b'}"]
  command += [f"--out={out}", "--size=16", "--workers=2"]
  process = subprocess.Popen(command)
  while process.poll() is None and not any(out.glob("*-of-*.json")):
    time.sleep(0.01)
  process.kill()
  process.wait()
  for _ in range(2):
    assert subprocess.run(command, timeout=120).returncode == 0
  check_same(*(show.config_of("built", str(f)) for f in (one, out)))


@pytest.mark.slow
def test_several_processes_write_the_same(tmp_path, monkeypatch):
  monkeypatch.setattr(build, "SHARD_MOST", 2)
  monkeypatch.setattr(build, "SHARD_LEAST", 2)
  _, _, one = made("ade20k", tmp_path / "a", workers=1)
  _, _, two = made("ade20k", tmp_path / "b", workers=2)
  assert files(one) == files(two)


def test_what_was_built_otherwise_is_refused(tmp_path):
  _, found, out = made("ade20k", tmp_path, workers=1)
  for field, value, said in (
    ("image_size", 32, "was built with image_size 16"),
    ("fit", "crop", "was built with fit squash"),
    ("maps", {}, r"another config\.maps\.segmentation\.classes"),
  ):
    other = dataclasses.replace(found, **{field: value})
    with pytest.raises(UserError, match=said):
      mixture.open_split(other, "train")
  # Depth is stored in metres, whatever range is drawn.
  far = {**found.maps, "depth": {"farthest": 80.0}}
  mixture.open_split(dataclasses.replace(found, maps=far), "train")
  other = dataclasses.replace(
    config_of("ade20k", tmp_path / "raw"), image_size=8
  )
  with pytest.raises(UserError, match="image_size is 16, not 8"):
    build.build(other, out)
  (tmp_path / "raw/images/training/ADE_train_00000002.jpg").write_bytes(b"x")
  again = config_of("ade20k", tmp_path / "raw")
  with pytest.raises(UserError, match="changed"):
    build.build(again, out)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
  layouts.WRITERS["ade20k"](tmp_path / "raw")
  (tmp_path / "out").mkdir()
  (tmp_path / "out/mine.txt").write_text("mine")
  config = config_of("ade20k", tmp_path / "raw")
  with pytest.raises(UserError, match=r"other files \(mine\.txt"):
    build.build(config, tmp_path / "out")


@pytest.mark.parametrize(
  "spoil",
  [lambda b: b[:-7], lambda b: b"x" + b[1:], lambda b: b"", None],
  ids=["cut", "changed", "empty", "gone"],
)
@pytest.mark.parametrize("ending", [shards.RECORDS, shards.QUESTIONS])
def test_a_shard_that_is_not_whole_is_refused(spoil, ending, tmp_path):
  _, found, out = made("ade20k", tmp_path, workers=1)
  path = next(
    p for p in out.glob(f"train*{ending}")
    if ("questions" in p.name) == ("questions" in ending)
  )  # fmt: skip
  if spoil:
    path.write_bytes(spoil(path.read_bytes()))
  else:
    path.unlink()
  with pytest.raises(UserError, match=path.name):
    mixture.open_split(found, "train")


def test_bad_samples_are_told_and_counted(tmp_path, capsys):
  layouts.WRITERS["ade20k"](tmp_path / "raw")
  raw = tmp_path / "raw/annotations/training"
  path = raw / "ADE_train_00000001.png"
  path.write_bytes(path.read_bytes()[:40])
  arguments = ["ade20k", f"--root={tmp_path / 'raw'}", "--size=16"]
  arguments += ["--workers=1"]
  assert build.main([*arguments, f"--out={tmp_path / 'a'}"]) == 2
  said = capsys.readouterr().err
  assert "ADE_train_00000001" in said and "allows no more" in said
  out = f"--out={tmp_path / 'b'}"
  assert build.main([*arguments, out, "--bad_samples=0.5"]) == 0
  said = capsys.readouterr().out
  assert "1 left out" in said and "ADE_train_00000001" in said
  found = show.config_of("built", str(tmp_path / "b"))
  ids = [
    one[i].id
    for one in (mixture.open_split(found, n) for n in splits.NAMES)
    for i in range(len(one))
  ]
  assert len(ids) == 4 and "ade20k/training/ADE_train_00000001" not in ids


def test_a_damaged_record_is_one_bad_sample(tmp_path, monkeypatch):
  _, found, _ = made("ade20k", tmp_path, workers=1)
  read = shards.BuiltSource.__getitem__

  def damaged(self, index):
    if self.split == "train" and index == 0:
      raise UserError("record 0 is damaged")
    return read(self, index)

  monkeypatch.setattr(shards.BuiltSource, "__getitem__", damaged)
  with pytest.raises(UserError, match="record 0"):
    mixture.survey(found)
  assert mixture.survey(dataclasses.replace(found, bad_samples=0.9))


def test_several_built_sets_are_mixed_by_their_folders(tmp_path):
  for name in ("kitti", "tum"):
    layouts.WRITERS[name](tmp_path / name)
    config = config_of(name, tmp_path / name)
    out = tmp_path / "out" / name
    build.build(config, out, workers=1, say=lambda line: None)
  found = show.config_of("built:kitti", str(tmp_path / "out"))
  both = dataclasses.replace(found, source="built:kitti,built:tum")
  mixed = mixture.open_split(both, "train")
  assert {each[0].source for each in mixed.sources} == {"kitti", "tum"}
  with pytest.raises(UserError, match="out/gone is no folder"):
    show.config_of("built:gone", str(tmp_path / "out"))


def test_a_part_alone_may_be_built(tmp_path, capsys):
  layouts.WRITERS["ade20k"](tmp_path / "raw")
  for path in (tmp_path / "raw").rglob("*train*.*"):
    path.unlink()
  arguments = ["ade20k", f"--root={tmp_path / 'raw'}", "--size=16"]
  arguments += ["--workers=1", f"--out={tmp_path / 'out'}"]
  assert build.main(arguments) == 2
  assert "no samples of split 'train', only of test" in capsys.readouterr().err
  with pytest.raises(UserError, match="is no folder"):
    show.config_of("built", str(tmp_path / "out"))
  assert build.main([*arguments, "--splits=test"]) == 0
  found = show.config_of("built", str(tmp_path / "out"))
  assert len(mixture.open_split(found, "test")) == 1
  assert len(show.opened(found, "all")) == 1
  with pytest.raises(UserError, match="built without split 'train', of test"):
    mixture.open_split(found, "train")
  assert build.main([*arguments, "--splits=train,test"]) == 2
