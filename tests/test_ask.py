"""Asking: what is said when something is wrong, and how answers are told."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from cooper_jax import ask, package


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
  assert ask.as_written(question) == written


def test_a_response_is_told_line_by_line():
  text = (
    "<think> measure the depth </think> <depth> <think> red ball <at 0.25 0.5>"
    " 1.2 m </think> <answer> 1.2 m </answer>"
  )
  assert ask.tell(text).splitlines() == [
    "  thinks: measure the depth",
    "  draws:  depth",
    "  thinks: red ball [1] 1.2 m",
    "  answer: 1.2 m",
  ]
  assert ask.tell("<answer> yes </answer>") == "  answer: yes"
  assert ask.tell("<think> cut off") == "  <think> cut off"


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--image=no.png"], "no.png does not exist"),
    (["--workdir=nowhere"], "no run in nowhere"),
    (["--package=nothing"], "no packaged model nothing"),
    (["--scene=-1"], "allowed: 0 and more"),
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


def test_a_picture_needs_a_question(photo, capsys):
  assert ask.main([f"--image={photo}"]) == 2
  assert "nothing is asked" in capsys.readouterr().err


def test_several_questions_get_a_picture_each(photo):
  asked = ask.parse([f"--image={photo}", "a", "b"])
  assert [p.name for p in ask.pages(asked, 2)] == [
    "photo-answer-1.png",
    "photo-answer-2.png",
  ]


def test_the_packaged_model_answers_and_draws(tmp_path, capsys):
  """As it is shipped: no training, a scene and a question of one's own."""
  out = tmp_path / "answer.png"
  question = "How far is the table from the camera?"
  words = ["--scene=3", f"--out={out}", "--mode=depth", question]
  assert ask.main(words) == 0
  said = capsys.readouterr().out
  assert "draws:  depth" in said and "answer: " in said
  with Image.open(out) as image:
    assert min(image.size) > 100
    assert len(set(image.convert("RGB").getdata())) > 100  # not one colour


def test_a_package_of_another_version_is_one_line(tmp_path, capsys):
  folder = tmp_path / "old"
  shutil.copytree(package.find("tiny"), folder)
  manifest = json.loads((folder / "manifest.json").read_text())
  del manifest["config"]["text_rows"]
  (folder / "manifest.json").write_text(json.dumps(manifest))
  words = ["--scene=3", f"--package={folder}", f"--out={tmp_path / 'a.png'}"]
  assert ask.main(words) == 2
  error = capsys.readouterr().err
  assert "was made by another version of cooper_jax" in error
  assert error.count("\n") == 1
