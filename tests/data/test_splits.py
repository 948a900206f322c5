"""A split that would be empty gets an image, and nothing else moves."""

import hashlib
import json

import pytest
from PIL import Image

from cooper_jax.data import mixture, splits
from tests import own_data


def by_hash(images):
  """What earlier runs had: 8:1:1 by the first byte."""
  found = {name: set() for name in splits.NAMES}
  for image in images:
    bucket = hashlib.sha256(image.encode()).digest()[0] % 10
    found[{8: "validation", 9: "test"}.get(bucket, "train")].add(image)
  return found


def test_full_splits_are_those_of_the_hash():
  images = [f"{i}.png" for i in range(300)]
  divided, note = splits.divide(images)
  assert divided == by_hash(images) and not note


def test_no_split_of_twenty_images_is_empty():
  mended = 0
  for trial in range(300):
    images = [f"{trial}/{i}.png" for i in range(20)]
    divided, note = splits.divide(images)
    before = by_hash(images)
    empty = [name for name in splits.NAMES if not before[name]]
    mended += bool(empty)
    assert all(divided.values()) and bool(note) == bool(empty)
    assert sum(map(len, divided.values())) == 20  # none is in two
    assert set().union(*divided.values()) == set(images)
    for name in splits.NAMES:
      assert len(divided[name] - before[name]) <= 1  # one image moves to it
      assert name not in empty or f"to {name}, which had none" in note
    again, _ = splits.divide(reversed(images))
    assert again == divided  # whatever the order
  # .9^20 = 12 % for each of two splits
  assert 40 < mended < 100


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_images_are_in_several_splits_and_that_is_said(count):
  for trial in range(40):
    images = [f"{trial}/{i}.png" for i in range(count)]
    divided, note = splits.divide(images)
    assert all(divided.values())
    assert "say nothing about new images" in note
    if count == 2:
      assert divided["train"] != divided["test"] or (
        divided["train"] != divided["validation"]
      )


def test_three_images_are_one_in_each():
  for trial in range(40):
    divided, note = splits.divide([f"{trial}/{i}" for i in range(3)])
    assert [len(divided[name]) for name in splits.NAMES] == [1, 1, 1]
    assert "say nothing" not in note


def test_nothing_is_made_of_nothing():
  assert splits.divide([]) == ({name: set() for name in splits.NAMES}, "")


def own(folder, count):
  lines = ""
  for i in range(count):
    Image.new("RGB", (8, 8)).save(folder / f"{i}.png")
    line = {"image": f"{i}.png", "question": "Red ?", "answer": "no"}
    lines += json.dumps(line) + "\n"
  (folder / "own.jsonl").write_text(lines)
  path = str(folder / "own.jsonl")
  return own_data.reading(path, image_size=8)


def test_a_file_of_one_image_trains_and_is_tested_and_says_so(tmp_path, capsys):
  config = own(tmp_path, 1)
  assert [len(mixture.open_split(config, s)) for s in splits.NAMES] == [1, 1, 1]
  said = capsys.readouterr().err.splitlines()
  assert len(said) == 1  # one line, however many splits are opened
  assert said[0].startswith(f"note: {tmp_path}/own.jsonl: too few images")
