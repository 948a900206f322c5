"""Codes of maps by sample: whose they are, and wrong ones for traces."""

import dataclasses

import numpy as np
import pytest

from cooper_jax.data import codes, mixture
from cooper_jax.data.codes import Codes, exchanged
from cooper_jax.errors import UserError
from cooper_jax.sample import Sample


def of_rows(rows):
  names = [f"s{i}" for i in range(len(rows))]
  return Codes(
    index={name: i for i, name in enumerate(names)},
    maps={"depth": np.array(rows, np.int32)},
    marked=np.zeros(len(rows), np.uint8),
    mark=np.zeros((len(rows), 4), np.int32),
  )


def test_a_wrong_map_is_that_of_another_sample_that_has_one():
  found = of_rows([[1, 2, 3, 4], [-1] * 4, [5, 6, 7, 8]])
  assert found.known("depth").tolist() == [0, 2]
  assert found.of("s1", "depth") is None
  for seed in range(9):
    rng = np.random.default_rng(seed)
    assert found.other("s0", "depth", rng).tolist() == [5, 6, 7, 8]


def test_the_only_map_of_the_data_is_no_wrong_one_of_itself():
  found = of_rows([[1, 2, 3, 4], [-1] * 4])
  rng = np.random.default_rng(0)
  assert found.other("s0", "depth", rng).tolist() == [3, 4, 1, 2]


@pytest.mark.parametrize("count", [2, 3, 7, 50])
def test_exchanged_maps_are_both_of_one_other_image(count):
  rows = np.arange(count)[:, None] * np.ones(4, np.int32)
  before = of_rows(rows)
  before = dataclasses.replace(
    before, maps={"depth": before.maps["depth"], "segmentation": rows + 100}
  )
  for seed in range(5):
    after = exchanged(before, seed=seed)
    depth, classes = (after.maps[m][:, 0] for m in ("depth", "segmentation"))
    assert (depth != np.arange(count)).all()
    assert sorted(depth) == [*range(count)]
    assert (classes == depth + 100).all()
    again = exchanged(before, seed=seed)
    assert (again.maps["depth"] == after.maps["depth"]).all()
  assert before.maps["depth"][1, 0] == 1  # it is left as it was


def test_an_image_exchanges_with_one_that_has_the_same_maps():
  found = exchanged(of_rows([[1] * 4, [-1] * 4, [5] * 4, [-1] * 4]), seed=0)
  assert found.maps["depth"][:, 0].tolist() == [5, -1, 1, -1]
  with pytest.raises(UserError, match="only one image has depth; add images"):
    exchanged(of_rows([[1] * 4, [-1] * 4]), seed=0)


class Scenes:
  """Samples with a map of their own number; some are broken; counts reads."""

  def __init__(self, count, bad=(), stop=None):
    self.count, self.bad, self.stop, self.read = count, bad, stop, []

  def __len__(self):
    return self.count

  def __getitem__(self, index):
    if index == self.stop:
      raise KeyboardInterrupt
    if index in self.bad:
      raise UserError(f"scene {index} is broken")
    self.read.append(index)
    depth = np.full((2, 2), index + 1, np.float32)
    image = np.zeros((2, 2, 3), np.uint8)
    return Sample(f"scene {index}", "scenes", image, {"depth": depth})

  def __repr__(self):
    return f"Scenes({self.count})"


class Numbered:
  """A tokenizer whose codes are the number of the scene."""

  class config:
    cells = 4

  class modality:
    read = staticmethod(lambda sample: sample.maps.get("depth"))


@pytest.fixture
def numbered(monkeypatch):
  monkeypatch.setattr(codes, "_PART_BYTES", 1)
  monkeypatch.setattr(codes.map_tokenizer, "BATCH", 3)
  monkeypatch.setattr(
    codes.map_tokenizer,
    "encode_maps",
    lambda codec, maps: maps.reshape(len(maps), 4).astype(np.int32),
  )
  return {"depth": Numbered}


def test_codes_that_were_stopped_go_on(numbered, tmp_path):
  with pytest.raises(KeyboardInterrupt):
    codes.encode(Scenes(11, stop=7), numbered, tmp_path)
  assert len(list(tmp_path.glob("*.part.npz"))) == 2
  again = Scenes(11)
  found = codes.encode(again, numbered, tmp_path)
  # One is looked at for its size, and the two parts of three are there.
  assert sorted(again.read) == [0, *range(6, 11)]
  assert found.maps["depth"][:, 0].tolist() == [*range(1, 12)]
  assert found.of("scene 4", "depth").tolist() == [5] * 4
  assert [p.name for p in tmp_path.iterdir()] == ["train.npz"]
  kept = Scenes(11)
  codes.encode(kept, numbered, tmp_path)
  assert not kept.read
  other = Scenes(12)
  codes.encode(other, numbered, tmp_path)
  assert len(other.read) == 13


def test_a_sample_that_is_left_out_has_no_codes(numbered, capsys):
  source = mixture.tolerant(Scenes(11, bad={2, 5}), 0.2)
  found = codes.encode(source, numbered)
  assert found.known("depth").tolist() == [0, 1, 3, 4, 6, 7, 8, 9, 10]
  assert found.of("scene 3", "depth").tolist() == [4] * 4
  said = capsys.readouterr().err
  assert said.count("scene 2 is broken") == 1
  with pytest.raises(UserError, match=r"scene 5.*2 of 11 samples are bad"):
    codes.encode(mixture.tolerant(Scenes(11, bad={2, 5}), 0.1), numbered)
