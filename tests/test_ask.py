"""Questions to a model: what is said of a wrong one, how answers are told."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from cooper_jax import ask, package
from cooper_jax.inference import images, loading, model, wording


@pytest.fixture
def photo(tmp_path):
  path = tmp_path / "photo.png"
  Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path)
  return path


@pytest.mark.parametrize(
  ("question", "written"),
  [
    ("Which is closer, a or b?", "Which is closer , a or b ?"),
    ("Is it within 1.5 m of the  can ?", "Is it within 1.5 m of the can ?"),
    ("Count the cans.", "Count the cans ."),
    ("Nearer to a: b or c", "Nearer to a : b or c"),
  ],
)
def test_questions_are_written_as_the_model_learned_them(question, written):
  assert wording.as_written(question) == written


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--image=no.png"], "no.png does not exist"),
    (["--workdir=nowhere"], "no run in nowhere"),
    (["--package=nothing"], "no packaged model nothing"),
    (["--scene=-1"], "allowed: 0 and more"),
    (["--scene=320"], "has 320 scenes, 0 to 319"),
    ([f"--scene={10**30}"], "has 320 scenes, 0 to 319"),
    (["--mode=dept"], 'did you mean "depth"?'),
    (["--out=a.jpg"], "end it in .png"),
    (["--out=no/where/a.png"], "there is no folder no/where"),
  ],
)
def test_wrong_input_is_one_line(photo, arguments, message, capsys):
  given = {"--image": f"--image={photo}"}
  given |= {each.split("=")[0]: each for each in arguments}
  if "--scene" in given:
    del given["--image"]
  assert ask.main(["How far is it?", *given.values()]) == 2
  error = capsys.readouterr().err
  assert message in error and error.count("\n") == 1
  assert not list(photo.parent.glob("*answer*"))


@pytest.mark.ci
def test_no_map_is_asked_of_a_run_whose_data_had_none(
  tmp_path, monkeypatch, capsys
):
  packaged = loading._package
  monkeypatch.setattr(loading, "_run", lambda *given: packaged("tiny"))
  counts = {"tokenizer/maps/depth": 0, "tokenizer/maps/segmentation": 7}
  (tmp_path / "summary.json").write_text(json.dumps(counts))
  words = ["--scene=3", f"--workdir={tmp_path}", f"--out={tmp_path}"]
  assert ask.main([*words, "--mode=depth"]) == 2
  has = "this model has direct, text, segmentation, adaptive"
  assert has in capsys.readouterr().err
  assert ask.main([*words, "--json"]) == 0
  assert json.loads(capsys.readouterr().out)["mode"] == "segmentation"


def test_a_model_of_own_data_is_not_said_to_know_rooms():
  assert "rooms only" in model.told_of("world")
  assert "its training only" in model.told_of("jsonl")


def test_a_picture_needs_a_question(photo, capsys):
  assert ask.main([f"--image={photo}"]) == 2
  assert "nothing is asked" in capsys.readouterr().err


@pytest.mark.parametrize("question", ["", " ", "\n\t", "\u3000"])
def test_an_empty_question_is_refused(photo, question, capsys):
  assert ask.main([f"--image={photo}", "How far is it?", question]) == 2
  error = capsys.readouterr().err
  assert "question 2 is empty" in error and error.count("\n") == 1


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["caf\udce9"], "question 1 is no UTF-8"),
    (["How far is the " + "very " * 500 + "red ball?"], "question 1 is too l"),
    (["--all", "How far?"], "--all asks"),
    (["--out=pyproject.toml"], "end it in .png"),
    (["--stage=sft"], "--stage=sft is one of a --workdir's"),
  ],
)
def test_questions_that_can_not_be_asked_are_one_line(words, message, capsys):
  assert ask.main(["--scene=3", *words]) == 2
  said = capsys.readouterr()
  assert message in said.err and said.err.count("\n") == 1 and not said.out


def test_a_photograph_has_no_questions_of_its_own(photo, capsys):
  assert ask.main([f"--image={photo}", "--all", "How far is it?"]) == 2
  assert "--all asks the questions of a --scene" in capsys.readouterr().err


def test_the_tilde_is_expanded_everywhere(monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", str(tmp_path))
  words = ["--image=~/a.png", "--out=~/b.png", "--package=~/c", "--workdir=~/d"]
  asked = ask.parse([*words, "How far?"])
  given = (asked.image, asked.out, asked.package, asked.workdir)
  assert given == tuple(f"{tmp_path}/{n}" for n in ("a.png", "b.png", "c", "d"))


@pytest.mark.ci
def test_a_scene_shows_one_question_before_and_after_drawing(
  tmp_path, monkeypatch, capsys
):
  """What a newcomer sees first: both maps, the trace, and what it changed."""
  monkeypatch.chdir(tmp_path)
  assert ask.main(["--scene=3"]) == 0
  said = capsys.readouterr().out
  for line in ("  at once: ", "  draws:  depth", "  draws:  segmentation"):
    assert said.count(line) == 1
  assert said.count("  answer: ") == said.count("  true:   ") == 1
  assert max(map(len, said.replace(str(tmp_path), "").splitlines())) <= 100
  # All of it is in runs/ask, which was not there.
  names = sorted(path.name for path in (tmp_path / "runs/ask").iterdir())
  ends = ("-depth.npy", "-depth.png", "-segmentation.npy", "-segmentation.png")
  page = next(name for name in names if not name.endswith(ends))
  stem = page.removesuffix(".png")
  assert names == sorted([page, *(f"{stem}{end}" for end in ends)])
  assert [path.name for path in tmp_path.iterdir()] == ["runs"]
  with Image.open(tmp_path / "runs/ask" / page) as image:
    assert min(image.size) > 400
    assert len(image.convert("RGB").getcolors(1 << 24)) > 100  # not one colour


@pytest.mark.ci
def test_all_questions_of_a_scene_are_told_as_one_is(tmp_path, capsys):
  words = ["--scene=3", "--mode=depth", f"--out={tmp_path}"]
  assert ask.main([*words, "--all", "--json"]) == 0
  every = json.loads(capsys.readouterr().out)
  assert len(every["answers"]) == 12
  assert all(len(each["maps"]) == 1 for each in every["answers"])
  assert "at_once" not in every["answers"][0]
  assert len({each["picture"] for each in every["answers"]}) == 12
  third = every["answers"][2]
  assert ask.main([*words, "--json", third["question"]]) == 0
  (alone,) = json.loads(capsys.readouterr().out)["answers"]
  assert alone == third


def test_a_photograph_is_asked_and_left_as_it_was(tmp_path, capsys, photo):
  before = photo.read_bytes()
  other = photo.with_suffix(".jpg")
  Image.open(photo).save(other)
  out = tmp_path / "out"
  pictures = set()
  for path in (photo, other):
    question = "Which is closer, the red ball or the bus?"
    words = [f"--image={path}", "--mode=both", "--json", f"--out={out}"]
    assert ask.main([*words, question, "How far is the Red BALL?"]) == 0
    said = json.loads(capsys.readouterr().out)
    rooms, lens = said["notes"]
    assert rooms == model.ROOMS_ONLY and lens.startswith("taken as 58 degrees")
    assert said["answers"][0]["unknown_words"] == ["bus"]
    assert said["answers"][1]["unknown_words"] == []
    assert said["answers"][0]["question"] == question
    pictures |= {each["picture"] for each in said["answers"]}
    depth, classes = said["answers"][0]["maps"]
    metres = np.load(depth["npy"])
    with Image.open(depth["png"]) as image:
      assert image.mode == "I;16"
      millimetres = np.asarray(image).astype(float)
    np.testing.assert_allclose(millimetres / 1000, metres, atol=6e-4)
    ids = np.load(classes["npy"])
    with Image.open(classes["png"]) as image:
      assert image.mode == "L"
      np.testing.assert_array_equal(np.asarray(image), ids)
    assert (metres.dtype, ids.dtype) == (np.float32, np.uint8)
  assert len(pictures) == 4
  assert photo.read_bytes() == before
  assert {path.name for path in tmp_path.iterdir()} == {
    "photo.png", "photo.jpg", "out"
  }  # fmt: skip


def test_the_photograph_keeps_its_aspect_and_its_pixels(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 255, (40, 90, 3), np.uint8)
  turn = Image.Exif()
  turn[0x0112] = 6  # a quarter to the right
  Image.fromarray(pixels).save(tmp_path / "a.png")
  Image.fromarray(pixels).save(tmp_path / "b.png", exif=turn)

  def photo(name):
    return images.read(tmp_path / name, 64).photo

  np.testing.assert_array_equal(photo("a.png"), pixels)
  np.testing.assert_array_equal(photo("b.png"), np.rot90(pixels, -1))
  for name in ("b.jpg", "b.webp", "b.tif"):
    Image.fromarray(pixels).save(tmp_path / name, exif=turn)
    assert photo(name).shape == (90, 40, 3)
  Image.new("RGB", (5000, 1000)).save(tmp_path / "wide.png")
  assert photo("wide.png").shape == (410, 2048, 3)


def test_a_scene_can_be_asked_with_a_picture_of_ones_own_name(tmp_path, capsys):
  out = tmp_path / "answer.png"
  question = "How far is the table from the camera?"
  words = ["--scene=3", f"--out={out}", "--mode=depth", question]
  assert ask.main(words) == 0
  said = capsys.readouterr().out
  assert "draws:  depth" in said and "answer: " in said
  assert f"drawn:  {out}" in said and "note:" not in said
  assert (tmp_path / "answer-depth.npy").is_file()


def test_a_package_of_another_version_is_one_line(tmp_path, capsys):
  folder = tmp_path / "old"
  shutil.copytree(package.find("tiny"), folder)
  manifest = json.loads((folder / "manifest.json").read_text())
  del manifest["config"]["text_rows"]
  (folder / "manifest.json").write_text(json.dumps(manifest))
  words = ["--scene=3", f"--package={folder}", f"--out={tmp_path / 'a.png'}"]
  assert ask.main(words) == 2
  error = capsys.readouterr().err
  assert re.search(r"was made by version \d+ of cooper_jax", error)
  assert error.count("\n") == 1
  manifest["version"] = "0.0.7"
  (folder / "manifest.json").write_text(json.dumps(manifest))
  assert ask.main(words) == 2
  assert "was made by version 0.0.7 of cooper_jax" in capsys.readouterr().err
