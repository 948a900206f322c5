"""Own data in JSONL: grouped, resized, and every mistake said in one line."""

import bz2
import gzip
import json
import lzma
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cooper_jax.data import mixture, modes, own_questions
from cooper_jax.data.entries import check_files, read_entries, scan
from cooper_jax.errors import UserError
from tests import own_data

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
  config = own_data.reading(path, image_size=size)
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
  whole = [each.questions for each in source]
  for picture in folder.glob("*.png"):
    picture.unlink()  # questions alone need none
  assert [mixture.questions_of(source, i) for i in range(3)] == whole


@pytest.mark.parametrize("depth", ["depth.png", "depth.npy"])
def test_maps_are_resized_without_blending(folder, depth):
  (sample,) = read(
    folder, LINE | {"depth": depth, "segmentation": "classes.png"}
  )
  assert sample.image.shape == (8, 8, 3) and sample.image.dtype == np.uint8
  assert (sample.image[:, 0] == (255, 0, 0)).all()
  # 2,500 mm on the left half, no reading on the right one
  assert sample.maps["depth"].dtype == np.float32
  assert np.array_equal(
    sample.maps["depth"], np.repeat([[2.5] * 4 + [0] * 4], 8, 0)
  )
  assert np.array_equal(sample.maps["segmentation"][3], [7] * 4 + [255] * 4)


def test_nan_depth_is_no_reading(folder):
  (sample,) = read(folder, LINE | {"depth": "depth.npy"}, size=40)
  assert (
    sample.maps["depth"][:2, :20] == 0
  ).all()  # row 0 of 20, twice as high
  assert (sample.maps["depth"][2:, :20] == 2.5).all()


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
    (LINE | {"answer": "2 m", "family": "own_text"}, "length answers here"),
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
  taken = ("direct", "text", "depth", "segmentation", "both", "adaptive")
  assert modes.every() == taken
  for mode in taken:
    line = {"question": "?", "answer": "yes", "family": mode}
    _, (problem,) = own_questions.make(line)
    assert "can't name a score" in problem


def test_bytes_that_are_no_utf8_are_named(folder):
  (folder / "own.jsonl").write_bytes(b'{"image": "\xff"}')
  with pytest.raises(UserError, match=r"own\.jsonl:1: not UTF-8 at byte 11"):
    read_entries(folder / "own.jsonl")


def test_a_missing_file_is_named(folder):
  config = own_data.reading(folder / "none.jsonl")
  with pytest.raises(UserError, match=r"none.jsonl.*data.settings.jsonl.path"):
    mixture.open_split(config, "train")
  with pytest.raises(UserError, match="names none"):
    mixture.open_split(own_data.reading(""), "train")


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


ENCODED = {
  "utf-8 with a mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
  "utf-16": lambda text: text.encode("utf-16"),
  "utf-16 of the other order": lambda text: (
    b"\xfe\xff" + text.encode("utf-16-be")
  ),
  "utf-32": lambda text: text.encode("utf-32"),
  "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
  "gzip": lambda text: gzip.compress(text.encode()),
  "gzip with a mark": lambda text: gzip.compress(
    b"\xef\xbb\xbf" + text.encode()
  ),
}


@pytest.mark.parametrize("name", ENCODED)
def test_what_programs_write_is_read(folder, name):
  text = "".join(
    json.dumps(LINE | {"question": f"Größer {i} ?"}, ensure_ascii=False) + "\n"
    for i in range(3)
  )
  path = folder / "own.jsonl"
  path.write_bytes(ENCODED[name](text))
  (entry,) = read_entries(path)
  assert [q.text for q in entry.questions] == [
    f"Größer {i} ?" for i in range(3)
  ]
  path.write_bytes(ENCODED[name](text + "{\n"))
  _, errors = scan(path)
  assert len(errors) == 1 and errors[0].startswith(f"{path}:4: not JSON")


@pytest.mark.parametrize(
  ("data", "reason"),
  [
    (gzip.compress(b"{}\n" * 1000, mtime=0)[:-12], "not whole gzip"),
    (b"\x1f\x8b" + b"nothing", "not whole gzip"),
    (lzma.compress(b"{}"), "packed with xz"),
    (bz2.compress(b"{}"), "packed with bzip2"),
    ("{}".encode("utf-16") + b"\x00", "not UTF-16"),
  ],
)
def test_a_file_that_cant_be_unpacked_is_named(folder, data, reason):
  (folder / "own.jsonl").write_bytes(data)
  with pytest.raises(UserError, match=r"own\.jsonl: ") as error:
    scan(folder / "own.jsonl")
  assert reason in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_file_of_lines_is_a_file(folder, make):
  make(folder / "pipe")
  with pytest.raises(UserError, match=r"not a file; config\.data\.settings"):
    scan(folder / "pipe")


def test_every_error_of_every_line_is_found(folder):
  path = folder / "own.jsonl"
  lines = [
    LINE,
    "{",
    LINE | {"answer": "maybe", "answer_type": "yes_no", "flag": "x"},
    "x" * (3 << 20),
    LINE | {"image": "b.png"},
    LINE | {"family": "own_yes_no"},
    '"\\ud800"',
    LINE | {"answer": "yes"},
  ]
  path.write_text(
    "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
  )
  entries, errors = scan(path)
  assert [e.line for e in entries] == [1, 5, 6]
  numbers = [int(e.removeprefix(f"{path}:").split(":")[0]) for e in errors]
  assert numbers == [2, 3, 3, 4, 7, 8]
  with pytest.raises(UserError) as error:
    read_entries(path)
  assert str(error.value) == errors[0]


@pytest.mark.parametrize(
  ("line", "reason"),
  [
    ({"depth": "depth.png", "depth_scale": 0}, "above 0"),
    ({"depth": "depth.png", "depth_scale": -5}, "above 0"),
    ({"depth": "depth.png", "depth_scale": True}, "'depth_scale' is true"),
    ({"depth": "depth.png", "depth_scale": "mm"}, "should be a number"),
    ({"depth_scale": 1000}, "'depth_scale' without 'depth'"),
    ({"image": "a.png", "depth": "x", "depth_scale": 5}, "line 1 with the"),
  ],
)
def test_a_scale_that_is_none_is_refused(folder, line, reason):
  first = LINE | {"depth": "x", "depth_scale": 256}
  with pytest.raises(UserError, match=reason):
    read(folder, first, LINE | {"image": "b.png"} | line)


def test_a_scale_holds_for_the_lines_of_its_image(folder):
  scaled = {"depth": "depth.png", "depth_scale": "500"}
  source = read(folder, LINE | scaled, LINE, LINE | {"image": "b.png"})
  assert [len(s.questions) for s in source] == [2, 1]
  assert source[0].maps["depth"].max() == 5  # 2,500 of 500 a metre


def test_maps_of_a_turned_photograph_are_turned(folder):
  exif = Image.Exif()
  exif[0x0112] = 6
  Image.open(folder / "a.png").save(folder / "turned.jpg", exif=exif)
  (sample,) = read(
    folder,
    LINE
    | {"image": "turned.jpg", "depth": "depth.png"}
    | {"segmentation": "classes.png"},
  )
  # The left half as stored is the upper one as seen.
  red = sample.image[..., 0] > 128
  assert red[:3].all() and not red[5:].any()
  assert ((sample.maps["depth"] > 0) == red).mean() > 0.9
  assert ((sample.maps["segmentation"] == 7) == red).mean() > 0.9


def test_paths_of_the_home_folder_and_urls(folder, monkeypatch):
  monkeypatch.setenv("HOME", str(folder))
  own = {"image": "~/a.png", "depth": "~/depth.png"}
  (sample,) = read(folder, LINE | own | {"segmentation": "~/classes.png"})
  assert (
    sample.maps["depth"] is not None and sample.maps["segmentation"] is not None
  )
  source = read(folder, LINE | {"image": "https://example.org/a.png"})
  with pytest.raises(UserError, match="URLs are not read"):
    source[0]
  config = own_data.reading("~/own-{split}.jsonl")
  assert len(mixture.open_split(config, "train")) == 1


def test_every_wrong_file_of_a_line_is_found_without_decoding(folder):
  (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:-30])
  Image.new("L", (40, 40)).save(folder / "square.png")
  path = folder / "own.jsonl"
  wrong = {"image": "cut.png", "depth": "a.png", "segmentation": "none.png"}
  right = {"depth": "depth.png", "segmentation": "classes.png"}
  stretched = {"image": "b.png", "segmentation": "square.png"}
  path.write_text(
    "".join(json.dumps(LINE | x) + "\n" for x in (wrong, right, stretched))
  )
  entries, errors = scan(path)
  assert not errors
  found = [check_files(path, entry) for entry in entries]
  assert [len(errors) for errors in found] == [3, 0, 1]
  assert all(error.startswith(f"{path}:1: ") for error in found[0])
  assert "40x40, of another aspect than its picture of 40x20" in found[2][0]
