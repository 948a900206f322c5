"""Samples with maps and no question, and what their files are known by."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from cooper_jax import sample
from cooper_jax.data import codes, mixture
from cooper_jax.data.entries import read_entries, scan
from cooper_jax.errors import UserError
from cooper_jax.modalities import depth
from cooper_jax.rollouts import lengths
from tests.own_data import reading


def write(folder, lines, images=("a.png", "b.png")):
  folder.mkdir(exist_ok=True)
  for number, name in enumerate(images):
    pixels = np.full((9, 12, 3), 40 * number, np.uint8)
    Image.fromarray(pixels).save(folder / name)
    np.save(folder / f"{name[0]}.npy", np.full((9, 12), 2.0 + number))
  path = folder / "own.jsonl"
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  return path


def test_a_map_needs_no_question(tmp_path):
  alone = {"image": "a.png", "depth": "a.npy"}
  asked = {"image": "b.png", "question": "Is it ?", "answer": "yes"}
  path = write(tmp_path, [alone, asked, {"image": "b.png", "depth": "b.npy"}])
  one, other = read_entries(path)
  assert one.questions == () and one.maps == {"depth": "a.npy"}
  # A line without a question adds its map to the image of the line before.
  assert len(other.questions) == 1 and other.maps == {"depth": "b.npy"}
  source = mixture.open_split(reading(path, image_size=8), "train")
  assert all(isinstance(each.questions, tuple) for each in source)


@pytest.mark.parametrize(
  ("line", "said"),
  [
    ({"image": "a.png"}, "no 'question'.*or an image and a map"),
    ({"image": "a.png", "depth": "a.npy", "question": "?"}, "no 'answer'"),
    ({"image": "a.png", "depth": "a.npy", "answer": "b"}, "no 'question'"),
    ({"depth": "a.npy"}, "no 'image'"),
    (
      {"image": "a.png", "depth": "a.npy", "options": ["a", "b"]},
      "'options' belongs to a question, and this line has none",
    ),
    (
      {"image": "a.png", "depth": "a.npy", "value": 2.4},
      "'value' belongs to a question",
    ),
    (
      {"image": "a.png", "depth": "a.npy", "reasoning": "far"},
      "'reasoning' belongs to a question",
    ),
    (
      {"image": ["a.png", "b.png"], "question": "?", "answer": "no"},
      "'image' is a list of 2: several images a question are not read",
    ),
    (
      {"images": ["a.png"], "question": "?", "answer": "no"},
      "'images' is a list of 1: several images",
    ),
  ],
)
def test_what_is_missing_or_too_much_is_said(tmp_path, line, said):
  path = write(tmp_path, [line])
  _, errors = scan(path)
  with pytest.raises(UserError, match=rf"own.jsonl:1: {said}"):
    raise UserError("; ".join(errors))


def test_stages_that_ask_are_refused_where_nothing_is_asked(tmp_path):
  line = {"image": "a.png", "depth": "a.npy"}
  path = write(tmp_path, [line])
  config = reading(path.with_name("{split}.jsonl"), image_size=8)
  for split in ("train", "validation", "test"):
    path.with_name(f"{split}.jsonl").write_text(json.dumps(line) + "\n")
  asked = lengths._some(lengths.of_split(config, "train"), "train", "sft")
  with pytest.raises(UserError, match=r"no image of the train split has a q.*"):
    list(asked)


def test_a_changed_map_is_other_data(tmp_path):
  lines = [
    {"image": "a.png", "depth": "a.npy"}, {"image": "b.png", "depth": "b.npy"}
  ]  # fmt: skip
  path = write(tmp_path, lines)
  config = reading(path, image_size=8)
  source = mixture.open_split(config, "train")
  before = repr(source)
  assert repr(mixture.open_split(config, "train")) == before
  rng = np.random.default_rng(0)
  for entry in source.entries:
    file = tmp_path / entry.maps["depth"]
    # Larger than what is read of a picture, and one reading differs.
    metres = np.full((120, 160), 2.0, np.float32)
    np.save(file, metres)
    first = repr(mixture.open_split(config, "train"))
    metres.flat[rng.integers(metres.size)] = 2.5
    np.save(file, metres)
    assert (
      first != before and repr(mixture.open_split(config, "train")) != first
    )


@dataclasses.dataclass(frozen=True)
class Few:
  """Two samples, whose ids and name are given."""

  ids: tuple[str, ...]

  def __len__(self):
    return len(self.ids)

  def __getitem__(self, index):
    image = np.zeros((8, 8, 3), np.uint8)
    return sample.Sample(self.ids[index], "few", image)


def test_two_samples_of_one_id_are_refused():
  with pytest.raises(UserError, match=r"two samples have the id 'a'"):
    codes.encode(Few(("b", "a", "a")), {"depth": _codec()})


def _codec():
  import types

  return types.SimpleNamespace(
    config=types.SimpleNamespace(cells=4), modality=depth
  )


def test_depth_and_labels_survive_their_bytes_to_the_quantum():
  rng = np.random.default_rng(0)
  kitti = rng.integers(0, 256 * 85, (7, 11)).astype(np.float32) / 256
  labels = rng.integers(0, 65_536, (7, 11)).astype(np.uint16)
  before = sample.Sample(
    "a",
    "few",
    rng.integers(0, 256, (7, 11, 3)).astype(np.uint8),
    maps={"depth": kitti, "segmentation": labels},
    instances=labels[::-1],
    camera=np.array([[700, 0, 5], [0, 700, 3], [0, 0, 1]], np.float32),
  )
  after = sample.from_bytes(sample.to_bytes(before))
  np.testing.assert_array_equal(after.maps["depth"], kitti)
  np.testing.assert_array_equal(after.maps["segmentation"], labels)
  np.testing.assert_array_equal(after.instances, labels[::-1])
  np.testing.assert_array_equal(after.camera, before.camera)
  assert after.maps["segmentation"].dtype == after.instances.dtype == np.uint16
  # As the rendered world keeps it, steps are .06 m at 80: the control.
  halved = sample.from_bytes(sample.to_bytes(before, half=("depth",)))
  assert np.abs(halved.maps["depth"] - kitti).max() > 1 / 256
