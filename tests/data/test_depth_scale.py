"""Depth in metres from files of any scale; what can't be metres is refused."""

import functools
import json

import numpy as np
import pytest
from PIL import Image

from cooper_jax import modalities
from cooper_jax.data import map_files, mixture
from cooper_jax.errors import UserError
from cooper_jax.modalities import depth_files
from tests import own_data

read_depth = functools.partial(map_files.read, "depth")
read_classes = functools.partial(map_files.read, "segmentation")
check_depth = functools.partial(map_files.check, "depth")
check_classes = functools.partial(map_files.check, "segmentation")

LOSSY = ("jpg", "webp", "tiff", "jp2", "gif")
METRES = np.repeat([[2.4] * 20 + [3.1] * 20 + [4.0] * 24], 48, 0)


def write(path, values):
  if path.suffix == ".npy":
    np.save(path, values)
  else:
    Image.fromarray(values).save(path)
  return path


@pytest.mark.parametrize("name", ["d.png", "d.tiff", "d.npy"])
@pytest.mark.parametrize("scale", [256, 1000, 4000, 5000])
def test_a_stated_scale_gives_metres(tmp_path, name, scale):
  path = write(tmp_path / name, np.rint(METRES * scale).astype(np.uint16))
  read = read_depth(path, 64, "x", scale=scale)
  # Half a unit, of 256 in a metre at most.
  assert np.abs(read[:48] - METRES[0]).max() <= 0.5 / 256


@pytest.mark.parametrize(
  ("metres", "setting"),
  [(300.0, {"farthest": 500.0}), (0.02, {"nearest": 0.01})],
)
def test_a_range_that_is_set_is_a_range_that_may_be_stated(
  tmp_path, metres, setting
):
  values = np.full((8, 8), metres, np.float32)
  path = write(tmp_path / "d.npy", values)
  with pytest.raises(UserError, match="has a median of"):
    read_depth(path, 8, "x")
  wide = modalities.set_up("depth", setting)
  assert np.allclose(read_depth(path, 8, "x", modality=wide), metres)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.int64])
def test_integers_are_millimetres(tmp_path, dtype):
  path = write(tmp_path / "d.npy", (METRES * 1000).astype(dtype))
  read = read_depth(path, 64, "x")
  assert np.abs(read[0] - METRES[0]).max() < 2e-3


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_are_metres(tmp_path, dtype):
  path = write(tmp_path / "d.npy", METRES.astype(dtype))
  assert np.abs(read_depth(path, 64, "x")[0] - METRES[0]).max() < 2e-3
  read = read_depth(path, 64, "x", scale=2)
  assert np.abs(2 * read[0] - METRES[0]).max() < 4e-3


@pytest.mark.parametrize(
  ("dtype", "mark"),
  [
    (np.uint16, 65_535),
    (np.int16, 32_767),
    (np.int32, 65_535),
    (np.int32, 2**31 - 1),
    (np.int32, -1),
    (np.uint16, 0),
    (np.float32, np.nan),
    (np.float32, np.inf),
    (np.float32, -np.inf),
    (np.float32, -1),
    (np.float32, 65.535),  # 65535 that a program took for millimetres
    (np.float32, 1e10),  # the sky of a renderer
    (np.float16, 65_504),
  ],
)
def test_marks_for_nothing_are_no_reading(tmp_path, dtype, mark):
  scale = 1 if np.dtype(dtype).kind == "f" else 1000
  values = (METRES * scale).astype(dtype)
  values[:24] = mark
  read = read_depth(write(tmp_path / "d.npy", values), 48, "x")
  assert (read[:24] == 0).all() and (read[24:] > 2).all()


def test_65535_is_a_reading_where_there_are_greater_ones(tmp_path):
  values = np.full((8, 8), 80_000, np.int32)
  values[0] = 65_535
  path = write(tmp_path / "d.npy", values)
  read = read_depth(path, 8, "x", scale=10_000)
  assert np.allclose(read[0], 6.5535) and np.allclose(read[1:], 8)


@pytest.mark.parametrize(
  "values",
  [
    np.full((8, 8), np.nan, np.float32),
    np.zeros((8, 8), np.uint16),
    np.full((8, 8), 65_535, np.uint16),
    np.full((8, 8), -1.0),
  ],
)
def test_a_map_without_a_reading_is_refused(tmp_path, values):
  path = write(tmp_path / "d.npy", values)
  with pytest.raises(UserError, match=r"x: depth .* has no reading"):
    read_depth(path, 8, "x")


@pytest.mark.parametrize(
  ("values", "scale", "fits"),
  [
    (METRES.astype(np.uint8), None, "1 (3 m)"),  # whole metres
    ((METRES * 10_000).astype(np.int32), None, "10000 (3.1 m)"),
    (METRES * 1000, None, "1000 (3.1 m)"),  # floats of millimetres
    ((METRES * 1000).astype(np.uint16), 1, "1000 (3.1 m)"),  # a wrong key
    (METRES, 256, "1 (3.1 m)"),
  ],
)
def test_an_unlikely_median_names_the_scales_that_fit(
  tmp_path, values, scale, fits
):
  path = write(tmp_path / "d.npy", values)
  with pytest.raises(UserError) as error:
    read_depth(path, 8, "x", scale=scale)
  message = str(error.value)
  assert fits in message and '"depth_scale"' in message


def lines(folder, *depths, bad_samples=0.0, **more):
  text = ""
  for i, depth in enumerate(depths):
    Image.new("RGB", (64, 48)).save(folder / f"{i}.png")
    record = {"image": f"{i}.png", "question": "q ?", "answer": "yes"}
    text += json.dumps(record | {"depth": depth} | more) + "\n"
  (folder / "train.jsonl").write_text(text)
  path = str(folder / "{split}.jsonl")
  config = own_data.reading(path, bad_samples=bad_samples)
  return mixture.open_split(config, "train")


@pytest.mark.parametrize("scale", [256, 5000])
def test_other_scales_are_found_at_the_start(tmp_path, scale):
  write(tmp_path / "d.png", np.rint(METRES * scale).astype(np.uint16))
  with pytest.raises(UserError) as error:
    lines(tmp_path, "d.png")
  assert "train.jsonl:1: depth d.png has a median of" in str(error.value)
  assert f"{scale} (3" in str(error.value)
  source = lines(tmp_path, "d.png", depth_scale=scale)
  assert abs(source[0].maps["depth"].max() - 4) < 0.01


def test_one_close_up_among_rooms_is_read(tmp_path):
  write(tmp_path / "near.png", np.full((48, 64), 700, np.uint16))
  write(tmp_path / "room.png", (METRES * 1000).astype(np.uint16))
  source = lines(tmp_path, "near.png", "room.png", "room.png")
  assert np.allclose(source[0].maps["depth"], 0.7)
  # Alone, it has to say so.
  with pytest.raises(UserError, match="1000 if it is that"):
    lines(tmp_path, "near.png")
  near = lines(tmp_path, "near.png", depth_scale=1000)
  assert np.allclose(near[0].maps["depth"], 0.7)


def test_a_broken_map_is_not_judged_at_the_start(tmp_path):
  (tmp_path / "d.png").write_text("no picture")
  source = lines(tmp_path, "d.png")
  with pytest.raises(UserError, match=r"train\.jsonl:1: depth"):
    source[0]


@pytest.mark.parametrize(
  ("values", "reason"),
  [(METRES * np.nan, "has no reading"), (METRES * 1000, "1000 (3.1 m)")],
)
def test_a_map_without_metres_is_found_at_the_start(tmp_path, values, reason):
  write(tmp_path / "good.npy", METRES)
  write(tmp_path / "bad.npy", values)
  depths = ["good.npy"] * 3 + ["bad.npy"]
  with pytest.raises(UserError) as error:
    lines(tmp_path, *depths)
  assert "train.jsonl:4: depth bad.npy has " in str(error.value)
  assert reason in str(error.value)
  # It may be left out, if the run says so.
  for split in ("validation", "test"):
    (tmp_path / f"{split}.jsonl").write_text(
      (tmp_path / "train.jsonl").read_text().splitlines()[0]
    )
  assert len(lines(tmp_path, *depths, bad_samples=0.5)) == 3


def test_a_npy_whose_header_is_broken_is_named(tmp_path):
  path = write(tmp_path / "d.npy", METRES)
  data = path.read_bytes()
  for broken in (data.replace(b"}", b"("), data.replace(b"{", b"?"), data[:9]):
    path.write_bytes(broken)
    for check in (
      lambda: check_depth(path, "x"),
      lambda: read_depth(path, 8, "x"),
    ):
      with pytest.raises(UserError, match=r"can't be read as \.npy: .+"):
        check()


def test_the_median_of_many_readings_is_that_of_a_part():
  values = np.linspace(1000, 3000, 1_000_000).astype(np.uint16)
  found = depth_files.median(values, values > 0)
  assert abs(found - 2000) < 2


@pytest.mark.parametrize(
  "name", ["c.jpg", "c.webp", "c.tiff", "c.jp2", "c.gif"]
)
def test_class_ids_in_a_lossy_file_are_refused(tmp_path, name):
  ids = np.repeat([[1] * 32 + [9] * 32], 48, 0).astype(np.uint8)
  how = {"compression": "jpeg"} if name == "c.tiff" else {}
  Image.fromarray(ids).save(tmp_path / name, **how)
  for read in (
    lambda p: read_classes(p, 8, "x"),
    lambda p: check_classes(p, "x"),
  ):
    with pytest.raises(UserError, match="need not keep values"):
      read(tmp_path / name)


@pytest.mark.parametrize("name", ["c.png", "c.tiff", "c.bmp"])
def test_class_ids_in_a_lossless_file_are_read(tmp_path, name):
  ids = np.repeat([[1] * 32 + [9] * 32], 48, 0).astype(np.uint8)
  Image.fromarray(ids).save(tmp_path / name)
  read = read_classes(tmp_path / name, 64, "x")
  assert (read == ids[0]).all()
  check_classes(tmp_path / name, "x")


def test_class_ids_are_checked_before_they_are_resized(tmp_path):
  ids = np.ones((64, 64), np.uint8)
  ids[0, 1] = 99  # a pixel that a map of 8 leaves out
  Image.fromarray(ids).save(tmp_path / "c.png")
  with pytest.raises(UserError, match=r"class ids above 13 \(99\)"):
    read_classes(tmp_path / "c.png", 8, "x")
  Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "c.png")
  with pytest.raises(UserError, match="no reading"):
    read_classes(tmp_path / "c.png", 8, "x")
