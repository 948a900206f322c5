"""COOPER's own sets: maps, traces and questions as they are published."""

import base64
import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from cooper_jax.data import data_sets, mixture, show, splits, token_view
from cooper_jax.data.sources import cooper_train_set
from cooper_jax.errors import UserError
from cooper_jax.modalities import class_lists
from tests.data import layouts

FOLDER = "COOPER_reasoning_train_set"
COLORS = "Name r g b\nbox 10 20 30\nball 40 50 60\nbackground 0 0 0\n"


def embedded(pixels, prefix="") -> str:
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, "PNG")
  return prefix + base64.b64encode(file.getvalue()).decode()


def part(kind, value, trained):
  return {"type": kind, "value": value, "need_loss": trained}


GREY = np.repeat(np.linspace(10, 240, 48).astype(np.uint8), 3).reshape(6, 8, 3)
CALL = "<depth-estimation>Estimate the depth.</depth-estimation>"
REFLECT = "Here is the depth map. Reflect on it, then answer."
ANSWER = "<answer>Of three balls two are near, so it is \\boxed{2}.</answer>"


def trace() -> list[dict]:
  photo = np.full((6, 8, 3), 99, np.uint8)
  return [
    part("image", embedded(photo, "data:image/png;base64,"), "false"),
    part("text", "How many balls are near?", "false"),
    part("text", f"<think>Let me see. {CALL}</think>", "true"),
    part("image", embedded(GREY), "false"),
    part("text", REFLECT, "false"),
    part("text", "<think>Two are near.</think>" + ANSWER, "true"),
  ]


def written(root, name, *lines):
  path = root / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(json.dumps(each) + "\n" for each in lines))


def opened(root, which, **fields):
  given = {"part": which, **fields}
  config = show.config_of("cooper_train_set", str(root), size=8, fields=given)
  return show.opened(config, "all")


def traces(root, *each):
  lines = [{"interleaved_reason": one} for one in each]
  written(root, f"{FOLDER}/Interleaved_SFT.jsonl", *lines)
  return opened(root, "sft")


def test_a_trace_has_its_map_and_our_token_where_it_called(tmp_path):
  source = traces(tmp_path, trace(), trace())
  assert len(source) == 2
  image, maps = source.native(1)
  assert image.getpixel((0, 0)) == (99, 99, 99)
  metres = GREY[..., 0] / 255 * 65
  np.testing.assert_allclose(maps["depth"], metres, atol=1e-4)
  (question,) = source[1].questions
  assert question.text == "How many balls are near?"
  assert (question.answer, question.answer_type) == ("2", "number")
  assert question.reasoning == "Let me see. <depth> Two are near."
  assert question.needs == ("depth",)
  assert "FolderSource(cooper_train_set, 2, " in repr(source)


def broken(change):
  items = trace()
  change(items)
  return items


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (lambda t: t[1].update(need_loss=False), r"part 1 is False; it is the"),
    (lambda t: t[1].update(type="video"), "part 1 is of type 'video'"),
    (lambda t: t.pop(0), "a trace has an image"),
    (lambda t: t.pop(5), r"an answer in \\boxed"),
    (
      lambda t: t[2].update(value="<segmentation>Do.</segmentation>"),
      r"classes are not published; name a list",
    ),
  ],
)
def test_what_is_no_trace_is_one_line(tmp_path, change, said):
  with pytest.raises(UserError, match=rf"Interleaved_SFT.jsonl:1: .*({said})"):
    traces(tmp_path, broken(change))[0]


@pytest.mark.parametrize(
  ("written", "answer"),
  [
    (r"<answer>First \boxed{9}, no: \boxed{\text{two}}</answer>", "two"),
    (r"So it is \boxed{4}", "4"),
    ("<answer>7</answer>", "7"),
  ],
)
def test_the_last_box_is_the_answer_else_the_tag(tmp_path, written, answer):
  text = f"<think>Two are near.</think>{written}"
  source = traces(tmp_path, broken(lambda t: t[5].update(value=text)))
  (question,) = source.questions(0)
  assert question.answer == answer
  assert "boxed" not in question.reasoning and "near." in question.reasoning


def test_pictures_of_two_calls_come_in_their_order(tmp_path):
  (tmp_path / "colors.txt").write_text(COLORS)
  both = f"{CALL}<segmentation>Do.</segmentation>"
  coloured = embedded(np.full((6, 8, 3), (10, 20, 30), np.uint8))

  def change(items):
    items[2].update(value=both)
    items.insert(4, part("image", coloured, "false"))

  line = {"interleaved_reason": broken(change)}
  written(tmp_path, f"{FOLDER}/Interleaved_SFT.jsonl", line)
  source = opened(tmp_path, "sft", colors=str(tmp_path / "colors.txt"))
  metres = GREY[..., 0] / 255 * 65
  found = source.map_alone(0, "depth")
  np.testing.assert_allclose(found, metres, atol=1e-4)
  assert set(source.listed[0].maps) == {"depth", "segmentation"}
  assert source.questions(0)[0].reasoning.startswith("<depth> <segmentation>")


@pytest.mark.parametrize("value", [7, {"type": "text"}, ["text"], None])
def test_a_trace_that_is_no_list_of_parts_is_one_line(tmp_path, value):
  written(tmp_path, f"{FOLDER}/a.jsonl", {"interleaved_reason": value})
  source = opened(tmp_path, "sft")
  with pytest.raises(UserError, match=r"a.jsonl:1: .* is no list of parts"):
    source[0]


def test_a_bad_line_is_one_of_the_samples_that_may_be_left_out(tmp_path):
  bad = broken(lambda t: t.pop(5))
  traces(tmp_path, *(trace() for _ in range(40)), bad)
  config = show.config_of("cooper_train_set", str(tmp_path), size=8)
  counts = {}
  for share in (0.0, 0.5):
    config = dataclasses.replace(config, bad_samples=share)
    for split in splits.NAMES:
      try:
        counts[share, split] = len(mixture.open_split(config, split))
      except UserError as error:
        assert "Interleaved_SFT.jsonl:41: a trace has an image" in str(error)
        assert "1 of " in str(error) and "samples are bad" in str(error)
  assert sum(1 for share, _ in counts if not share) == 2
  assert sum(n for (share, _), n in counts.items() if share) == 40


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_base64_may_be_wrapped_in_lines(tmp_path, prefix):
  def change(items):
    bare = items[0]["value"].rpartition(",")[2]
    text = base64.encodebytes(base64.b64decode(bare)).decode()
    assert text.count("\n") > 1
    items[0].update(value=f"{prefix}{text}".replace("\n", "\r\n"))

  plain, wrapped = traces(tmp_path, trace(), broken(change))
  np.testing.assert_array_equal(wrapped.image, plain.image)


def test_base64_that_is_no_picture_and_depth_in_colours(tmp_path):
  red = embedded((GREY * [1, 0, 0]).astype(np.uint8))
  source = traces(
    tmp_path,
    broken(lambda t: t[0].update(value="bm8gcGljdHVyZQ==")),
    broken(lambda t: t[0].update(value="no base64!")),
    broken(lambda t: t[3].update(value=red)),
  )
  for index, said in ((0, "part 0 is no PNG"), (1, "part 0 .*is no base64")):
    with pytest.raises(UserError, match=said):
      source[index]
  with pytest.raises(UserError, match="is coloured; a picture of depth is"):
    source[2]


def test_lines_of_maps_have_the_units_of_their_folder(tmp_path):
  colors = tmp_path / "colors.txt"
  colors.write_text(COLORS)
  truth = {}
  for name, scale in (("vkitti", 100), ("Hypersim", 1000)):
    folder = tmp_path / "datasets" / name
    layouts.picture(folder / "a.png")
    truth[name] = layouts.metres(1)
    layouts.scaled(folder / "a_depth.png", truth[name], scale)
    line = {"rgb_image": "a.png", "depth_image": "a_depth.png", "data_id": 1}
    written(tmp_path, f"datasets/{name}/train.jsonl", line)
  rgb = np.full((6, 8, 3), (10, 20, 30), np.uint8)
  rgb[0] = 40, 50, 60
  folder = tmp_path / "datasets/ADE20K_SEG"
  layouts.picture(folder / "a.png")
  Image.fromarray(rgb).save(folder / "a_seg.png")
  line = {"rgb_image": "a.png", "seg_image": "a_seg.png", "data_idx": 1}
  written(tmp_path, "datasets/ADE20K_SEG/train.jsonl", line)
  with pytest.raises(UserError, match="classes are not published"):
    opened(tmp_path, "amg")[0]
  source = opened(tmp_path, "amg", colors=str(colors))
  found = {one.id.split("/")[1]: i for i, one in enumerate(source.listed)}
  for name, quantum in (("vkitti", 0.01), ("Hypersim", 0.001)):
    depth = source.native(found[name])[1]["depth"]
    np.testing.assert_allclose(depth, truth[name], atol=quantum / 2 + 1e-6)
  classes = source.native(found["ADE20K_SEG"])[1]["segmentation"]
  shown = np.array(class_lists.read("world").names)[classes]
  assert (shown[0] == "ball").all() and (shown[1:] == "box").all()
  with pytest.raises(UserError, match="units of depth are known by folders"):
    written(tmp_path, "datasets/other/a.jsonl", line | {"depth_image": "x"})
    opened(f"{tmp_path}/datasets/..", "amg", colors=str(colors))[2]
  with pytest.raises(UserError, match=r"list of colours .*gone can't be read"):
    opened(tmp_path, "amg", colors=f"{colors}.gone")


def test_questions_of_rl_keep_their_flag(tmp_path):
  layouts.picture(tmp_path / FOLDER / "images/a.jpg")
  line = {"question": "Is it near?", "answer": "Yes", "image": "a.jpg"}
  flagged = line | {"data_id": "1", "flag": "positive"}
  written(tmp_path, f"{FOLDER}/RL_data.jsonl", line, flagged)
  source = opened(tmp_path, "rl")
  flags = [sample.questions[0].flag for sample in (source[0], source[1])]
  assert flags == ["boundary", "positive"]
  assert source[0].questions[0].answer == "yes" and not source[0].maps
  (tmp_path / "count").mkdir()
  written(tmp_path, "count/a.jsonl", line | {"answer": 0})
  counted = opened(tmp_path / "count", "rl").questions(0)[0]
  assert (counted.answer, counted.answer_type) == ("0", "number")
  written(tmp_path, f"{FOLDER}/RL_data.jsonl", line | {"flag": "maybe"})
  with pytest.raises(UserError, match=r"RL_data.jsonl:1: flag 'maybe'"):
    opened(f"{tmp_path}/{FOLDER}/..", "rl")[0]
  changes = ({"image": ""}, {"question": None}, {"answer": " "})
  for i, change in enumerate(changes):
    written(tmp_path / str(i), "RL_data.jsonl", flagged | change)
    with pytest.raises(UserError, match="question, answer or image is empty"):
      opened(tmp_path / str(i), "rl")[0]
  with pytest.raises(UserError, match="part is 'all'"):
    opened(tmp_path, "all")


def test_one_of_several_indices_is_read_with_the_users_system_prompt(tmp_path):
  one = {"interleaved_reason": trace()}
  written(tmp_path, f"{FOLDER}/Interleaved_SFT.jsonl", one)
  written(tmp_path, f"{FOLDER}/Text_SFT.jsonl", one, one)
  assert len(opened(tmp_path, "sft")) == 3
  prompt = tmp_path / "system.txt"
  prompt.write_text("Think first.\n")
  given = {"file": "Interleaved_SFT.jsonl", "system": str(prompt)}
  source = opened(tmp_path, "sft", **given)
  assert len(source) == 1
  (question,) = source.questions(0)
  assert question.text == "Think first.\nHow many balls are near?"
  before = repr(source)
  prompt.write_text("Answer at once.")
  cooper_train_set._system.cache_clear()
  data_sets._listed.cache_clear()
  assert repr(opened(tmp_path, "sft", **given)) != before
  with pytest.raises(UserError, match=r"system=.*gone can't be read"):
    opened(tmp_path, "sft", system=f"{prompt}.gone")


def test_the_tokens_that_are_learned_are_those_of_the_response(tmp_path):
  traces(tmp_path, trace())
  source = opened(tmp_path, "sft")
  (question,) = source.questions(0)
  found = token_view.of_question(question, source.kind(0))
  read = "".join(each.text for each in found if not each.learned)
  learned = "".join(each.text for each in found if each.learned)
  assert read == "<user> How many balls are near?<assistant>"
  assert learned.startswith("<think>") and learned.endswith("<eos>")
  assert "<depth> 64 codes" in learned and "Two are near." in learned
  out = tmp_path / "page.html"
  arguments = ["cooper_train_set", f"--root={tmp_path}", f"--out={out}"]
  assert show.main(arguments) == 0 and "class=learned" not in out.read_text()
  assert show.main([*arguments, "--tokens"]) == 0
  assert "class=read" in out.read_text() and "64 codes" in out.read_text()
