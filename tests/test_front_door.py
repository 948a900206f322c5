"""The front door: a model is loaded, asked and draws from a few lines."""

import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest
from PIL import Image

import cooper_jax
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.inference import images
from cooper_jax.parallel import mesh
from cooper_jax.sampling import sampler
from cooper_jax.world import scenes

QUESTION = "Which is closer, the red ball or the table?"


@pytest.fixture(scope="module")
def model():
  return cooper_jax.load("tiny")


@pytest.fixture(scope="module")
def scene(model):
  world = DataConfig.from_config(model.config).world
  return scenes.generate(world, split="test", start=3, count=1)[0]


@pytest.fixture
def room(scene, tmp_path):
  """A picture file, wider than high."""
  path = tmp_path / "room.png"
  Image.fromarray(scene.image).resize((120, 80)).save(path)
  return path


def test_the_import_loads_no_jax():
  code = (
    "import sys, time; start = time.perf_counter(); import cooper_jax;"
    " print(time.perf_counter() - start < 2, 'jax' in sys.modules,"
    " 'numpy' in sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.split() == ["True", "False", "False"]


@pytest.mark.ci
def test_the_lines_of_the_readme_work(room, tmp_path):
  model = cooper_jax.load("tiny")
  answer = model.ask(room, QUESTION, mode="depth")
  assert answer.text and answer.text in answer.response
  assert "draws:  depth" in answer.trace and "answer:" not in answer.trace
  depth = answer.maps["depth"]
  assert depth.shape == (80, 120) and depth.dtype == np.float32
  assert 0.5 < np.median(depth[depth > 0]) < 20  # metres
  saved = answer.save(tmp_path / "answer.png")
  with Image.open(saved) as picture:
    assert min(picture.size) > 400


def test_answers_print_and_show_well(model, room):
  answer = model.ask(room, "How far is the Red bus?", mode="depth")
  said = str(answer).splitlines()
  assert said[0] == "How far is the Red bus?"
  assert said[1] == "  note: unknown words: bus"
  assert f"  answer: {answer.text}" in said
  rooms, lens = said[-2:]
  assert rooms.startswith("  note: the model knows rendered rooms only")
  assert lens.startswith("  note: taken as 58 degrees wide")
  assert repr(answer).startswith(f"Answer({answer.text!r} to 'How far")
  assert len(repr(answer)) < 200 and "adaptive" in repr(model)
  assert answer._repr_png_().startswith(b"\x89PNG")
  assert [turn.action for turn in answer.turns] == ["depth", "answer"]
  assert len(answer.places) == answer.trace.count("[")


def test_a_path_a_picture_and_an_array_are_one_image(room):
  with Image.open(room) as picture:
    picture.load()
  array = np.asarray(picture)
  for each in (str(room), picture, array, jax.numpy.asarray(array)):
    found = images.read(each, 64)
    expected = images.read(room, 64)
    np.testing.assert_array_equal(found.square, expected.square)
    np.testing.assert_array_equal(found.photo, array)
    assert found.square.shape == (64, 64, 3)


def test_a_turned_picture_is_seen_upright(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 255, (40, 90, 3), np.uint8)
  turn = Image.Exif()
  turn[0x0112] = 6  # a quarter to the right
  path = tmp_path / "turned.png"
  Image.fromarray(pixels).save(path, exif=turn)
  with Image.open(path) as picture:
    of_picture = images.read(picture, 64)
  of_path = images.read(path, 64)
  upright = images.read(np.rot90(pixels, -1), 64)
  for found in (of_picture, of_path):
    np.testing.assert_array_equal(found.square, upright.square)
    np.testing.assert_array_equal(found.photo, upright.photo)


@pytest.mark.ci
def test_several_questions_are_answered_in_one_call(model, scene, monkeypatch):
  questions = [question.text for question in scene.questions[:3]]
  alone = [model.ask(scene, each, mode="depth") for each in questions]
  calls, sample = [], sampler.sample

  def counted(*args, **options):
    calls.append(1)
    return sample(*args, **options)

  monkeypatch.setattr(sampler, "sample", counted)
  together = model.ask(scene, questions, mode="depth")
  assert len(calls) == 1
  assert [each.response for each in together] == [a.response for a in alone]
  for one, other in zip(together, alone, strict=True):
    np.testing.assert_allclose(one.maps["depth"], other.maps["depth"], 1e-3)
  assert [each.true for each in together] == [
    question.answer for question in scene.questions[:3]
  ]
  assert not any(each.notes for each in together)  # it is of the world
  assert model.ask(scene, []) == []


def test_a_chat_compiles_once_and_keeps_what_was_said(model, room):
  chat = model.chat(room)
  first = chat.ask(QUESTION, mode="depth")
  compiled = sampler.sample._cache_size()
  second = chat.ask("How far is the table?", mode="depth")
  assert sampler.sample._cache_size() == compiled
  assert chat.answers == [first, second]
  assert model.ask(room, QUESTION, mode="depth").response == first.response


@pytest.mark.ci
def test_a_map_is_drawn_on_request_at_the_images_own_size(model, room, scene):
  depth = model.draw(room, "depth")
  assert depth.shape == (80, 120) and depth.dtype == np.float32
  # Nearest values: as many different ones as the square of 64 has, at most.
  assert len(np.unique(depth)) <= 64 * 64
  classes = model.draw(scene, "segmentation")
  assert classes.shape == (64, 64) and classes.dtype == np.uint8


def test_the_callers_mesh_is_left_as_it_is(model, scene):
  expected = model.ask(scene, QUESTION, mode="depth")
  own = mesh.make_mesh()
  with jax.set_mesh(own):
    found = model.ask(scene, QUESTION, mode="depth")
    assert jax.sharding.get_mesh() == own
    other = cooper_jax.load("tiny")
    assert jax.sharding.get_mesh() == own
  assert found.response == expected.response
  assert other.mesh.size == 1


@pytest.mark.parametrize(
  ("start", "options", "message"),
  [
    ("no_such", {}, "no model no_such: .*packaged with this version: tiny"),
    ("tny", {}, 'did you mean "tiny"'),
    ("tiny", {"stage": "sft"}, "holds one policy"),
    (None, {}, "no model of type NoneType"),
    (3, {}, "no model of type int"),
  ],
)
def test_what_can_not_be_loaded_is_one_line(start, options, message):
  with pytest.raises(UserError, match=message) as caught:
    cooper_jax.load(start, **options)
  assert "\n" not in str(caught.value)
  assert cooper_jax.errors.UserError is UserError


def test_what_can_not_be_loaded_names_the_runs_that_are_here(
  tmp_path, monkeypatch
):
  (tmp_path / "runs/demo").mkdir(parents=True)
  (tmp_path / "runs/demo/config.json").write_text("{}")
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match="runs here: runs/demo"):
    cooper_jax.load("demo")


@pytest.mark.parametrize(
  ("image", "question", "mode", "message"),
  [
    ("no.png", "How far?", "depth", "no.png does not exist"),
    (None, "How far?", "depth", "image is of type NoneType; give a path"),
    (np.zeros((8, 8, 3)), "How far?", "depth", r"image is float64\[8, 8, 3\]"),
    (np.zeros((8, 8), np.uint8), "Far?", "depth", r"must be uint8\[H, W, 3\]"),
    ("room", " ", "depth", "question 1 is empty"),
    ("room", ["How far?", None], "depth", "question 2 is of type NoneType"),
    ("room", "very " * 500, "depth", "question 1 is too long for this model"),
    ("room", "How far?", "dept", 'mode=dept: .*did you mean "depth"'),
    ("room", None, "depth", "the question is of type NoneType"),
    ("room", 3, "depth", "the question is of type int"),
    (Image.new("RGB", (0, 20)), "How far?", "depth", "image is 0 x 20 pixels"),
  ],
)
def test_what_can_not_be_asked_is_one_line(
  model, room, image, question, mode, message
):
  given = room if isinstance(image, str) and image == "room" else image
  with pytest.raises(UserError, match=message) as caught:
    model.ask(given, question, mode=mode)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batch", [0, -1, 1.5, True, "2"])
def test_a_batch_that_is_no_number_of_questions_is_refused(model, room, batch):
  with pytest.raises(UserError, match=f"batch={batch!r}; give a number"):
    model.ask(room, "How far?", batch=batch)


@pytest.mark.parametrize("degrees", ["60", True, [60]])
def test_an_angle_that_is_no_number_is_refused(model, room, degrees):
  with pytest.raises(UserError, match=r"field_of_view=.*; give a number of"):
    model.ask(room, "How far?", field_of_view=degrees)


def test_a_map_that_it_does_not_draw_is_one_line(model, room):
  with pytest.raises(UserError, match='no map "normals": this model draws'):
    model.draw(room, "normals")
  with pytest.raises(UserError, match='did you mean "depth"'):
    model.draw(room, "dept")
  with pytest.raises(UserError, match='no map "None"'):
    model.draw(room, None)


def test_an_answer_writes_over_no_photograph(model, room):
  answer = model.ask(room, "How far is the table?", mode="direct")
  assert answer.maps == {} and answer.trace == ""
  before = room.read_bytes()
  with pytest.raises(UserError, match="is the photograph"):
    answer.save(room)
  with pytest.raises(UserError, match=r"end its name in \.png"):
    answer.save("answer.jpg")
  with pytest.raises(UserError, match="no folder no/where"):
    answer.save("no/where/answer.png")
  for name in (f"{'a' * 300}.png", "a\0.png"):
    with pytest.raises(UserError, match=r"\.png' can't be written: "):
      answer.save(room.parent / name)
  assert room.read_bytes() == before


def test_a_grey_or_transparent_picture_is_read(room):
  with warnings.catch_warnings(action="error"), Image.open(room) as picture:
    for kind in ("L", "RGBA", "P", "CMYK"):
      assert images.read(picture.convert(kind), 64).square.shape == (64, 64, 3)
    with pytest.raises(UserError, match="32-bit pixels"):
      images.read(picture.convert("F"), 64)
