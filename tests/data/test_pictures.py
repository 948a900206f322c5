"""Pictures of others: every format and depth of colour, or one line why not."""

import functools
import os
import socket
import sys
import types
import warnings

import numpy as np
import pytest
from PIL import Image, features

from cooper_jax.data import map_files, picture_files, pictures
from cooper_jax.errors import UserError

read_depth = functools.partial(map_files.read, "depth")
read_classes = functools.partial(map_files.read, "segmentation")
check_depth = functools.partial(map_files.check, "depth")
check_classes = functools.partial(map_files.check, "segmentation")

RED, WHITE = (255, 0, 0), (255, 255, 255)


def halves(alpha=0):
  """RGBA u8 [20, 40, 4]: red, its right half of an opacity."""
  pixels = np.zeros((20, 40, 4), np.uint8)
  pixels[..., 0] = pixels[..., 3] = 255
  pixels[:, 20:, 3] = alpha
  return pixels


def corner():
  """RGB u8 [20, 40, 3]: black, its upper left quarter white."""
  pixels = np.zeros((20, 40, 3), np.uint8)
  pixels[:10, :20] = 255
  return pixels


def quarters(picture):
  """Which quarter is bright, of a square array."""
  return [bool(picture[y, x].mean() > 128) for y in (5, 35) for x in (5, 35)]


def refused(function, *args, **more):
  with pytest.raises(UserError) as error:
    function(*args, **more)
  assert "\n" not in str(error.value) and len(str(error.value)) < 600
  return str(error.value)


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.jp2"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, name, dtype):
  grey = np.full((20, 40), 135 * 257, dtype)
  grey[:, 20:] = 20 * 257
  Image.fromarray(grey).save(tmp_path / name)
  read = pictures.read_image(tmp_path / name, 40, "x")
  assert (read[20, 5] == 135).all() and (read[20, 35] == 20).all()


def test_16_bit_grey_that_names_a_clear_value_shows_white_there(tmp_path):
  grey = np.full((20, 40), 30_000, np.uint16)
  grey[:, 20:] = 700
  Image.fromarray(grey).save(tmp_path / "a.png", transparency=700)
  read = pictures.read_image(tmp_path / "a.png", 40, "x")
  assert (read[20, 5] == 117).all() and (read[20, 35] == 255).all()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_pixels_are_refused_by_name(tmp_path, dtype):
  Image.fromarray(np.ones((8, 8), dtype)).save(tmp_path / "a.tiff")
  for reads in (
    lambda: pictures.read_image(tmp_path / "a.tiff", 8, "x"),
    lambda: pictures.check_image(tmp_path / "a.tiff", "x"),
  ):
    assert "32-bit pixels" in refused(reads)


@pytest.mark.parametrize(
  ("name", "mode"),
  [
    ("a.png", "RGBA"),
    ("a.png", "LA"),
    ("a.png", "P"),
    ("a.webp", "RGBA"),
    ("a.tiff", "RGBA"),
    ("a.gif", "RGBA"),
    ("a.png", "PA"),
  ],
)
def test_what_alpha_hides_is_white(tmp_path, name, mode):
  picture = Image.fromarray(halves())
  if mode == "P":
    picture = picture.quantize(4)
  elif mode == "PA":  # a palette of which one entry is clear
    index = np.repeat([[0] * 20 + [1] * 20], 20, 0).astype(np.uint8)
    picture = Image.fromarray(index)
    picture.putpalette(RED + RED)
    picture.info["transparency"] = b"\xff\x00"
  else:
    picture = picture.convert(mode)
  picture.save(tmp_path / name, lossless=True)
  read = pictures.read_image(tmp_path / name, 40, "x")
  red = (76, 76, 76) if mode == "LA" else RED  # .299 of 255
  assert (abs(read[20, 5].astype(int) - red) < 3).all()
  assert (read[20, 35] == 255).all()


def test_half_clear_pixels_are_mixed_with_white(tmp_path):
  Image.fromarray(halves(alpha=128)).save(tmp_path / "a.png")
  read = pictures.read_image(tmp_path / "a.png", 40, "x")
  assert (abs(read[20, 35].astype(int) - (255, 127, 127)) < 2).all()


def formats():
  names = ["a.png", "a.jpg", "a.webp", "a.bmp", "a.gif", "a.tiff"]
  names += ["a.avif"] if features.check("avif") else []
  return names + (["a.jp2", "a.j2k"] if features.check("jpg_2000") else [])


@pytest.mark.parametrize("name", formats())
def test_formats_of_pillow_are_read(tmp_path, name):
  Image.fromarray(corner()).save(tmp_path / name)
  read = pictures.read_image(tmp_path / name, 40, "x")
  assert quarters(read) == [True, False, False, False]
  assert pictures.check_image(tmp_path / name, "x") == pictures.Frame(40, 20)


def test_the_first_of_several_frames_is_read(tmp_path):
  frames = [Image.fromarray(corner()), Image.new("RGB", (40, 20), "white")]
  for name in ("a.gif", "a.tiff", "a.webp", "a.png"):
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    read = pictures.read_image(tmp_path / name, 40, "x")
    assert quarters(read) == [True, False, False, False], name


def heic(path):
  path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
  return path


def test_heic_names_the_package_that_reads_it(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "pillow_heif", None)  # can't be imported
  message = refused(pictures.read_image, heic(tmp_path / "a.jpg"), 8, "x")
  assert "pip install pillow-heif" in message


def test_heic_is_read_where_its_package_is(tmp_path, monkeypatch):
  class Heic(Image.Image):
    format = "HEIF"

    def __init__(self, file, name):
      super().__init__()
      self.im, self._size, self._mode = (
        Image.new("L", (4, 4), 9).im,
        (4, 4),
        "L",
      )

  package = types.SimpleNamespace(
    register_heif_opener=lambda: Image.register_open("HEIF", Heic)
  )
  monkeypatch.setitem(sys.modules, "pillow_heif", package)
  monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
  read = pictures.read_image(heic(tmp_path / "a.heic"), 8, "x")
  assert (read == 9).all()


@pytest.mark.parametrize("kind", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tiff"])
def test_maps_are_turned_with_their_picture(tmp_path, name, kind):
  exif = Image.Exif()
  exif[picture_files.ORIENTATION] = kind
  Image.fromarray(corner()).save(tmp_path / name, exif=exif, lossless=True)
  millimetres = np.where(corner()[..., 0], 3000, 2000).astype(np.uint16)
  Image.fromarray(millimetres).save(tmp_path / "depth.png")
  np.save(tmp_path / "depth.npy", millimetres / np.float32(1000))
  classes = np.where(corner()[..., 0], 7, 1).astype(np.uint8)
  Image.fromarray(classes).save(tmp_path / "classes.png")

  image = pictures.read_image(tmp_path / name, 40, "x")
  frame = pictures.check_image(tmp_path / name, "x")
  assert frame == pictures.Frame(40, 20, kind)
  assert frame == pictures.read_frame(tmp_path / name, "x")
  for file in ("depth.png", "depth.npy", "classes.png"):
    reads = {"c": read_classes}.get(file[0], read_depth)
    if kind in (2, 3, 4):  # its sides do not tell whether it was turned
      message = refused(reads, tmp_path / file, 40, "x", frame=frame)
      assert "fits both ways" in message
      continue
    turned = reads(tmp_path / file, 40, "x", frame=frame)
    bright = quarters(100 * (turned > (2 if file[0] == "c" else 2.5)) + 80)
    assert bright == quarters(image)


@pytest.mark.parametrize("kind", range(1, 9))
@pytest.mark.parametrize("name", ["d.png", "d.tiff"])
def test_a_map_that_says_itself_how_it_is_turned_is(tmp_path, name, kind):
  exif = Image.Exif()
  exif[picture_files.ORIENTATION] = kind
  Image.fromarray(corner()).save(tmp_path / "a.png", exif=exif)
  millimetres = np.where(corner()[..., 0], 3000, 2000).astype(np.uint16)
  Image.fromarray(millimetres).save(tmp_path / name, exif=exif)
  image = pictures.read_image(tmp_path / "a.png", 40, "x")
  upright = pictures.Frame(*((20, 40) if kind >= 5 else (40, 20)))
  for frame in (None, upright, pictures.Frame(40, 20, kind)):
    read = read_depth(tmp_path / name, 40, "x", frame=frame)
    assert quarters(100 * (read > 2.5) + 80) == quarters(image)


def test_a_map_that_stands_upright_already_is_left(tmp_path):
  frame = pictures.Frame(20, 40, 6)  # seen 40 wide
  np.save(tmp_path / "d.npy", np.where(corner()[..., 0], 3.0, 2.0))
  read = read_depth(tmp_path / "d.npy", 40, "x", frame=frame)
  assert (read[5, 5], read[5, 35]) == (3, 2)


def test_a_map_of_a_square_turned_picture_is_refused(tmp_path):
  frame = pictures.Frame(30, 30, 6)
  np.save(tmp_path / "d.npy", np.ones((30, 30)))
  np.save(tmp_path / "near.npy", np.ones((15, 15)))
  for name in ("d.npy", "near.npy"):
    for check in (
      lambda p: read_depth(p, 8, "x", frame=frame),
      lambda p: check_depth(p, "x", frame=frame),
    ):
      assert "fits both ways" in refused(check, tmp_path / name)
  # nearly square, but of the very sides as stored
  np.save(tmp_path / "d.npy", np.ones((99, 100)))
  frame = pictures.Frame(100, 99, 6)
  check_depth(tmp_path / "d.npy", "x", frame=frame)


@pytest.mark.parametrize(
  ("shape", "right"),
  [
    ((64, 96), True),
    ((32, 48), True),
    ((640, 960), True),
    ((184, 608), False),
    ((96, 64), False),
    ((64, 64), False),
    ((63, 96), True),  # a row short
    ((64, 100), False),
    ((7, 10), True),  # 6.67 rows
  ],
)
def test_a_map_of_another_aspect_is_not_stretched(tmp_path, shape, right):
  frame = pictures.Frame(96, 64)
  np.save(tmp_path / "d.npy", np.ones(shape, np.float32))
  Image.fromarray(np.ones(shape, np.uint8)).save(tmp_path / "c.png")
  for check in (
    lambda: read_depth(tmp_path / "d.npy", 8, "x", frame=frame),
    lambda: check_depth(tmp_path / "d.npy", "x", frame=frame),
    lambda: read_classes(tmp_path / "c.png", 8, "x", frame=frame),
    lambda: check_classes(tmp_path / "c.png", "x", frame=frame),
  ):
    if right:
      check()
    else:
      message = refused(check)
      assert f"{shape[1]}x{shape[0]}" in message and "96x64" in message


def test_a_phone_s_large_jpeg_is_read_small(tmp_path):
  Image.new("RGB", (12_000, 9_000), (10, 200, 30)).save(tmp_path / "a.jpg")
  read = pictures.read_image(tmp_path / "a.jpg", 8, "x")
  assert (abs(read.astype(int) - (10, 200, 30)) < 4).all()
  frame = pictures.check_image(tmp_path / "a.jpg", "x")
  assert (frame.width, frame.height) == (12_000, 9_000)
  assert pictures.read_frame(tmp_path / "a.jpg", "x") == frame


@pytest.mark.parametrize(
  "make",
  [
    lambda path: Image.new("RGB", (12_000, 9_000)).save(path, progressive=True),
    lambda path: path.write_bytes(jpeg_header(40_000, 40_000)),
  ],
)
def test_a_jpeg_that_would_fill_the_memory_is_refused(tmp_path, make):
  make(tmp_path / "a.jpg")
  assert "million pixels; shrink it" in refused(
    pictures.read_image, tmp_path / "a.jpg", 8, "x"
  )


def jpeg_header(width, height):
  """The bytes of a small grey JPEG that says it is larger."""
  import io

  file = io.BytesIO()
  Image.new("L", (8, 8)).save(file, "JPEG")
  data = bytearray(file.getvalue())
  at = data.index(b"\xff\xc0") + 5
  data[at : at + 4] = height.to_bytes(2) + width.to_bytes(2)
  return bytes(data)


def test_pipes_devices_and_sockets_do_not_hang(tmp_path):
  os.mkfifo(tmp_path / "pipe.png")
  os.mkfifo(tmp_path / "pipe.npy")
  with socket.socket(socket.AF_UNIX) as bound:
    bound.bind(str(tmp_path / "socket"))
    for file in (tmp_path / "pipe.png", "/dev/zero", tmp_path / "socket"):
      assert "not a file" in refused(pictures.read_image, file, 8, "x")
      assert "not a file" in refused(pictures.check_image, file, "x")
  assert "not a file" in refused(read_depth, tmp_path / "pipe.npy", 8, "x")
  assert "not a file" in refused(check_classes, tmp_path / "pipe.png", "x")


@pytest.mark.parametrize(
  ("path", "reason"),
  [
    ("", "is empty"),
    (" ", "is empty"),
    (".", "it is a folder"),
    ("https://example.org/a.png", "URLs are not read"),
    ("https:/example.org/a.png", "URLs are not read"),  # as a Path has it
    ("gs://bucket/a.png", "URLs are not read"),
    ("data:image/png;base64,AAAA", "URLs are not read"),
    ("none.png", "does not exist"),
    ("~/none.png", "does not exist"),
    ("~nobody-of-this-name/a.png", "does not exist"),
    ("a\0b.png", "can't be read"),
    ("a" * 5000, "File name too long"),
    ("a\nb.png", "does not exist"),
    ("\udce4.png", "does not exist"),
  ],
)
def test_a_path_that_is_no_picture_is_named(path, reason):
  for reads in (
    lambda: pictures.read_image(path, 8, "x"),
    lambda: pictures.check_image(path, "x"),
    lambda: check_depth(path, "x"),
    lambda: check_classes(path, "x"),
  ):
    assert reason in refused(reads)


def test_a_home_folder_is_found(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  Image.fromarray(corner()).save(tmp_path / "a.png")
  assert pictures.read_image("~/a.png", 8, "x").shape == (8, 8, 3)
  pictures.check_image("~/a.png", "x")
  beside = picture_files.beside
  assert beside(tmp_path / "own", "~/a.png") == str(tmp_path / "a.png")
  assert beside(tmp_path, "a.png") == str(tmp_path / "a.png")
  assert beside(tmp_path, "https://x.org/a") == "https://x.org/a"
  assert beside(tmp_path, "") == ""


def test_an_unreadable_exif_leaves_the_picture_as_it_is(tmp_path):
  Image.fromarray(corner()).save(tmp_path / "a.jpg", exif=b"Exif\0\0nothing")
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    assert pictures.check_image(tmp_path / "a.jpg", "x").orientation == 1
  assert quarters(pictures.read_image(tmp_path / "a.jpg", 40, "x"))[0]
