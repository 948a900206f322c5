"""Lines as others write them: conversations, letters, units, other classes."""

import json

import numpy as np
import pytest
from PIL import Image

from cooper_jax.data import mixture, show
from cooper_jax.data.entries import read_entries
from cooper_jax.data.sources import DataConfig, jsonl
from cooper_jax.errors import UserError
from cooper_jax.sample import Question

LLAVA = {
  "id": 7,
  "image": "a.png",
  "height": 8,
  "conversations": [
    {"from": "human", "value": "<image>\nIs it red?"},
    {"from": "gpt", "value": "Yes"},
    {"from": "human", "value": "How many balls?"},
    {"from": "gpt", "value": "3"},
  ],
}
QWEN = {
  "messages": [
    {"role": "system", "content": "You help."},
    {
      "role": "user",
      "content": [
        {"type": "image", "image": "a.png"},
        {"type": "text", "text": "Is it red?"},
      ],
    },
    {"role": "assistant", "content": [{"type": "text", "text": "Yes"}]},
  ]
}


@pytest.fixture(name="folder")
def fixture_folder(tmp_path):
  for name in ("a.png", "b.png"):
    Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(tmp_path / name)
  return tmp_path


def lines(folder, *written):
  path = folder / "own.jsonl"
  path.write_text("".join(json.dumps(each) + "\n" for each in written))
  return path


def asked(path) -> list[list[tuple]]:
  def told(q: Question):
    return q.text, q.answer, q.answer_type

  return [[told(q) for q in each.questions] for each in read_entries(path)]


RED = ("Is it red?", "yes", "yes_no")


def test_conversations_are_read_as_llava_and_qwen_write_them(folder):
  path = lines(folder, LLAVA, {**QWEN, "images": ["a.png"]})
  assert asked(path) == [[RED, ("How many balls?", "3", "number"), RED]]
  assert read_entries(path)[0].id == "7"
  whole = folder / "llava.json"
  more = {**LLAVA, "id": "8", "image": "b.png"}
  for indent in (None, 2):
    whole.write_text(json.dumps([LLAVA, more], indent=indent))
    assert [len(each) for each in asked(whole)] == [2, 2]


def changed(record, **changes):
  return {**record, **changes}


@pytest.mark.parametrize(
  ("record", "said"),
  [
    (changed(LLAVA, conversations=LLAVA["conversations"][:3]), "in turn"),
    (changed(LLAVA, conversations=LLAVA["conversations"][1:3]), "in turn"),
    (changed(LLAVA, conversations="Is it?"), "a list of turns"),
    (
      changed(LLAVA, conversations=[{"value": "x"}]),
      "needs 'from' and 'value'",
    ),
    (LLAVA | QWEN, "'conversations' stands beside 'messages'"),
    (changed(LLAVA, question="Red?"), "'conversations' .* beside 'question'"),
    (changed(QWEN, answer=0), "'messages' stands beside 'answer'"),
    (
      changed(QWEN, question="Red?", answer="yes"),
      "beside 'question' and 'answer'",
    ),
    (changed(LLAVA, image=["a.png", "b.png"]), "about 2 images"),
    (changed(QWEN, images=["b.png"]), "about 2 images"),
    (changed(LLAVA, image=None), "about 0 images"),
    (
      {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
      "has type 'video'",
    ),
  ],
)
def test_what_is_no_conversation_about_an_image_is_one_line(
  folder, record, said
):
  with pytest.raises(UserError, match=rf"own\.jsonl:1: .*{said}"):
    read_entries(lines(folder, record))


def test_null_is_no_conversation_and_no_question(folder):
  nothing = {"question": None, "answer": ""}
  plain = {"image": "b.png", "question": "Is it red?", "answer": "yes"}
  path = lines(
    folder,
    QWEN | nothing | {"images": "a.png", "conversations": None},
    plain | {"conversations": None, "messages": None},
  )
  assert asked(path) == [[RED], [RED]]


@pytest.mark.parametrize("end", ["", ", 3", "}"])
def test_an_array_that_is_cut_is_refused(folder, end):
  path = folder / "llava.json"
  path.write_text(f"[{json.dumps(LLAVA)}{end}")
  with pytest.raises(UserError, match=r"llava\.json.*(array|object)"):
    read_entries(path)


OPTIONS = {"image": "a.png", "question": "Which?", "options": ["ball", "box"]}


@pytest.mark.parametrize("answer", ["B", "(B)", "B.", "(b)", "B)", "box"])
def test_an_answer_may_be_the_letter_of_its_option(folder, answer):
  ((found,),) = asked(lines(folder, {**OPTIONS, "answer": answer}))
  assert found[1:] == ("box", "choice")


def test_a_letter_that_is_an_option_itself_stands_for_itself(folder):
  own = {**OPTIONS, "options": ["B", "A"], "answer": "A"}
  assert asked(lines(folder, own))[0][0][1] == "A"
  with pytest.raises(UserError, match="answer 'C' is none of the options"):
    read_entries(lines(folder, {**OPTIONS, "answer": "C"}))


def test_units_and_classes_hold_for_all_lines_or_are_on_one(folder):
  Image.fromarray(np.full((8, 8), 512, np.uint16)).save(folder / "d.png")
  ids = np.full((8, 8), 1, np.uint8)
  ids[0], ids[1] = 0, 255
  Image.fromarray(ids).save(folder / "s.png")
  (folder / "two.txt").write_text("ball\nbox\n")
  maps = {"depth": "d.png", "segmentation": "s.png"}
  path = lines(
    folder,
    {"image": "a.png", **maps},
    {"image": "b.png", **maps, "depth_scale": 512, "class_list": "nyu40"},
  )
  own = jsonl.Config(path=str(path), depth_scale=256, class_list="two.txt")
  given = {"segmentation": {"classes": "nyu40"}}
  more = {"settings": {"jsonl": own}, "image_size": 8}
  config = DataConfig("jsonl", **more, maps=given)
  with pytest.raises(UserError, match="classes=nyu40 has no ball"):
    show.opened(config, "all")[0]
  config = DataConfig("jsonl", **more)
  source = show.opened(config, "all")
  first = source[0].maps
  assert (first["depth"] == 2).all()
  # The world's list has box at 4 and ball at 5; 255 stays "ignore".
  assert first["segmentation"][:3, 0].tolist() == [5, 255, 4]
  assert source.native(0)[1]["segmentation"][:3, 0].tolist() == [5, 255, 4]
  with pytest.raises(UserError, match="classes=world has no unlabelled"):
    source[1]
  assert source.entries[1].scales == {"depth": 512}
  other = jsonl.Config(path=str(path), depth_scale=128, class_list="two.txt")
  again = show.opened(
    DataConfig("jsonl", settings={"jsonl": other}, image_size=8), "all"
  )
  assert repr(again) != repr(source)
  with pytest.raises(UserError, match="depth_scale is -1"):
    jsonl.Config(depth_scale=-1.0)


def test_depth_may_have_an_axis_of_one(folder):
  metres = np.full((8, 8, 1), 2.5, np.float32)
  np.save(folder / "d.npy", metres)
  path = lines(folder, {"image": "a.png", "depth": "d.npy"})
  config = show.config_of("jsonl", str(path), size=8)
  assert (mixture.open_split(config, "train")[0].maps["depth"] == 2.5).all()
