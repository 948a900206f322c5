"""Files that claim more than they hold, or another thing: one clear line."""

import base64
import dataclasses
import io
import os
import shutil
import struct
import zlib

import h5py
import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from cooper_jax.data import map_files, mixture, numpy_files, picture_files, show
from cooper_jax.errors import UserError
from cooper_jax.modalities import depth, segmentation
from tests.data import layouts, test_cooper_train_set, test_questions_of_others
from tests.data.test_layouts import first_map
from tests.data.test_parquet import image, npy, png


def claimed(shape, kind="<f4"):
  """A .npy of 400 bytes whose header says another size."""
  file = io.BytesIO()
  said = {"descr": kind, "fortran_order": False, "shape": shape}
  np.lib.format.write_array_header_1_0(file, said)
  return file.getvalue() + b"\0" * 400


def archive():
  file = io.BytesIO()
  np.savez(file, a=np.ones((6, 8)))
  return file.getvalue()


def bomb(side=20_000):
  """A PNG of a few bytes and of 400 million pixels."""

  def chunk(kind, data):
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check

  head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
  pixels = zlib.compress(b"\0" * 999)
  chunks = [(b"IHDR", head), (b"IDAT", pixels), (b"IEND", b"")]
  return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def turned(path=None):
  """A JPEG that EXIF turns by a quarter."""
  exif, file = Image.Exif(), io.BytesIO()
  exif[0x0112] = 6
  Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(
    file, "JPEG", exif=exif
  )
  if path is not None:
    path.write_bytes(file.getvalue())
  return file.getvalue()


@pytest.mark.parametrize(
  ("raw", "said"),
  [
    (claimed((300_000, 300_000)), "360,000,000,000 bytes, and 400 are there"),
    (claimed((1 << 40, 1 << 40)), "and 400 are there"),
    (claimed((-1, 50)), "it is cut"),
    (archive(), "a .npz of several arrays"),
    (npy(np.ones((6, 8)))[:-1], "384 bytes, and 383 are there"),
    (npy(np.ones((6, 8)))[:40], "array header"),
  ],
)
def test_an_array_that_is_not_there_is_one_line(raw, said, tmp_path):
  path = tmp_path / "a.npy"
  path.write_bytes(raw)
  for each in (path, picture_files.Embedded(raw, "of a cell")):
    with pytest.raises(UserError, match=f"can't be read as .npy: .*{said}"):
      map_files.MapFile("depth", each, "own:1").numpy(axes=2)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", "CF")
def test_an_array_is_as_it_was_written(version, order, tmp_path):
  array = np.arange(15, dtype=">u2").reshape(3, 5, order=order)
  file = io.BytesIO()
  np.lib.format.write_array(file, array, version)
  (tmp_path / "a.npy").write_bytes(file.getvalue())
  held = picture_files.Embedded(file.getvalue(), "of a cell")
  for each in (tmp_path / "a.npy", held):
    found = numpy_files.array(each, "own:1", "depth")
    np.testing.assert_array_equal(found, array)


def test_a_mask_that_claims_more_than_it_holds_is_one_line(tmp_path):
  source, path = first_map("diode", tmp_path, "depth")
  mask = path.with_name(path.name.replace("_depth", "_depth_mask"))
  mask.write_bytes(claimed((3_000_000, 3_000_000), "<f8"))
  with pytest.raises(UserError, match=r"diode: .*: mask .*_mask\.npy can't be"):
    source[0]


def test_an_hdf5_file_of_zeros_is_not_unpacked(tmp_path):
  source, path = first_map("hypersim", tmp_path, "depth")
  with h5py.File(path, "w") as file:
    file.create_dataset(
      "dataset", (200_000, 200_000), "f2", chunks=(999, 999), compression="gzip"
    )
  with pytest.raises(UserError, match=r"\[200000, 200000\] under 'dataset'"):
    source[0]


@pytest.mark.parametrize("place", [0, 3])
def test_a_bomb_in_base64_is_a_bad_sample(place, tmp_path):
  items = test_cooper_train_set.trace()
  items[place]["value"] = base64.b64encode(bomb()).decode()
  source = test_cooper_train_set.traces(
    tmp_path, items, test_cooper_train_set.trace()
  )
  some = mixture.tolerant(source, 0.5)
  with pytest.raises(UserError, match=f"picture of part {place} has over 64"):
    source[0]
  assert some[0] is None and some[1] is not None


@pytest.mark.parametrize(
  ("part", "change", "said"),
  [
    ("amg", {"rgb_image": 5}, "'rgb_image' is 5, no text"),
    ("amg", {"depth_image": ["a"]}, r"'depth_image' is \['a'\], no text"),
    ("amg", {"rgb_image": None}, "a line has 'rgb_image' and"),
    ("rl", {"question": ["How many?"]}, r"'question' is \['How many"),
    ("rl", {"answer": True}, "'answer' is true, no text"),
    ("rl", {"answer": {"a": 1}}, "'answer' is {'a': 1}, no text"),
    ("rl", {"image": ["a.png", "b.png"]}, "2 images: one image a question"),
    ("rl", "[" * 99_999, "can't be read: maximum recursion"),
  ],
)
def test_a_line_of_coopers_of_another_type_is_named(
  part, change, said, tmp_path
):
  line = {
    "amg": {"rgb_image": "a.png", "depth_image": "d.png"},
    "rl": {"image": ["a.png"], "question": "How many?", "answer": 2},
  }[part]
  folder = tmp_path / "vkitti"
  layouts.picture(folder / "a.png")
  layouts.scaled(folder / "d.png", layouts.metres(1), 100)
  wrong = change if isinstance(change, str) else line | change
  test_cooper_train_set.written(tmp_path, "vkitti/train.jsonl", line, wrong)
  if isinstance(change, str):
    path = folder / "train.jsonl"
    path.write_text(path.read_text().replace(f'"{change}"', change))
  source = test_cooper_train_set.opened(tmp_path, part)
  assert len(source) == 2 and source[0].image.shape == (8, 8, 3)
  with pytest.raises(UserError, match=rf"vkitti/train.jsonl:2.* {said}"):
    source[1]


def test_a_blank_line_of_spar_is_none(tmp_path):
  name, _ = test_questions_of_others.picture(tmp_path)
  test_questions_of_others.write_spar(
    tmp_path, [test_questions_of_others.line(name, "How many?", "2")] * 2
  )
  (path,) = tmp_path.rglob("fill_1.jsonl")
  path.write_text(path.read_text().replace("\n", "\n \n") + "\n\n")
  source = test_questions_of_others.opened("spar", tmp_path)
  assert [one.id[-2:] for one in source.listed] == [":1", ":3"]
  assert not any(one.problem for one in source.listed)


def test_maps_and_a_camera_do_not_say_how_exif_turns(tmp_path):
  """Of a square, whose sides can't tell."""
  read, said = {}, "EXIF turns the picture"
  items = test_cooper_train_set.trace()
  items[0]["value"] = base64.b64encode(turned()).decode()
  square = np.full((8, 8, 3), 9, np.uint8)
  items[3]["value"] = test_cooper_train_set.embedded(square)
  read["of a trace"] = test_cooper_train_set.traces(tmp_path / "cooper", items)
  items = test_cooper_train_set.trace()
  items[0]["value"] = test_cooper_train_set.embedded(square)
  items[3]["value"] = base64.b64encode(turned()).decode()
  read["of depth in a trace"] = test_cooper_train_set.traces(
    tmp_path / "drawn", items
  )
  root = tmp_path / "spar"
  name, under = test_questions_of_others.picture(root)
  turned(root / "scannet/images" / name)
  flat = np.full((8, 8), 2.0)
  layouts.scaled(root / "scannet/images" / under, flat, 1000)
  marked = test_questions_of_others.line(
    name, "How far?", "2", depth=[under], red_point=[[1, 2]]
  )
  test_questions_of_others.write_spar(root, [marked])
  read["of spar"] = test_questions_of_others.opened("spar", root)
  root = tmp_path / "scannet"
  layouts.scannet(root)
  (root / "scene0000_00/depth/0.png").unlink()
  (root / "scene0000_00/label-filt/0.png").unlink()
  turned(root / "scene0000_00/color/0.jpg")
  config = show.config_of("scannet", str(root), size=8)
  read["with a camera alone"] = show.opened(config, "all")
  root = tmp_path / "parquet"
  root.mkdir()
  row = {"image": turned(), "question": "How many?", "answer": "2"}
  row["camera"] = [9.0, 9.0, 4.0, 4.0]
  parquet.write_table(pyarrow.Table.from_pylist([row]), root / "a.parquet")
  config = show.config_of("parquet", str(root), size=8)
  read["of a table"] = show.opened(config, "all")
  for what, source in read.items():
    with pytest.raises(UserError, match=said):
      source[0]
      pytest.fail(what)


def test_ids_below_zero_are_no_class():
  file = map_files.MapFile("segmentation", "a.npy", "own:1")
  ids = np.array([[-100, -2, -1], [0, 3, 255]])
  found = segmentation.convert(ids, file)
  np.testing.assert_array_equal(found, [[255, 255, 255], [0, 3, 255]])


def test_255_of_eight_bits_is_unclear_in_an_array_too(tmp_path):
  path = tmp_path / "classes.txt"
  path.write_text("\n".join(f"class {i}" for i in range(300)))
  wide = segmentation.Config(classes=str(path))
  file = map_files.MapFile("segmentation", "a.npy", "own:1")
  ids = np.array([[0, 255]], np.uint8)
  with pytest.raises(UserError, match="has 8 bits and the value 255"):
    segmentation.convert(ids, file, wide)
  found = segmentation.convert(ids.astype(np.uint16), file, wide)
  np.testing.assert_array_equal(found, [[0, 255]])


def test_floats_of_other_units_reach_as_far():
  metres = np.array([[2.0, 64.9, 90.0, 65.535, np.nan, 0, -1]])
  for scale in (1000.0, 5000.0, 0.01):
    said = map_files.MapFile("depth", "a.npy", "own:1", scale=scale)
    for kind in (np.float32, np.float64):
      found = depth.convert((metres * scale).astype(kind), said)
      np.testing.assert_allclose(
        found, [[2.0, 64.9, 90.0, 0, 0, 0, 0]], rtol=1e-6
      )


def test_paths_of_few_values_are_paths(tmp_path):
  (tmp_path / "a.png").write_bytes(png(image(0)))
  names = pyarrow.array(["a.png", "a.png", None]).dictionary_encode()
  table = {"question": ["Is it?"] * 3, "answer": ["yes"] * 3, "image": names}
  parquet.write_table(pyarrow.table(table), tmp_path / "t.parquet")
  config = show.config_of("parquet", str(tmp_path), size=8)
  source = show.opened(config, "all")
  assert [one.image for one in source.listed[:2]] == ["a.png"] * 2
  np.testing.assert_array_equal(np.asarray(source.native(1)[0]), image(0))
  assert "no 'image'" in source.listed[2].problem


@pytest.mark.parametrize("time", ["nan", "inf", "-inf"])
def test_a_time_that_is_none_is_a_bad_line(time, tmp_path):
  truth = layouts.tum(tmp_path)
  path = tmp_path / "rgbd_dataset_freiburg1_desk/rgb.txt"
  path.write_text(f"{time} rgb/1.000000.png\n{path.read_text()}")
  source = show.opened(show.config_of("tum", str(tmp_path)), "all")
  assert sorted(one.id for one in source.listed if not one.problem) == [*truth]
  assert [one.id[-9:] for one in source.listed if one.problem] == ["rgb.txt:1"]


def test_samples_left_out_of_a_list_count_as_bad_ones():
  class Source:
    left_out = ("a: gone", "b: gone")

    def __len__(self):
      return 8

    def __getitem__(self, index):
      raise UserError(f"{index}: broken")

  some = mixture.Tolerant(Source(), 0.3)  # three of ten
  assert some[0] is None and some[0] is None
  with pytest.raises(UserError, match=r"a: gone; b: gone; 0: .*4 of 10 sampl"):
    some[1]


def test_a_page_that_is_broken_is_one_bad_sample_of_its_file(tmp_path):
  folder = tmp_path / "sat"
  test_questions_of_others.sat(folder, [test_questions_of_others.row(0)])
  test_questions_of_others.sat(
    folder, [test_questions_of_others.row(1)], "SAT_val.parquet"
  )
  rows = [{"image": png(image(i)), "question": "Is it?", "answer": "no"}
          for i in range(2)]  # fmt: skip
  (tmp_path / "parquet").mkdir()
  for name in ("a", "b"):
    table = pyarrow.Table.from_pylist(rows)
    parquet.write_table(table, tmp_path / f"parquet/{name}.parquet")
  for name, kept in (("sat", 1), ("parquet", 2)):
    path = min((tmp_path / name).glob("*.parquet"))
    raw, column = path.read_bytes(), parquet.ParquetFile(path).metadata
    pages = [column.row_group(0).column(i) for i in range(column.num_columns)]
    (asked,) = (p for p in pages if p.path_in_schema == "question")
    at = asked.dictionary_page_offset or asked.data_page_offset
    path.write_bytes(raw[:at] + b"\xff" * 8 + raw[at + 8 :])
    source = show.opened(show.config_of(name, str(tmp_path / name)), "all")
    (bad,) = (one.problem for one in source.listed if one.problem)
    assert f"{name}: {path.name}: " in bad and "can't be read" in bad
    assert len(source) == kept + 1


def test_a_sequence_without_its_list_is_one_bad_sample(tmp_path):
  truth = layouts.tum(tmp_path)
  for name in ("rgbd_dataset_freiburg1_a", "rgbd_dataset_freiburg1_b"):
    (tmp_path / name).mkdir()
    (tmp_path / name / "depth.txt").write_bytes(b"1.0 \xff\n")
  (tmp_path / "rgbd_dataset_freiburg1_b/rgb.txt").write_text("1.0 a.png\n")
  source = show.opened(show.config_of("tum", str(tmp_path)), "all")
  assert {one.id for one in source.listed if not one.problem} == {*truth}
  bad = [one.problem for one in source.listed if one.problem]
  assert "rgb.txt does not exist" in bad[0] and "can't be read" in bad[1]


@pytest.mark.parametrize("text", [b"", b"Car 1 2\n", b"Car \xff 1 2 3\n"])
def test_a_broken_list_of_colours_spoils_its_own_scene(text, tmp_path):
  layouts.vkitti(tmp_path)
  path = tmp_path / "vkitti_2.0.3_textgt/Scene02/clone/colors.txt"
  path.write_bytes(text)
  source = show.opened(show.config_of("vkitti", str(tmp_path)), "all")
  (bad,) = (one for one in source.listed if one.problem)
  assert bad.id == "Scene02/clone/Camera_0/00000" and str(path) in bad.problem


def test_a_class_that_the_list_of_a_run_lacks_is_said_of_its_map(tmp_path):
  layouts.vkitti(tmp_path)
  world = {"segmentation": {"classes": "world"}}
  config = show.config_of("vkitti", str(tmp_path), maps=world)
  with pytest.raises(UserError, match=r"^vkitti: Scene01/.* has no Terrain"):
    show.opened(config, "all")[0]


@pytest.mark.parametrize("name", [b"ADE_\xe9", b"ADE_\n1", b"ADE_\x1b[31m"])
def test_a_name_that_no_line_can_hold_is_a_bad_sample(name, tmp_path):
  layouts.ade20k(tmp_path)
  for path in tmp_path.rglob("ADE_train_00000001.*"):
    raw = os.fsencode(path)
    os.rename(raw, raw.replace(b"ADE_train_00000001", name))
  config = show.config_of("ade20k", str(tmp_path), size=8)
  with pytest.raises(UserError, match=r"rename it .1 of . samples") as caught:
    for split in ("train", "validation"):
      mixture.open_split(config, split)
  assert str(caught.value).isprintable()
  found = mixture.open_split(
    dataclasses.replace(config, bad_samples=0.5), "test"
  )
  assert len(found) == 1


def test_a_link_to_its_own_folder_is_not_followed_for_ever(tmp_path):
  truth = layouts.tum(tmp_path / "tum")
  folder = tmp_path / "tum/rgbd_dataset_freiburg1_desk"
  (folder / "up").symlink_to("..")
  (folder / "self").symlink_to(".")
  other = tmp_path / "elsewhere"
  shutil.copytree(folder, other, symlinks=True)
  (tmp_path / "tum/freiburg1_linked").symlink_to(other)
  source = show.opened(show.config_of("tum", str(tmp_path / "tum")), "all")
  linked = [each.replace(folder.name, "freiburg1_linked") for each in truth]
  assert sorted(one.id for one in source.listed) == sorted([*truth, *linked])


@pytest.mark.parametrize("number", ["nan", "inf", "0", "-1170"])
def test_a_camera_that_is_none_is_a_bad_sample(number, tmp_path):
  layouts.scannet(tmp_path)
  path = tmp_path / "scene0000_00/intrinsic/intrinsic_color.txt"
  path.write_text(path.read_text().replace("1170", number))
  source = show.opened(show.config_of("scannet", str(tmp_path), size=8), "all")
  assert source[1].camera is not None
  for read in (source.__getitem__, source.native):
    with pytest.raises(UserError, match=r"scannet: scene0000_00/0: its camera"):
      read(0)
