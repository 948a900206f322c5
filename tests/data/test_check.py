"""Own data is looked at as a whole: all errors at once, counts, the sheet."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from configs import base
from cooper_jax import main
from cooper_jax.data import check, mixture, survey
from cooper_jax.errors import UserError
from cooper_jax.policy import make_policy
from cooper_jax.rollouts import lengths
from tests import own_data

LINE = {"question": "Is there a red ball ?", "answer": "yes"}


@pytest.fixture
def own(tmp_path):
  """12 pictures; every third has depth of 2 m, every fourth classes 1 and 4."""
  lines = []
  for i in range(12):
    Image.fromarray(np.full((12, 16, 3), 20 * i, np.uint8)).save(
      tmp_path / f"{i}.png"
    )
    lines.append(LINE | {"image": f"{i}.png"})
    if i % 3 == 0:
      metres = np.full((12, 16), 2, np.float32)
      metres[:6] = np.nan
      np.save(tmp_path / f"{i}.npy", metres)
      lines[-1]["depth"] = f"{i}.npy"
    if i % 4 == 0:
      classes = np.ones((12, 16), np.uint8)
      classes[:, :4] = 4
      Image.fromarray(classes).save(tmp_path / f"{i}-classes.png")
      lines[-1]["segmentation"] = f"{i}-classes.png"
  lines.append(lines[-1] | {"question": "How far ?", "answer": "2 m"})
  return write(tmp_path, lines)


def write(folder, lines, name="own.jsonl"):
  path = folder / name
  path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
  return path


def lines_of(path):
  return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def cut(path):
  """Takes the end of a file away."""
  data = path.read_bytes()
  path.write_bytes(data[: len(data) - 20])


def settings(path, **changes):
  return own_data.reading(path, image_size=8, **changes)


def test_what_is_there_is_counted(own, capsys):
  assert check.main([str(own), "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert (found["images"], found["questions"]) == (12, 13)
  assert found["answer_types"] == {"yes_no": 12, "number": 1}
  assert found["maps"] == {"depth": 4, "segmentation": 3}
  # half of each map has a reading, of 2 m
  assert found["depth"] == {
    "min_m": 2.0, "median_m": 2.0, "max_m": 2.0, "readings": 0.5
  }  # fmt: skip
  assert found["classes"] == {"floor": 0.75, "box": 0.25}
  sizes = [each["images"] for each in found["splits"].values()]
  assert sum(sizes) == 12 and min(sizes) >= 1
  assert found["longest_question"]["characters"] == len(LINE["question"])
  assert found["errors"] == []


def test_every_error_of_every_line_and_file_is_listed_in_order(own, capsys):
  lines = lines_of(own)
  lines[1]["answer"] = ""
  lines[4]["image"] = "nowhere.png"
  cut(own.parent / "6.png")
  np.save(own.parent / "9.npy", np.zeros((12, 16), np.float32))
  lines[11] |= {"depth": "missing.npy", "segmentation": "missing.png"}
  write(own.parent, lines)
  assert check.main([str(own), "--json"]) == 2
  errors = json.loads(capsys.readouterr().out)["errors"]
  places = [int(e.removeprefix(f"{own}:").partition(":")[0]) for e in errors]
  assert places == [2, 5, 7, 10, 12, 12]
  assert "nowhere.png" in errors[1] and "has no reading" in errors[3]
  assert check.main([str(own), "--errors=2"]) == 2
  said = capsys.readouterr().out
  assert "errors        6" in said and "and 4 more" in said


def test_a_long_text_is_cut_to_its_column_at_once():
  class Font:  # one pixel a letter
    measured = 0

    def getlength(self, text):
      self.measured += len(text)
      return len(text)

  font, room = Font(), 100
  text = check._cut("x" * 100_000, font, room + 2 * check.MARGIN)
  assert text == "x" * (room - 3) + "..."
  assert font.measured < 10 * room


def test_a_sheet_shows_samples_with_and_without_maps(own, tmp_path):
  out = tmp_path / "new" / "sheet.png"
  assert check.main([str(own), f"--out={out}", "--rows=4"]) == 0
  sheet = Image.open(out)
  across = 3 * check.TILE_SIDE + 2 * check.GAP + 2 * check.MARGIN
  assert sheet.width == check.COLUMNS * across
  rows = (sheet.height - check.MARGIN) / (
    check.TILE_SIDE + check.TEXT_HEIGHT + check.GAP
  )
  assert rows == 2


def test_pictures_that_training_shares_with_another_split_are_said(own, capsys):
  lines = lines_of(own)
  for split, few in zip(
    ("train", "validation", "test"), (lines[:6], lines[6:8], lines[5:6])
  ):
    write(own.parent, few, f"{split}.jsonl")
  written = str(own.parent / "{split}.jsonl")
  (note,) = survey.at_start(settings(written))[4:]
  assert "has too: 1 (5.png)" in note
  assert check.main([written]) == 0
  assert "has too: 1 (5.png)" in capsys.readouterr().out
  # In one file, a path that is written in two ways is hashed in two ways.
  for line in lines[:]:
    lines.append(line | {"image": f"./{line['image']}"})
  write(own.parent, lines)
  assert "has too" in "".join(survey.at_start(settings(own)))
  write(own.parent, lines[:1])  # one image: `splits.divide` says it
  assert "has too" not in "".join(survey.at_start(settings(own)))


def test_a_file_for_each_split_and_what_is_no_file(own, capsys):
  for split in ("train", "validation", "test"):
    write(own.parent, lines_of(own)[:3], f"{split}.jsonl")
  written = str(own.parent / "{split}.jsonl")
  assert check.main([written, "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert {s: n["images"] for s, n in found["splits"].items()} == {
    "train": 3, "validation": 3, "test": 3
  }  # fmt: skip
  assert check.main([str(own.parent / "none.jsonl")]) == 2
  assert "none.jsonl" in capsys.readouterr().err


def test_the_plan_of_a_run_says_the_sizes_of_the_splits(own):
  head, *lines = mixture.survey(settings(own))
  assert str(own) in head
  words = [line.split() for line in lines[:3]]
  assert [w[0] for w in words] == ["train", "validation", "test"]
  assert sum(int(w[1]) for w in words) == 12
  bare = write(own.parent, [LINE | {"image": f"{i}.png"} for i in range(12)])
  assert "no depth and no segmentation" in mixture.survey(settings(bare))[-1]
  beside = own_data.reading(bare, "world,jsonl")
  assert len(mixture.survey(beside)) == 4
  with pytest.raises(UserError, match="names none"):
    mixture.survey(settings(""))


@pytest.mark.parametrize("broken", ["image", "depth"])
def test_a_cut_file_of_the_last_line_ends_a_run_before_it_begins(
  own, broken, capsys
):
  lines = lines_of(own)[:10]
  cut(own.parent / ("9.png" if broken == "image" else "9.npy"))
  write(own.parent, lines)
  asked = ["--config=configs/sft.py:smoke", "--config.data.source=jsonl"]
  asked += [f"--config.data.settings.jsonl.path={own}"]
  asked += [f"--workdir={own.parent / 'run'}"]
  assert main.main(asked) == 2
  said = capsys.readouterr().err
  assert f"{own}:10: {broken}" in said
  assert "bad_samples=0.1 would leave out 1 of 10" in said
  assert not (own.parent / "run").exists()


def test_a_map_without_a_reading_is_found_at_the_start(own):
  np.save(own.parent / "9.npy", np.full((12, 16), np.nan, np.float32))
  with pytest.raises(UserError, match=r":10: depth .* has no reading"):
    mixture.survey(settings(own))


def test_of_a_large_file_a_few_maps_are_decoded(own, monkeypatch):
  monkeypatch.setattr(survey, "FEW", 2)
  read = survey.look(own, decode="few")
  every = survey.look(own).summaries["depth"]
  assert len(read.summaries["depth"]) < len(every) == 4
  assert not read.errors


def test_bad_files_that_are_allowed_are_left_out_everywhere_and_said(own):
  data = (own.parent / "5.png").read_bytes()
  middle = len(data) // 2  # of what only decoding finds
  (own.parent / "5.png").write_bytes(
    data[:middle] + b"\0\0\0\0" + data[middle + 4 :]
  )
  cut(own.parent / "7.png")
  allowed = settings(own, bad_samples=0.2)
  *_, last = mixture.survey(allowed)
  assert "left out   2 of 12 images" in last and "5.png" in last
  read = [
    sample.id
    for split in ("train", "validation", "test")
    for sample in mixture.open_split(allowed, split)
  ]
  assert sorted(read) == sorted(
    f"own-{line}" for line in range(1, 13) if line not in (6, 8)
  )
  fewer = settings(own, bad_samples=0.1)
  for look in (mixture.survey, lambda c: mixture.open_split(c, "train")):
    with pytest.raises(UserError, match=r"0\.1 allows fewer.*=0\.17 would"):
      look(fewer)


def test_wrong_lines_are_refused_whatever_share_of_files_may_be_bad(own):
  write(own.parent, [*lines_of(own), LINE])
  with pytest.raises(UserError, match=r"own\.jsonl:14: no 'image'"):
    mixture.survey(settings(own, bad_samples=0.9))


def test_a_file_without_lines_is_refused_at_the_start(own):
  own.write_text("\n\n")
  with pytest.raises(UserError, match="has no lines"):
    mixture.survey(settings(own))


@pytest.mark.parametrize(
  "change, reason",
  [
    ({"reasoning": "ball <at 1.2 .5>"}, "'<at 1.2 .5>'; write places as"),
    ({"reasoning": "ball <at x y>"}, "'<at x y>'"),
    ({"reasoning": "ball <at .4 .5"}, ""),
    ({"reasoning": "ball <at .4 .5> <dept>"}, 'did you mean "<depth>"'),
    ({"reasoning": "</think> <answer> yes"}, "'</think>'"),
    ({"answer": "<b>yes</b>"}, "the answer holds the tag '<b>'"),
    ({"reasoning": "<depth> near"}, "draws <depth>, and none of its lines"),
    ({"reasoning": "<depth> near", "depth": "0.npy"}, ""),
    ({"reasoning": "ball <at .4 1> 2.4 m"}, ""),
  ],
)
def test_tags_that_training_would_meet_are_refused_at_the_start(
  own, change, reason
):
  lines = lines_of(own)
  lines[1] |= change
  write(own.parent, lines)
  if reason:
    with pytest.raises(UserError, match="own.jsonl:2: .*" + re.escape(reason)):
      mixture.survey(settings(own))
  else:
    mixture.survey(settings(own))


def test_a_question_that_no_default_prompt_holds_is_an_error(own, capsys):
  lines = lines_of(own)
  lines[2]["question"] = "is it red " * 200
  assert check.main([str(write(own.parent, lines))]) == 2
  said = capsys.readouterr().out
  assert "own.jsonl:3: a question of its image takes 6" in said


def test_a_prompt_of_the_default_run_has_room_for_what_fits():
  config = base.get_base("long", ("sft", "grpo"))
  policy, room = make_policy(config), check.default_room()
  for words, fits in ((room, True), (room + 1, False)):
    text = " ".join(["red"] * words)
    assert len(policy.text.encode(" " + text)) == words
    problem = lengths._prompt_problem(config, policy, text)
    assert (problem == "") == fits


@pytest.mark.parametrize("out", [".", "sheet.jpg", "own.jsonl/sheet.png"])
def test_a_sheet_that_has_no_place_costs_no_report(own, capsys, out):
  assert check.main([str(own), f"--out={own.parent / out}"]) == 2
  said = capsys.readouterr()
  assert "no errors" in said.out and said.err.splitlines()[-1].startswith("err")


@pytest.mark.parametrize(
  ("out", "named"),
  [
    ("0.png", "line 1 of"),  # an image
    ("4-classes.png", "line 5 of"),  # a map
    ("linked.png", "line 3 of"),  # an image by another name
    ("late.png", "line 14 of"),  # an image of a line that is wrong
    ("talk.png", "line 15 of"),  # and of a turn of a conversation
    ("own.png", "the file of lines that is read"),
  ],
)
def test_a_sheet_is_not_written_over_what_is_read(own, capsys, out, named):
  folder = own.parent
  turn = {"role": "user", "content": [{"type": "image", "image": "talk.png"}]}
  wrong = [LINE | {"image": "late.png", "answr": 1}, {"messages": [turn]}]
  own = write(folder, lines_of(own) + wrong, "own.png")
  for name in ("late.png", "talk.png"):
    (folder / name).write_bytes((folder / "0.png").read_bytes())
  (folder / "linked.png").symlink_to("2.png")
  before = (folder / out).read_bytes()
  assert check.main([str(own), f"--out={folder / out}"]) == 2
  said = capsys.readouterr().err.splitlines()[-1]
  assert named in said and said.endswith("; choose another --out")
  assert (folder / out).read_bytes() == before


def test_a_sheet_may_be_written_again(own, capsys):
  for _ in range(2):
    assert check.main([str(own), f"--out={own.parent / 'sheet.png'}"]) == 0


def test_cells_that_patches_merge_into_take_no_more_room(monkeypatch):
  config = base.get_base("long", ("sft",)).copy_and_resolve_references()
  room = check.default_room()
  config.model.vision.update(patch=config.model.vision.patch // 2, merge=2)
  monkeypatch.setattr(base, "get_base", lambda *given: config)
  assert check.default_room() == room > 0
