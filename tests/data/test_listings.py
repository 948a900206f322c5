"""Broken lines of lists spoil their own samples; official splits are taken."""

import h5py
import numpy as np
import pytest

from cooper_jax.data import (
  data_sets,
  fingerprints,
  map_examples,
  mixture,
  records,
  show,
  splits,
)
from tests import own_data
from tests.data import layouts
from tests.data.test_layouts import first_map


def test_a_frame_without_a_label_keeps_its_depth(tmp_path):
  source, path = first_map("hypersim", tmp_path, "segmentation")
  with h5py.File(path, "r+") as file:
    file["dataset"][...] = -1
  for maps in (source[0].maps, source.native(0)[1]):
    assert set(maps) == {"depth"}
  places = map_examples.places(source, source_modules(source))
  assert len(places["segmentation"]) == 3  # by their kind
  found = map_examples.read_maps(source, source_modules(source))
  assert {name: len(maps.targets) for name, maps in found.items()} == {
    "depth": 3,
    "segmentation": 2,
  }
  modules = source_modules(source)
  build = map_examples.Build(tuple(modules), source, places)
  for seed in range(4):
    example = build(source[0], np.random.default_rng(seed))
    assert set(example) == set(modules)


def source_modules(source):
  return {n: source._own(n) for n in ("depth", "segmentation")}


def test_a_broken_line_of_a_list_is_one_bad_sample(tmp_path):
  layouts.tum(tmp_path)
  path = tmp_path / "rgbd_dataset_freiburg1_desk/rgb.txt"
  path.write_text(path.read_text() + "\nbroken\n3.0 a.png more\n")
  source = show.opened(show.config_of("tum", str(tmp_path)), "all")
  assert len(source) == 4
  bad = [one.id.split("/")[-1] for one in source.listed if one.problem]
  assert bad == ["rgb.txt:5", "rgb.txt:6"]


def test_a_scene_without_colours_is_bad_and_the_others_are_read(tmp_path):
  layouts.vkitti(tmp_path)
  (tmp_path / "vkitti_2.0.3_textgt/Scene02/clone/colors.txt").unlink()
  source = show.opened(show.config_of("vkitti", str(tmp_path)), "all")
  bad = [one.id for one in source.listed if one.problem]
  assert bad == ["Scene02/clone/Camera_0/00000"]


def test_the_official_split_of_sunrgbd_is_taken_where_it_is(tmp_path):
  truth = layouts.sunrgbd(tmp_path)
  config = show.config_of("sunrgbd", str(tmp_path))
  listed = show.opened(config, "all").listed
  assert {one.split for one in listed} == {""}
  names = sorted(truth)
  far = "/n/fs/sun3d/data/SUNRGBD/"
  cells = {}
  for key, each in (("alltrain", names[:2]), ("alltest", names[2:])):
    cells[key] = np.array([[f"{far}{n}" for n in each]], object)
  folder = tmp_path / "SUNRGBDtoolbox/traintestSUNRGBD"
  layouts.matlab(folder / "allsplit.mat", cells)
  data_sets._listed.cache_clear()
  listed = show.opened(config, "all").listed
  assert {one.id: one.split for one in listed} == {
    names[0]: "train",
    names[1]: "train",
    names[2]: "test",
  }


def test_a_settled_file_is_read_once_for_its_fingerprint(tmp_path, monkeypatch):
  path = tmp_path / "a.npy"
  path.write_bytes(b"x" * 100)
  read, done = fingerprints._read, []
  monkeypatch.setattr(
    fingerprints, "_read", lambda *a: done.append(1) or read(*a)
  )
  first = fingerprints.of_files(["a"], [path])
  path.write_bytes(b"y" * 100)  # at once: its time may be the same
  second = fingerprints.of_files(["a"], [path])
  assert first != second
  monkeypatch.setattr(fingerprints, "SETTLED", -1)
  for _ in range(3):
    assert fingerprints.of_files(["a"], [path]) == second
  assert len(done) == 3


def test_lines_are_parsed_once_a_run_until_they_change(tmp_path, monkeypatch):
  path, parse, done = tmp_path / "own.jsonl", records.parse, []
  monkeypatch.setattr(
    records, "parse", lambda raw: done.append(1) or parse(raw)
  )

  def answers(answer):
    path.write_text(
      "\n".join(
        f'{{"image": "{i}.png", "question": "Red ?", "answer": "{answer}"}}'
        for i in range(9)
      )
    )
    config = own_data.reading(path)
    found = [mixture.open_split(config, split) for split in splits.NAMES]
    return {q.answer for one in found for q in one.questions(0)}

  assert answers("yes") == {"yes"} and len(done) == 27  # it may change again
  monkeypatch.setattr(fingerprints, "SETTLED", -1)
  assert answers("no") == {"no"} and len(done) == 36
  assert answers("3") == {"3"} and len(done) == 45


@pytest.mark.parametrize(
  ("path", "split"),
  [
    ("data/validation-00000-of-00002.parquet", "validation"),
    ("val/a.parquet", "validation"),
    ("dev.parquet", "validation"),
    ("x_dev-00.tfrecord", "validation"),
    ("devices/a.parquet", ""),
    ("data/test-dev-00000.parquet", "test"),
    ("train/dev-kit_001.tfrecord", "train"),
    ("training/test.parquet", "test"),
    ("trains/a.parquet", ""),
  ],
)
def test_a_path_names_its_split(path, split):
  assert data_sets.split_in(path) == split
