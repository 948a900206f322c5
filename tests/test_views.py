"""The lens that a model is told with a picture that is no sample."""

import dataclasses
import math
import types

import numpy as np
import pytest
from PIL import Image

from configs import base
from cooper_jax import ask
from cooper_jax.data import lens_of
from cooper_jax.errors import UserError
from cooper_jax.inference import images, views
from cooper_jax.sample import Sample

FILM = 0xA405  # FocalLengthIn35mmFilm


def settings(tell=True, source="world", fit="squash"):
  config = base.get_base("smoke", ("tokenizer", "pretrain"))
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.data.update(tell_lens=tell, source=source, fit=fit)
  return config


def picture(path, *, size=(90, 60), film=None, turn=1):
  made = Image.fromarray(
    np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)
  )
  exif = Image.Exif()
  exif[0x0112] = turn
  if film is not None:
    exif.get_ifd(0x8769)[FILM] = film
  made.save(path, exif=exif)
  return path


def shares(image):
  """Focal lengths in widths and heights of the square."""
  return np.diag(image.camera)[:2] / 64


def test_a_camera_sees_as_wide_as_is_said():
  # Half a width at a right angle's half: the focal length is half the width.
  found = lens_of.camera(90.0, (80, 60))
  np.testing.assert_allclose(found, [[40, 0, 40], [0, 40, 30], [0, 0, 1]])
  narrow = lens_of.camera(2 * math.degrees(math.atan(0.5)), (80, 60))
  assert narrow[0, 0] == narrow[1, 1] == pytest.approx(80)


def test_exif_tells_how_wide_a_picture_is(tmp_path):
  # 36 x 24 mm is the film's own shape: as wide as 36 mm at 18 mm is 90 degrees.
  wide = picture(tmp_path / "wide.jpg", film=18)
  assert images.read(wide, 64).view == pytest.approx(90.0)
  # Held upright it is as wide as the film is high: 24 mm at 12 mm.
  tall = picture(tmp_path / "tall.jpg", film=12, turn=6)
  found = images.read(tall, 64)
  assert found.sides == (60, 90) and found.view == pytest.approx(90.0)
  with Image.open(tall) as opened:
    assert images.read(opened, 64).view == pytest.approx(90.0)


@pytest.mark.parametrize("film", [None, 0])
def test_exif_without_a_focal_length_tells_nothing(tmp_path, film):
  path = picture(tmp_path / "a.jpg", film=film)
  assert images.read(path, 64).view is None


def test_a_model_is_told_what_is_said_or_in_exif_or_a_middle_lens(tmp_path):
  config = settings()
  plain = images.read(picture(tmp_path / "a.png"), 64)
  known = images.read(picture(tmp_path / "b.jpg", film=18), 64)
  found = {
    name: views.told(image, degrees, config)
    for name, image, degrees in (
      ("middle", plain, None),
      ("exif", known, None),
      ("said", known, 53.13010235),
    )
  }
  # Of a square that is squashed: widths, and heights of a side two thirds long.
  np.testing.assert_allclose(shares(found["exif"]), (0.5, 0.75), rtol=1e-5)
  np.testing.assert_allclose(shares(found["said"]), (1.0, 1.5), rtol=1e-5)
  # 58 degrees, the middle of 44 to 72: 0.5 / tan(29) = 0.902 widths, as all
  # squares of the world have it: one number.
  np.testing.assert_allclose(shares(found["middle"]), (0.902, 0.902), rtol=1e-3)
  assert "its lens is not known" in found["middle"].notes[0]
  assert "90 degrees wide: by its EXIF" in found["exif"].notes[0]
  # What is told once stays.
  assert views.told(found["said"], None, config) is found["said"]


@pytest.mark.parametrize("fit", ["crop", "pad", "crop:48x96"])
def test_the_lens_is_that_of_what_the_model_sees(tmp_path, fit):
  config = settings(fit=fit)
  image = images.read(picture(tmp_path / "a.png"), 64, fit=fit)
  placed = views.told(image, 90.0, config).camera
  # Half of 90 wide: 45 pixels of a picture 60 high, of which 64 are made.
  shapes = {"crop": (48.0, 48.0), "pad": (32.0, 32.0)}
  # Two wide and one high: all of its width, in the maps' square stretched.
  across, down = shapes.get(fit, (32.0, 64.0))
  assert placed[0, 0] == pytest.approx(across, rel=0.02)
  assert placed[1, 1] == pytest.approx(down, rel=0.02)


def test_a_model_that_is_not_told_stays_as_it_was(tmp_path):
  image = images.read(picture(tmp_path / "a.jpg", film=18), 64)
  assert views.told(image, None, settings(tell=False)) is image
  with pytest.raises(UserError, match="without being told the lens"):
    views.check(60.0, settings(tell=False))
  plain = images.read(picture(tmp_path / "b.png"), 64)
  assert views.told(plain, None, settings(source="jsonl")) is plain
  sample = dataclasses.replace(plain, camera=np.eye(3))
  assert views.told(sample, None, settings()) is sample


@pytest.mark.parametrize("degrees", [0.0, -3.0, 171.0, math.nan, math.inf])
def test_an_angle_that_is_none_is_refused(degrees):
  with pytest.raises(UserError, match="up to 170"):
    views.check(degrees, settings())


def test_ask_tells_the_model_how_wide_a_picture_is(
  tmp_path, monkeypatch, capsys
):
  seen = []

  class Asked(Exception):
    """Nothing more of `ask` is run."""

  def answer(image, questions, **given):
    seen.append((image, questions, given))
    raise Asked

  config = settings()
  own = types.SimpleNamespace(
    config=config, ask=answer, modes=["adaptive"], name="own",
    check_mode=lambda mode, where: mode,
  )  # fmt: skip
  monkeypatch.setattr(ask, "load", lambda asked: own)
  path = picture(tmp_path / "a.png")
  words = [f"--image={path}", "How far is the ball?"]
  with pytest.raises(Asked):
    ask.main([*words, "--field_of_view=90"])
  ((image, questions, _),) = seen
  np.testing.assert_allclose(shares(image), (0.5, 0.75), rtol=1e-5)
  assert questions == ["How far is the ball?"]
  assert ask.main([*words, "--field_of_view=200"]) == 2
  assert "--field_of_view=200; allowed" in capsys.readouterr().err
  with config.unlocked():
    config.data.tell_lens = False
  assert ask.main([*words, "--field_of_view=90"]) == 2
  assert "leave it out" in capsys.readouterr().err


def test_answers_by_another_lens_are_other_files(tmp_path, monkeypatch, capsys):
  outs = []

  def written(answer, out):
    outs.append(out)
    return {}

  own = types.SimpleNamespace(
    config=settings(), modes=["adaptive"], name="own",
    ask=lambda *given, **options: [types.SimpleNamespace(notes=())],
    check_mode=lambda mode, where: mode,
  )  # fmt: skip
  monkeypatch.setattr(ask, "load", lambda asked: own)
  monkeypatch.setattr(ask, "written", written)
  path = picture(tmp_path / "a.png")
  for more in ([], ["--field_of_view=30"], ["--field_of_view=90"]):
    for _ in range(2):  # asked again, it is the same file
      words = [f"--image={path}", "How far is the ball?", "--json", *more]
      assert ask.main(words) == 0
  assert outs[::2] == outs[1::2] and len({*outs}) == 3
  capsys.readouterr()


@pytest.mark.parametrize(
  "camera",
  [
    [58.0, 58.0, 32.0, 32.0],
    np.diag([0.9, 0.9, 1.0]),
    np.diag([58.0, math.nan, 1.0]),
    np.diag([-58.0, 58.0, 1.0]),
    np.eye(4),
    "a lens",
    [[58.0], [58.0, 1.0]],
  ],
  ids=["list", "shares", "nan", "negative", "4x4", "text", "ragged"],
)
@pytest.mark.parametrize("shape", [(64, 64, 3), (48, 96, 3)], ids=str)
def test_a_camera_that_is_none_is_one_line(camera, shape):
  pixels = np.zeros(shape, np.uint8)
  right = Sample("a", "own", pixels, camera=np.diag([58.0, 58.0, 1.0]))
  assert images.read(right, 64).camera is not None
  wrong = dataclasses.replace(right, camera=camera)
  with pytest.raises(UserError, match=r"image: its camera is .* K \[3, 3\]"):
    images.read(wrong, 64)
