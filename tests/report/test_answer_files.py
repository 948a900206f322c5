"""Answers are kept under names of their own, and their maps as arrays."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from cooper_jax.errors import UserError
from cooper_jax.report import answer_files


def test_no_two_answers_share_a_name(tmp_path):
  names = set()
  (tmp_path / "b").mkdir()
  for photograph in ("a.jpg", "a.png", "b/a.png", "ä.png", "A.png", "音.png"):
    for questions in (
      ["How far?", "How far ?!"],
      ["距離は?"],
      ["?"],
      ["?" * 999],
    ):
      for rest in ("tiny direct", "tiny depth"):
        path = tmp_path / photograph
        names |= set(answer_files.pages(None, str(path), questions, rest, path))
  assert len(names) == 6 * 5 * 2
  assert {name.parent for name in names} == {pathlib.Path("runs/ask")}
  assert all(len(name.name) < 100 and name.name.isascii() for name in names)


def test_the_same_is_asked_under_the_same_name():
  asked = (None, "scene-3", ["How far ?"], "tiny both")
  assert answer_files.pages(*asked) == answer_files.pages(*asked)
  assert answer_files.pages(*asked)[0].name.startswith("scene-3-how-far-")


def test_out_is_a_folder_or_a_picture(tmp_path):
  photograph = tmp_path / "photo.png"
  photograph.touch()
  (tmp_path / "v1.2").mkdir()
  for folder in (tmp_path / "new", tmp_path / "new/er", tmp_path / "v1.2"):
    assert answer_files.place(str(folder)) == (folder, None)
  out = str(tmp_path / "x.PNG")
  (page,) = answer_files.pages(out, "scene-1", ["a"], "")
  assert page == tmp_path / "x.PNG"
  two = answer_files.pages(out, "scene-1", ["a", "b"], "")
  assert [each.name for each in two] == ["x-1.PNG", "x-2.PNG"]


@pytest.mark.parametrize(
  ("out", "message"),
  [
    ("a.jpg", "end it in .png, or name a folder"),
    ("no/where/a.png", "there is no folder"),
    ("file", "is a file"),
    ("photo.png", "is the photograph that is asked about"),
    ("link.png", "is the photograph that is asked about"),
  ],
)
def test_what_can_not_be_written_is_refused(tmp_path, out, message):
  photograph = tmp_path / "photo.png"
  photograph.touch()
  (tmp_path / "file").touch()
  (tmp_path / "link.png").symlink_to(photograph)
  with pytest.raises(UserError, match=message):
    answer_files.place(str(tmp_path / out), photograph)


def test_no_file_of_an_answer_is_written_over_the_photograph(tmp_path):
  for name in ("a-2.png", "a-depth.png"):
    (tmp_path / name).write_bytes(b"photograph")
  out = str(tmp_path / "a.png")
  with pytest.raises(UserError, match=r"a-2\.png is the photograph"):
    answer_files.pages(out, "a-2.png", ["x", "y"], "", tmp_path / "a-2.png")
  maps = [("depth", np.ones((2, 2), np.float32))]
  photograph = tmp_path / "a-depth.png"
  with pytest.raises(UserError, match=r"a-depth\.png is the photograph"):
    answer_files.write_maps(tmp_path / "a.png", maps, photograph)
  assert photograph.read_bytes() == b"photograph"


def test_maps_are_kept_in_metres_and_ids(tmp_path):
  depth = np.array([[1.2345, 80.0], [np.nan, -1.0]], np.float32)
  classes = np.array([[0, 255], [3, 7]], np.int32)
  normals = np.zeros((2, 2, 3))
  maps = [("depth", depth), ("segmentation", classes), ("normals", normals)]
  found = answer_files.write_maps(tmp_path / "p.png", [*maps, maps[0]])
  names = [pathlib.Path(each["npy"]).name for each in found]
  assert names == [
    "p-depth.npy", "p-segmentation.npy", "p-normals.npy", "p-depth-2.npy"
  ]  # fmt: skip
  np.testing.assert_array_equal(np.load(found[0]["npy"]), depth)
  with Image.open(found[0]["png"]) as image:
    # Millimetres; what 16 bits can't hold is the most they can, and what is
    # no reading is 0.
    assert np.asarray(image).tolist() == [[1234, 65535], [0, 0]]
  assert np.load(found[1]["npy"]).dtype == np.uint8
  with Image.open(found[1]["png"]) as image:
    assert np.asarray(image).tolist() == classes.tolist()
  assert "png" not in found[2]


def test_ids_beyond_255_are_kept(tmp_path):
  ids = np.array([[0, 300], [65535, 7]], np.uint16)
  (found,) = answer_files.write_maps(tmp_path / "p.png", [("a", ids)])
  np.testing.assert_array_equal(np.load(found["npy"]), ids)
  with Image.open(found["png"]) as image:
    assert np.asarray(image).tolist() == ids.tolist()
