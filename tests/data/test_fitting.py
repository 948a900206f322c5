"""Pictures that are not square: image, maps and camera are fitted alike."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from cooper_jax.data import (
  check,
  fitting,
  map_files,
  mixture,
  pictures,
  survey,
)
from cooper_jax.data.entries import JsonlSource, read_entries
from cooper_jax.errors import UserError
from cooper_jax.inference import images
from tests.own_data import reading

SIDES = ((64, 48), (48, 64), (61, 37), (30, 97), (50, 50))  # width, height


def spot(width, height, x, y, radius):
  """A white disc at (x, y) on black, u8 [height, width, 3]."""
  at_y, at_x = np.mgrid[:height, :width] + 0.5
  inside = (at_x - x) ** 2 + (at_y - y) ** 2 < radius**2
  return np.where(inside[..., None], 255, 0).astype(np.uint8).repeat(3, -1)


def middle(inside):
  """(x, y) of the centre of the pixels [h, w] that are set."""
  y, x = np.nonzero(inside)
  return np.array([x.mean() + 0.5, y.mean() + 0.5])


@pytest.mark.parametrize("fit", fitting.WAYS)
@pytest.mark.parametrize("sides", SIDES)
def test_image_map_and_camera_show_a_point_at_one_place(fit, sides):
  width, height = sides
  rng = np.random.default_rng(width)
  for _ in range(3):
    # Near the middle, so that no crop leaves it out.
    x, y = width * rng.uniform(0.45, 0.55), height * rng.uniform(0.45, 0.55)
    radius = 0.2 * min(sides)
    picture = spot(width, height, x, y, radius)
    large = spot(2 * width, 2 * height, 2 * x, 2 * y, 2 * radius)[..., 0]
    placed = fitting.place(fit, sides, 64)
    shown = placed.image(Image.fromarray(picture))
    # A map of twice the resolution, as of another sensor.
    drawn = placed.array(large, 7)
    assert shown.shape == (64, 64, 3) and drawn.shape == (64, 64)
    camera = placed.camera(np.diag([50.0, 50, 1]), sides)
    # A ray through the point: (x, y) = K (x / f, y / f, 1).
    ray = camera @ np.array([x / 50, y / 50, 1.0])
    np.testing.assert_allclose(middle(drawn == 255), ray[:2], atol=0.8)
    lit = shown[..., 0] > 191
    np.testing.assert_allclose(middle(lit), ray[:2], atol=0.8)
    across, down = np.ptp(np.nonzero(drawn == 255), axis=1)[::-1]
    if fit != "squash":  # round things stay round
      assert abs(across - down) <= 2


def test_crop_takes_the_middle_and_pad_all():
  ramp = np.arange(100, dtype=np.float32)[None].repeat(40, 0)  # [40, 100]
  crop = fitting.place("crop", (100, 40), 20).array(ramp)
  # 40 of 100 columns, from 30 on, every second: centres at 31, 33, ...
  np.testing.assert_array_equal(crop[0], np.arange(31, 70, 2))
  pad = fitting.place("pad", (100, 40), 20).array(ramp, -1)
  # 20 x 8 pixels, with 6 rows of nothing above and below.
  assert (pad[:6] == -1).all() and (pad[14:] == -1).all()
  np.testing.assert_array_equal(pad[6], np.arange(2, 100, 5))
  squash = fitting.place("squash", (100, 40), 20).array(ramp, -1)
  np.testing.assert_array_equal(squash[0], np.arange(2, 100, 5))


@pytest.mark.parametrize("sides", SIDES)
def test_squash_is_what_it_was(sides):
  rng = np.random.default_rng(0)
  width, height = sides
  pixels = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
  rgb = Image.fromarray(pixels)
  placed = fitting.place("squash", sides, 24)
  before = np.array(rgb.resize((24, 24), Image.Resampling.BICUBIC), np.uint8)
  np.testing.assert_array_equal(placed.image(rgb), before)
  rows, columns = (
    ((np.arange(24) + 0.5) * side / 24).astype(int) for side in (height, width)
  )
  before = pixels[rows[:, None], columns]
  np.testing.assert_array_equal(placed.array(pixels), before)


def write(folder, sides=(60, 40), turned=1, **line):
  width, height = sides
  rng = np.random.default_rng(5)
  picture = Image.fromarray(
    rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
  )
  exif = picture.getexif()
  exif[0x0112] = turned
  picture.save(folder / "a.png", exif=exif)
  depth = rng.uniform(1, 70, (height, width)).astype(np.float32)
  np.save(folder / "a.npy", depth)
  classes = rng.integers(0, 14, (height, width)).astype(np.uint8)
  Image.fromarray(classes).save(folder / "classes.png")
  line = {
    "image": "a.png", "depth": "a.npy", "segmentation": "classes.png", **line
  }  # fmt: skip
  path = folder / "own.jsonl"
  path.write_text(json.dumps(line) + "\n")
  return path, depth, classes


def test_a_padded_sample_says_nothing_outside_its_picture(tmp_path):
  path, depth, classes = write(tmp_path, camera=[50, 50, 30, 20])
  (sample,) = JsonlSource(path, read_entries(path), 30, fit="pad")
  inside = np.zeros((30, 30), bool)
  inside[5:25] = True  # 60 x 40 in 30 x 20
  np.testing.assert_array_equal(sample.maps["depth"] > 0, inside)
  np.testing.assert_array_equal(sample.maps["segmentation"] == 255, ~inside)
  assert (sample.image[~inside] == 128).all()
  assert np.isin(sample.maps["depth"][inside], depth).all()
  assert set(sample.maps["segmentation"][inside]) <= set(classes.ravel())
  # Half the size, ten of twenty rows lower by five.
  np.testing.assert_allclose(
    sample.camera, [[25, 0, 15], [0, 25, 15], [0, 0, 1]]
  )
  (squashed,) = JsonlSource(path, read_entries(path), 30)
  np.testing.assert_allclose(
    squashed.camera, [[25, 0, 15], [0, 37.5, 15], [0, 0, 1]]
  )


@pytest.mark.parametrize("fit", fitting.WAYS)
def test_a_turned_picture_is_fitted_as_it_is_seen(tmp_path, fit):
  write(tmp_path, turned=6)
  frame = pictures.read_frame(tmp_path / "a.png", "here")
  shown = map_files.read(
    "depth", tmp_path / "a.npy", 30, "here", frame=frame, fit=fit
  )
  upright = np.rot90(np.load(tmp_path / "a.npy"), -1)  # 40 wide, 60 high
  placed = fitting.place(fit, (40, 60), 30)
  np.testing.assert_array_equal(shown, placed.array(upright))


def test_the_camera_of_a_turned_picture_is_not_known(tmp_path):
  path, *_ = write(tmp_path, turned=6, camera=[50, 50, 30, 20])
  with pytest.raises(UserError, match=r"own.jsonl:1: EXIF turns the picture"):
    JsonlSource(path, read_entries(path), 30)[0]


@pytest.mark.parametrize(
  ("camera", "shown"),
  [
    ([1, 2, 3], "[1, 2, 3]"),
    ([0, 1, 2, 3], "[0, 1, 2, 3]"),
    ("50", "'50'"),
    ([1, 2, 3, None], "[1, 2, 3, None]"),
    (["50", 50, 30, 20], "['50', 50, 30, 20]"),
    ([0.8, 1.1, 0.5, 0.5], "[0.8, 1.1, 0.5, 0.5]"),  # shares of the sides
    ([1e9, 50, 30, 20], "[1000000000.0, 50, 30, 20]"),
    ([50, 50, -1e9, 20], "[50, 50, -1000000000.0, 20]"),
  ],
)
def test_a_camera_that_is_none_is_refused(tmp_path, camera, shown):
  path, *_ = write(tmp_path, camera=camera)
  with pytest.raises(UserError) as error:
    read_entries(path)
  assert f"'camera' is {shown}; it should be [fx, fy, cx, cy]" in str(
    error.value
  )


@pytest.mark.parametrize("fit", fitting.WAYS)
def test_traces_point_into_whole_pictures_only(tmp_path, fit, capsys):
  trace = "ball <at .4 .7>"
  path, *_ = write(tmp_path, question="?", answer="yes", reasoning=trace)
  config = reading(path, image_size=32, fit=fit)
  if fit == "squash":
    assert mixture.open_split(config, "train")[0].questions[0].reasoning
    return
  said = rf"own.jsonl:1: a trace .* points .* config.data.fit={fit} shows"
  for opened in (
    lambda: mixture.open_split(config, "train"),
    lambda: survey.at_start(config),
  ):
    with pytest.raises(UserError, match=said):
      opened()
  assert check.main([str(path), f"--fit={fit}"]) == 2
  assert f"config.data.fit={fit}" in capsys.readouterr().err


@pytest.mark.parametrize("fit", fitting.WAYS)
def test_a_model_is_asked_about_what_it_learned_from(tmp_path, fit):
  path, *_ = write(tmp_path, question="Is it ?", answer="yes")
  config = reading(path, image_size=32, fit=fit)
  learned = mixture.open_split(config, "train")[0].image
  asked = images.read(tmp_path / "a.png", 32, fit=fit)
  np.testing.assert_array_equal(asked.square, learned)
  # The photo shows the same part, so that a square map lies on it.
  sides = {"squash": (40, 60), "crop": (40, 40), "pad": (60, 60)}[fit]
  assert asked.photo.shape[:2] == sides


SHAPES = ":48x80,80x48"


@pytest.mark.parametrize("fit", fitting.WAYS)
@pytest.mark.parametrize("sides", SIDES)
def test_a_picture_takes_the_nearest_shape_and_its_maps_stay_squares(
  fit, sides
):
  width, height = sides
  picture = spot(width, height, 0.5 * width, 0.5 * height, 0.2 * min(sides))
  placed = fitting.place(fit + SHAPES, sides, 64)
  shown = placed.image(Image.fromarray(picture))
  aspects = {1.0: (64, 64), 80 / 48: (80, 48), 48 / 80: (48, 80)}
  best = min(aspects, key=lambda each: abs(np.log(width / height / each)))
  assert shown.shape == (*aspects[best][::-1], 3)
  drawn = placed.array(picture[..., 0], 7)
  assert drawn.shape == (64, 64)
  # The same part of the picture: the map stretched over the image lies on it.
  over = np.asarray(Image.fromarray(drawn).resize(aspects[best], 0))
  assert np.mean((over == 255) != (shown[..., 0] > 191)) < 0.06
  camera = placed.camera(np.diag([50.0, 50, 1]), sides)
  ray = camera @ np.array([0.5 * width / 50, 0.5 * height / 50, 1.0])
  np.testing.assert_allclose(middle(drawn == 255), ray[:2], atol=0.8)
  # The photo that people see has the shape's aspect, where it is cut or padded.
  photo = placed.photo(picture)
  if fit == "squash":
    assert photo is picture
  else:
    assert abs(photo.shape[1] / photo.shape[0] / best - 1) < 0.04


def test_a_smaller_copy_has_the_shape_of_its_picture(tmp_path, monkeypatch):
  """Its rounded aspect may be on the other side of 4:3, where shapes part."""
  fit, sides = "crop:9x16", (1365, 1024)
  assert fitting.nearest_shape(fit, sides, 16) == (16, 16)
  assert fitting.nearest_shape(fit, (171, 128), 16) == (16, 9)
  Image.new("RGB", sides).save(tmp_path / "a.jpg")
  monkeypatch.setattr(pictures, "PIXELS", 1000)
  assert pictures.read_image(tmp_path / "a.jpg", 16, "x", fit).shape[0] == 16
  monkeypatch.setattr(images.answer_page, "MAX_SIDE", 171)
  for given in (tmp_path / "a.jpg", Image.new("RGB", sides)):
    asked = images.read(given, 16, fit=fit)
    assert asked.square.shape[:2] == (16, 16)
    assert asked.photo.shape[:2] == (128, 128)


def test_a_square_is_what_it_is_without_shapes():
  picture = Image.fromarray(spot(50, 50, 20, 30, 9))
  for fit in fitting.WAYS:
    one, other = (fitting.place(f, (50, 50), 64) for f in (fit, fit + SHAPES))
    np.testing.assert_array_equal(one.image(picture), other.image(picture))


@pytest.mark.parametrize(
  ("fit", "said"),
  [
    ("crop:48", "pixels of height x width"),
    ("crop:", "pixels of height x width"),
    ("crop:48x80, 80x48", "without spaces"),
    ("crop:48x80,48x80", "each shape once"),
    ("pad:64x64", "no square"),
    ("cro:48x80", 'did you mean "crop"'),
  ],
)
def test_shapes_that_are_none_are_refused(fit, said):
  with pytest.raises(UserError, match=said):
    fitting.place(fit, (3, 4), 8)


def test_another_word_is_refused():
  with pytest.raises(UserError, match=r"data.fit is 'pda'; allowed: .*\"pad\""):
    fitting.place("pda", (3, 4), 8)


def test_a_source_set_up_for_its_data_can_be_pickled(tmp_path):
  path, depth, _ = write(tmp_path)
  maps = {"depth": {"farthest": 80.0}}
  source = mixture.open_split(reading(path, image_size=32, maps=maps), "train")
  again = pickle.loads(pickle.dumps(source))
  assert again.modalities["depth"].facts()["farthest"] == 80.0
  assert {*again.modalities} == {"depth"} and repr(again) == repr(source)
  assert np.isin(again[0].maps["depth"], depth).all()


def test_the_check_reads_data_as_a_run_will(tmp_path, capsys):
  path, *_ = write(tmp_path)
  names = [f"class {i}" for i in range(14)]
  (tmp_path / "list.txt").write_text("\n".join(names[:9]))
  few = f"--maps=segmentation.classes={tmp_path}/list.txt"
  assert check.main([str(path), few]) == 2
  assert "class ids above 8" in capsys.readouterr().out
  (tmp_path / "list.txt").write_text("\n".join(names))
  out = tmp_path / "sheet.png"
  far = "--maps=depth.farthest=80"
  check.main([str(path), few, far, "--json", f"--out={out}", "--fit=pad"])
  found = json.loads(capsys.readouterr().out)
  # Padded, the square has pixels that are of no class.
  assert {*found["classes"]} == {*names, "ignore"} and out.exists()
  # The one image is in training: the other splits have none to be opened.
  assert all("no lines for split" in each for each in found["errors"])
  assert check.main([str(path), "--maps=depth.father=80"]) == 2
  assert "--maps=depth.father=80: write NAME.FIELD" in capsys.readouterr().err
  for no_setting in ("depth.span=3", "segmentation.names=a"):
    assert check.main([str(path), f"--maps={no_setting}"]) == 2
    said = capsys.readouterr().err
    assert f"--maps={no_setting}: write NAME.FIELD" in said
    assert "allowed are depth.nearest, depth.farthest" in said
