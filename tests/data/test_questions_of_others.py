"""SAT and SPAR-7M: one image a question, with its authors' marks."""

import json

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from cooper_jax.data import data_sets, mixture, show
from cooper_jax.data.sources import spar
from cooper_jax.errors import UserError
from tests.data import layouts
from tests.data.test_parquet import image, png


def sat(root, rows, name="SAT_train.parquet"):
  root.mkdir(exist_ok=True)
  parquet.write_table(pyarrow.Table.from_pylist(rows), root / name)


def row(seed, **changes):
  return {
    "image_bytes": [png(image(seed))],
    "question": f"Where is ball {seed} ?",
    "answers": ["left", "right"],
    "question_type": "obj movement",
    "correct_answer": "right",
  } | changes


def opened(name, root, **fields):
  config = show.config_of(name, str(root), size=16, fields=fields)
  return show.opened(config, "all")


def test_sat_has_its_questions_about_one_image(tmp_path, capsys):
  rows = [row(0), row(1, image_bytes=[png(image(1)), png(image(2))]), row(3)]
  sat(tmp_path, rows)
  by_place = {**row(4), "correct_answer_idx": 0}
  del by_place["correct_answer"]
  sat(tmp_path, [by_place], "SAT_val.parquet")
  found = opened("sat", tmp_path)
  assert [q.answer for i in range(3) for q in found.questions(i)] == [
    "right",
    "right",
    "left",
  ]
  assert found.questions(0)[0].family == "sat_obj_movement"
  for index, seed in enumerate((0, 3, 4)):
    shown, _ = found.native(index)
    np.testing.assert_array_equal(np.asarray(shown), image(seed))
  assert [one.split for one in found.listed] == ["train", "train", "validation"]
  assert "1 of 4 questions are about several" in capsys.readouterr().err


def test_wrong_rows_of_sat_are_bad_samples(tmp_path):
  bad = [row(0, correct_answer="up"), row(1, image_bytes=[b"x"]), row(2)]
  sat(tmp_path, bad)
  found = opened("sat", tmp_path)
  for index, said in ((0, "none of the options"), (1, "can't be read|no PNG")):
    with pytest.raises(UserError, match=said):
      found[index]
  assert found[2].image.shape == (16, 16, 3)
  rows = [{k: v for k, v in row(0).items() if k != "answers"}]
  sat(tmp_path / "b", rows)
  with pytest.raises(UserError, match="no column 'answers'"):
    opened("sat", tmp_path / "b")


def line(picture, asked, answer, **more):
  talk = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
  return {"id": "x", "conversations": talk, "image": [picture], **more}


def write_spar(
  root, lines, task="depth_prediction_oc", form="fill", part="train"
):
  path = root / f"scannet/qa_jsonl/{part}/{task}/{form}/{form}_1.jsonl"
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("\n".join(map(json.dumps, lines)))


def picture(root, scene="scene0000_00"):
  path = root / f"scannet/images/{scene}/image_color/0.png"
  layouts.picture(path, 1, height=300, width=400)
  layouts.scaled(
    root / f"scannet/images/{scene}/image_depth/0.png", layouts.metres(1), 1000
  )
  return f"{scene}/image_color/0.png", f"{scene}/image_depth/0.png"


def test_spar_draws_points_and_boxes_where_its_loader_does(tmp_path):
  name, depth = picture(tmp_path)
  write_spar(
    tmp_path,
    [
      line(name, "<image>\nHow far is the red point, in meters?", "2.4",
           depth=[depth], red_point=[[500, 250]]),
      line(name, "How big?", "big", blue_bbox=[[250, 400, 500, 600]]),
    ],
  )  # fmt: skip
  found = opened("spar", tmp_path)
  plain = np.asarray(show.Image.open(tmp_path / "scannet/images" / name))
  shown, maps = found.native(0)
  shown = np.asarray(shown)
  red = (shown == (255, 0, 0)).all(-1)
  # 500 / 1000 of 400 and 250 / 1000 of 300: a disc of radius 20 about it.
  y, x = np.nonzero(red & (plain != shown).any(-1))
  assert (x.min(), x.max(), y.min(), y.max()) == (180, 220, 55, 95)
  assert red[75, 200] and not red[56, 181]
  assert ((shown == plain).all(-1) | red).all()
  assert 0 < maps["depth"].max() < 10
  assert found.questions(0)[0].answer == "2.4 m"
  assert found.questions(0)[0].value == 2.4
  shown = np.asarray(found.native(1)[0])
  blue = (shown == (0, 0, 255)).all(-1)
  y, x = np.nonzero(blue)
  # 100 to 200 and 120 to 180, and 17.5 outward.
  assert (x.min(), x.max(), y.min(), y.max()) == (82, 217, 102, 197)
  assert not blue[150, 150]


LENGTHS = (
  "How many meters is it from here?",
  "how many Metres are between the counter and the country house",
  "How far, in metres?",
  "What is the number of meters to the red point?",
  "The chair (red point) has a depth of 1.6 meters. What is the depth of the"
  " table? The unit is meter.",
  "Give the distance in meters of the lamp that is within two meters of me.",
)
COUNTS = (
  "How many chairs are within 3 meters?",
  "Within three meters of the door, what is the total of chairs?",
  "Count the chairs within a 3-meter radius.",
  "What is the total number of chairs? Give no metres.",
  "What number of chairs is nearer than 2.5 metres?",
)
OTHERS = (
  "How large is the room, in square meters?",
  "What is its volume in cubic metres?",
  "How high is it?",  # of no unit
  "How many chairs are there, and how far is the first in meters?",  # of both
)


def test_words_say_a_length_of_tasks_that_the_loader_does_not_know():
  for asked in LENGTHS:
    assert spar.is_length("own_task", asked), asked
  for asked in (*COUNTS, *OTHERS):
    assert not spar.is_length("own_task", asked), asked


@pytest.mark.parametrize(
  ("task", "length"),
  [
    *((f"depth_prediction_{of}", True) for of in ("oc", "oo", "oc_mv")),
    *((f"distance_prediction_{of}", True) for of in ("oc", "oo", "oo_video")),
    *((task, False) for task in ("obj_count", "room_size", "nav")),
    ("spatial_volume_infer", False), ("distance_infer_center_oo", False),
  ],
)  # fmt: skip
def test_the_task_says_a_length_whatever_the_words(task, length):
  for asked in (*LENGTHS, *COUNTS, *OTHERS):
    assert spar.is_length(task, asked) == length


@pytest.mark.parametrize(
  ("kind", "folder", "answer"),
  [
    ("obj_count", "depth_prediction_oc", "3"),  # as the loader: by its type
    ("distance_prediction_oo", "renamed", "3 m"),
    (None, "depth_prediction_oo", "3 m"),  # no type: by its folder
    ("", "room_size", "3"),
  ],
)
def test_the_type_of_a_line_goes_before_its_folder(
  kind, folder, answer, tmp_path
):
  name, _ = picture(tmp_path)
  write_spar(
    tmp_path, [line(name, "How far, in metres?", "3", type=kind)], folder
  )
  assert opened("spar", tmp_path).questions(0)[0].answer == answer


def test_sides_of_a_box_are_text(tmp_path):
  name, _ = picture(tmp_path)
  sides = line(name, "Its sides in meters?", "40, 30, 20")
  write_spar(tmp_path, [sides], task="spatial_volume_infer")
  (question,) = opened("spar", tmp_path).questions(0)
  assert (question.answer_type, question.unit) == ("text", "")


def test_options_of_spar_are_those_of_its_question(tmp_path):
  name, _ = picture(tmp_path)
  asked = "Which is nearer?\nA. The chair\nB. The table"
  write_spar(tmp_path, [line(name, asked, "B")], form="select")
  write_spar(tmp_path, [line(name, "Say it.", "It is near.")], form="sentence")
  found = opened("spar", tmp_path)
  (question,) = found.questions(0)
  assert len(found) == 1
  assert question.options == ("The chair", "The table")
  assert (question.answer, question.answer_type) == ("The table", "choice")
  assert question.family == "spar_depth_prediction_oc_select_choice"
  both = opened("spar", tmp_path, forms=("select", "sentence"))
  assert sorted(q.answer_type for i in range(2) for q in both.questions(i)) == [
    "choice",
    "text",
  ]


def test_several_images_and_other_tasks_are_left_out(tmp_path, capsys):
  name, _ = picture(tmp_path)
  two = {**line(name, "How far?", "2"), "image": [name, name]}
  write_spar(tmp_path, [two, line(name, "How many?", "2")])
  write_spar(tmp_path, [line(name, "How many?", "3")], task="obj_count")
  write_spar(tmp_path, [line(name, "How many?", "4")], part="val")
  assert len(opened("spar", tmp_path)) == 3
  assert "1 of 4 questions are about several" in capsys.readouterr().err
  found = opened("spar", tmp_path, tasks=("obj_count",))
  assert [q.answer for q in found.questions(0)] == ["3"] and len(found) == 1


def test_tasks_and_forms_may_be_named_on_the_command_line(tmp_path, capsys):
  name, _ = picture(tmp_path)
  for task in ("obj_count", "nav", "room_size"):
    write_spar(tmp_path, [line(name, "How many?", "3")], task=task)
  arguments = ["spar", f"--root={tmp_path}", "--json", "--size=8"]
  assert show.main([*arguments, "--set=tasks=obj_count, nav"]) == 0
  said = capsys.readouterr().out
  assert len(said.splitlines()) == 2 and "room_size" not in said


BAD = [
  ({"red_point": [[1, 2, 3]]}, "2 numbers from 0 to 1000"),
  ({"red_bbox": "x"}, "no list of 4 numbers"),
  ({"image": ["../../../etc/passwd"]}, "is not below"),
  ({"conversations": []}, "not SPAR's"),
  ({"image": None}, "not SPAR's"),
  ({"depth": 3}, "can't be read"),
]


@pytest.mark.parametrize(("change", "said"), BAD)
def test_wrong_lines_of_spar_are_bad_samples(change, said, tmp_path):
  name, _ = picture(tmp_path)
  write_spar(tmp_path, [{**line(name, "How many?", "2"), **change}])
  config = show.config_of("spar", str(tmp_path))
  with pytest.raises(UserError, match=said) as caught:
    mixture.open_split(config, "train")
  assert "fill_1.jsonl:1" in str(caught.value)


def test_other_marks_are_other_data(tmp_path):
  name, _ = picture(tmp_path)
  names = []
  for place in (250, 251):
    talk = line(name, "What is there?", "big", red_point=[[500, place]])
    write_spar(tmp_path, [talk])
    data_sets._listed.cache_clear()
    names.append(repr(opened("spar", tmp_path)))
  assert names[0] != names[1]


def test_a_part_of_another_name_is_divided(tmp_path):
  name, _ = picture(tmp_path)
  write_spar(tmp_path, [line(name, "How many?", "2")] * 9, part="more")
  config = show.config_of("spar", str(tmp_path))
  assert len(mixture.open_split(config, "train")) == 7
