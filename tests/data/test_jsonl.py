"""Own data in JSONL: grouped, resized, and every mistake said in one line."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cooper_jax.data import mixture, own_questions
from cooper_jax.data.sources import DataConfig, jsonl
from cooper_jax.errors import UserError
from cooper_jax.eval import asking

LINE = {"image": "a.png", "question": "Which is closer ?", "answer": "red ball"}


@pytest.fixture
def folder(tmp_path):
  """Two pictures of 40 x 20, left half red, with depth and classes."""
  pixels = np.zeros((20, 40, 3), np.uint8)
  pixels[:, :20, 0] = 255
  for name in ("a.png", "b.png"):
    Image.fromarray(pixels).save(tmp_path / name)
  millimetres = np.full((20, 40), 2500, np.uint16)
  millimetres[:, 20:] = 0
  Image.fromarray(millimetres).save(tmp_path / "depth.png")
  metres = millimetres.astype(np.float32) / 1000
  metres[0, :20] = np.nan
  np.save(tmp_path / "depth.npy", metres)
  classes = np.full((20, 40), 7, np.uint8)
  classes[:, 20:] = 255
  Image.fromarray(classes).save(tmp_path / "classes.png")
  return tmp_path


def read(folder, *lines, split="train", name="own-{split}.jsonl", size=8):
  path = folder / name
  written = [x if isinstance(x, str) else json.dumps(x) for x in lines]
  real = folder / name.replace("{split}", split)
  real.write_text("".join(x + "\n" for x in written), "utf-8")
  config = DataConfig(source="jsonl", jsonl=str(path), image_size=size)
  return mixture.open_split(config, split)


def test_lines_of_one_image_are_one_sample(folder):
  source = read(
    folder,
    LINE | {"options": ["red ball", "box"], "reasoning": "red ball 2.4 m"},
    LINE | {"question": "Is it red ?", "answer": "yes", "flag": "negative"},
    "",
    LINE
    | {"image": "b.png", "answer": "2.4", "unit": "m", "depth": "depth.png"},
    LINE | {"answer": "3", "id": "mine"},
  )
  assert [len(s.questions) for s in source] == [2, 1, 1]
  assert [s.id for s in source] == ["own-train-1", "own-train-4", "mine"]
  choice, yes = source[0].questions
  assert (choice.answer_type, choice.options) == ("choice", ("red ball", "box"))
  assert (choice.reasoning, choice.flag) == ("red ball 2.4 m", "boundary")
  assert (yes.answer_type, yes.flag, yes.value) == ("yes_no", "negative", None)
  length = source[1].questions[0]
  assert (length.answer, length.value, length.unit) == ("2.4 m", 2.4, "m")
  assert (length.answer_type, length.needs) == ("number", ("depth",))
  assert source[2].questions[0].answer_type == "number"


@pytest.mark.parametrize("depth", ["depth.png", "depth.npy"])
def test_maps_are_resized_without_blending(folder, depth):
  (sample,) = read(
    folder, LINE | {"depth": depth, "segmentation": "classes.png"}
  )
  assert sample.image.shape == (8, 8, 3) and sample.image.dtype == np.uint8
  assert (sample.image[:, 0] == (255, 0, 0)).all()
  # 2,500 mm on the left half, no reading on the right one
  assert sample.depth.dtype == np.float32
  assert np.array_equal(sample.depth, np.repeat([[2.5] * 4 + [0] * 4], 8, 0))
  assert np.array_equal(sample.segmentation[3], [7] * 4 + [255] * 4)


def test_nan_depth_is_no_reading(folder):
  (sample,) = read(folder, LINE | {"depth": "depth.npy"}, size=40)
  assert (sample.depth[:2, :20] == 0).all()  # row 0 of 20, twice as high
  assert (sample.depth[2:, :20] == 2.5).all()


def test_one_file_is_divided_by_image(folder):
  lines = [LINE | {"image": f"{i}.png"} for i in range(300)]
  sizes = {
    split: len(read(folder, *lines, split=split, name="own.jsonl"))
    for split in ("train", "validation", "test")
  }
  assert sum(sizes.values()) == 300
  # 8:1:1 of 300; three standard deviations of a tenth are 16
  assert all(14 <= sizes[s] <= 46 for s in ("validation", "test"))
  with pytest.raises(UserError, match="no lines for split 'test'"):
    read(folder, split="test", name="own.jsonl")


@pytest.mark.parametrize(
  ("line", "reason"),
  [
    ("{", "not JSON"),
    ("[1]", "not a JSON object"),
    ('{"image": NaN}', "NaN is no number"),
    ("[" * 100_000, "nested too deeply"),
    (LINE | {"image": ""}, "no 'image'"),
    (LINE | {"unit": 3}, "'unit' is 3; it should be a string"),
    (LINE | {"answer": True}, "'answer' is true; it should be \"yes\" or"),
    (LINE | {"segmentaton": "x"}, 'did you mean "segmentation"'),
    (LINE | {"options": ["box"]}, "none of the options"),
    (LINE | {"options": "box"}, "list of strings"),
    (LINE | {"answer_type": "nmber"}, 'did you mean "number"'),
    (LINE | {"answer_type": "number"}, "does not begin with a number"),
    (LINE | {"family": "direct"}, "family 'direct' can't name a score"),
    (LINE | {"family": "a/b"}, "family 'a/b' can't name a score"),
    (LINE | {"image": "b.png", "id": "own-train-1"}, "that of line 1"),
    (LINE | {"answer": "yes", "family": "own_text"}, "text ones at line 1"),
    (LINE | {"flag": "maybe"}, "positive, negative, boundary"),
    (LINE | {"answer": " "}, "no 'answer'"),
    (LINE | {"depth": "depth.npy"}, "line 1 with the same image"),
    (LINE | {"question": "x" * (1 << 20)}, "the most is"),
  ],
)
def test_a_wrong_line_is_named(folder, line, reason):
  with pytest.raises(UserError) as error:
    read(folder, LINE | {"depth": "depth.png"}, line)
  message = str(error.value)
  assert message.startswith(f"{folder}/own-train.jsonl:2: ")
  assert reason in message and "\n" not in message


def test_no_family_can_take_the_name_of_a_mode():
  assert set(own_questions.RESERVED) == set(asking.MODES)


def test_bytes_that_are_no_utf8_are_named(folder):
  (folder / "own.jsonl").write_bytes(b'{"image": "\xff"}')
  with pytest.raises(UserError, match=r"own\.jsonl:1: not UTF-8 at byte 11"):
    jsonl.read_entries(folder / "own.jsonl")


def test_a_missing_file_is_named(folder):
  config = DataConfig(source="jsonl", jsonl=str(folder / "none.jsonl"))
  with pytest.raises(UserError, match=r"none.jsonl.*config.data.jsonl"):
    mixture.open_split(config, "train")
  with pytest.raises(UserError, match="needs a file"):
    mixture.open_split(DataConfig(source="jsonl"), "train")


def png_header(side):
  """A grey PNG of side x side pixels that has no data."""
  size = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
  file = b"\x89PNG\r\n\x1a\n"
  for kind, content in ((b"IHDR", size), (b"IDAT", zlib.compress(b""))):
    chunk = kind + content
    file += struct.pack(">I", len(content)) + chunk
    file += struct.pack(">I", zlib.crc32(chunk))
  return file


@pytest.mark.parametrize(
  ("key", "file", "reason"),
  [
    ("image", "none.png", "does not exist"),
    ("image", "text.png", "is no PNG"),
    ("image", "cut.png", "can't be read"),
    ("image", "bomb.png", "million pixels"),
    ("image", "huge.png", "million pixels"),
    ("image", ".", "can't be read"),
    ("depth", "a.png", "16-bit grey PNG"),
    ("depth", "objects.npy", "can't be read as .npy"),
    ("depth", "flat.npy", r"float64[3]"),
    ("depth", "none.npy", "does not exist"),
    ("segmentation", "depth.png", "8-bit"),
    ("segmentation", "a.png", "8-bit"),
  ],
)
def test_a_picture_that_cant_be_used_is_named(folder, key, file, reason):
  (folder / "text.png").write_text("no picture")
  whole = (folder / "a.png").read_bytes()
  (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
  np.save(folder / "objects.npy", np.array([{}], object), allow_pickle=True)
  np.save(folder / "flat.npy", np.zeros(3))
  # 100 and 400 million pixels: refused by the header, before any data
  (folder / "huge.png").write_bytes(png_header(10_000))
  (folder / "bomb.png").write_bytes(png_header(20_000))
  source = read(folder, LINE, LINE | {"image": "b.png"} | {key: file})
  assert source[0].image is not None
  with pytest.raises(UserError) as error:
    source[1]
  message = str(error.value)
  assert message.startswith(f"{folder}/own-train.jsonl:2: ")
  assert reason in message and "\n" not in message


def test_absolute_paths_are_allowed(folder, tmp_path_factory):
  elsewhere = tmp_path_factory.mktemp("elsewhere")
  source = read(elsewhere, LINE | {"image": str(folder / "a.png")})
  assert (source[0].image[:, 0] == (255, 0, 0)).all()


def test_own_data_runs_through_the_pipeline(folder):
  from cooper_jax.data import pipeline

  source = read(folder, LINE, LINE | {"image": "b.png"})
  with pipeline.make_batches(
    source,
    build=lambda sample, rng: {"image": sample.image},
    batch_size=2,
    seed=0,
  ) as batches:
    assert next(batches)["image"].shape == (2, 8, 8, 3)
