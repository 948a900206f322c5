"""Cut files are found without decoding, wherever they were cut."""

import functools
import os

import numpy as np
import pytest
from PIL import Image

from cooper_jax.data import map_files, pictures
from cooper_jax.errors import UserError

check_depth = functools.partial(map_files.check, "depth")
check_classes = functools.partial(map_files.check, "segmentation")

NOISE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
WAYS = [
  ("a.png", {}),
  ("a.jpg", {}),
  ("a.jpg", {"progressive": True}),
  ("a.jpg", {"comment": b"an end \xff\xd9 within a segment"}),
  ("a.webp", {}),
  ("a.gif", {}),
  ("a.bmp", {}),
  ("a.tiff", {}),
  ("a.tiff", {"compression": "tiff_lzw"}),
  ("a.jp2", {}),
  ("a.j2k", {}),
]


def fails(function, *args):
  try:
    function(*args)
  except UserError as error:
    assert "\n" not in str(error)
    return True
  return False


@pytest.mark.parametrize(("name", "how"), WAYS)
def test_what_a_decoder_would_miss_is_missed(tmp_path, name, how):
  whole, cut = tmp_path / name, tmp_path / f"cut-{name}"
  Image.fromarray(NOISE).save(whole, **how)
  data = whole.read_bytes()
  pictures.check_image(whole, "x")
  for end in {*range(1, len(data), len(data) // 30), len(data) - 1}:
    cut.write_bytes(data[:end])
    found = fails(pictures.check_image, cut, "x")
    # A cut may be found that loses no pixel: the last mark of a PNG, a GIF.
    assert found or not fails(pictures.read_image, cut, 8, "x"), end
    assert found or len(data) - end < 3, end


@pytest.mark.parametrize(("name", "how"), WAYS)
def test_what_phones_append_is_no_cut(tmp_path, name, how):
  path = tmp_path / name
  Image.fromarray(NOISE).save(path, **how)
  path.write_bytes(path.read_bytes() + b"\0\0\0\x20a film of two seconds" * 9)
  pictures.check_image(path, "x")
  pictures.read_image(path, 8, "x")


def test_cut_maps_are_found(tmp_path):
  millimetres = NOISE[..., 0].astype(np.uint16) + 2000
  Image.fromarray(millimetres).save(tmp_path / "d.png")
  np.save(tmp_path / "d.npy", millimetres / 1000)
  Image.fromarray(NOISE[..., 0] % 9).save(tmp_path / "c.png")
  for name, check in (
    ("d.png", check_depth),
    ("d.npy", check_depth),
    ("c.png", check_classes),
  ):
    path = tmp_path / name
    check(path, "x")
    os.truncate(path, path.stat().st_size * 2 // 3)
    assert fails(check, path, "x"), name
