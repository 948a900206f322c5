"""Commands that look at the world: what is wrong is one line, and no file."""

import pytest

from cooper_jax.errors import UserError
from cooper_jax.world import WorldConfig, generate
from cooper_jax.world.tools import bench, calibrate, ceilings, shortcuts, show


@pytest.mark.parametrize(
  ("tool", "words", "said"),
  [
    (show, ["--image_size=8"], "image_size is 8 pixels, the world draws 16"),
    (show, ["--count=0"], "--count=0: give 1 or more"),
    (show, ["--columns=0"], "--columns=0: give 1"),
    (show, ["--scale=0"], "--scale=0: give 1"),
    (show, ["--start=-3", "--count=1"], "start is -3; scenes are counted"),
    (show, ["--out=a.xyz"], "end it in .png"),
    (show, ["--out=no/where/a.png", "--count=1"], "No such file"),
    (bench, ["--sizes=x"], "--sizes=x: write whole numbers"),
    (bench, ["--sizes=8"], "image_size is 8 pixels"),
    (bench, ["--seconds=0"], "--seconds=0: give some above 0"),
    (bench, ["--seconds=nan"], "--seconds=nan: give"),
    (shortcuts, ["--questions=0"], "--questions=0: give 1 or more"),
    (shortcuts, ["--image_size=8"], "image_size is 8 pixels"),
    (ceilings, ["--seeds=-1"], "seed is -1; allowed: 0 to"),
    (ceilings, ["--scenes=2", f"--seeds={10**20}"], f"seed is {10**20}"),
    (ceilings, ["--seeds=1e3"], "--seeds=1e3: write whole numbers"),
    (calibrate, ["--scenes=0"], "--scenes=0: give 1000 or more"),
    (calibrate, ["--rounds=0"], "--rounds=0: give 1"),
  ],
)
def test_a_wrong_word_is_one_line(
  tool, words, said, capsys, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  assert tool.main(words) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and said in error
  assert error.count("\n") == 1 and not [*tmp_path.iterdir()]


def test_a_sheet_is_written(tmp_path, capsys):
  out = tmp_path / "sheet.png"
  assert show.main([f"--out={out}", "--count=1", "--image_size=16"]) == 0
  assert out.is_file() and "wrote" in capsys.readouterr().out


def test_scenes_before_the_first_are_refused():
  for place in ({"start": -1, "count": 1}, {"start": 0, "count": -1}):
    with pytest.raises(UserError, match="counted from 0 on"):
      generate(WorldConfig(), split="train", **place)
