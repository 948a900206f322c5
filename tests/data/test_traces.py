"""Traces of others call for maps in the middle; each is drawn there, once."""

import pytest

from cooper_jax.data import show, token_view, traces
from cooper_jax.errors import UserError
from cooper_jax.sample import Question
from tests.data import test_cooper_train_set
from tests.data.test_parquet import depth, image, png, table

END = "<answer> 2 </answer>"
DEPTH, CLASSES = "measure the depth", "find the objects"


def composed(reasoning, maps, **more):
  question = Question("own", "How many?", "2", "number", reasoning=reasoning)
  return traces.compose(question, maps, **more)


@pytest.mark.parametrize(
  ("reasoning", "maps", "said"),
  [
    ("See. <depth> Two.", ["depth"], "<think> See. </think> <depth>"),
    ("<depth> Two.", ["depth"], f"<think> {DEPTH} </think> <depth>"),
    ("See. <depth> Two.", [], ""),
    ("See. <depth> Two. <depth>", ["depth"], "<think> See. </think> <depth>"),
    ("See. Two.", ["depth"], f"<think> {DEPTH} </think> <depth>"),
    (
      "A. <segmentation> B. <depth> C.", ["depth", "segmentation"],
      "<think> A. </think> <segmentation> <think> B. </think> <depth>",
    ),
    (
      "A. <depth> B. <segmentation> C.", ["segmentation"],
      "<think> A. B. </think> <segmentation>",
    ),
    (
      "A. <depth> B.", ["depth", "segmentation"],
      f"<think> {CLASSES} </think> <segmentation> <think> A. </think> <depth>",
    ),
  ],
)  # fmt: skip
def test_a_map_is_drawn_once_and_where_it_is_called_for(reasoning, maps, said):
  found = composed(reasoning, maps)
  assert found.startswith(said)
  assert [found.count(f"<{n}>") for n in ("depth", "segmentation")] == [
    maps.count("depth"), maps.count("segmentation")
  ]  # fmt: skip
  words = reasoning.replace("<depth>", "").replace("<segmentation>", "")
  left = found.replace(DEPTH, "").replace(CLASSES, "")
  for tag in ("<think>", "</think>", "<depth>", "<segmentation>", END):
    left = left.replace(tag, "")
  assert left.split() == words.split()


def test_a_wrong_map_is_the_last_one_and_is_doubted_behind_it():
  found = composed("A. <segmentation> B. <depth> C.", ["depth", "segmentation"],
                   corrupted=True)  # fmt: skip
  assert found == (
    "<think> A. </think> <segmentation> <think> B. </think> <depth corrupted>"
    f" <think> {traces.DOUBT} ; C. </think> {END}"
  )


def test_a_trace_of_coopers_becomes_its_turns(tmp_path):
  source = test_cooper_train_set.traces(tmp_path, test_cooper_train_set.trace())
  (question,) = source.questions(0)
  found = token_view.of_question(question, source.kind(0))
  assert "".join(each.text for each in found if each.learned) == (
    "<think> Let me see.</think><depth> 64 codes<think> Two are near.</think>"
    "<answer> 2</answer><eos>"
  )


@pytest.mark.parametrize(
  ("thought", "said"),
  [
    ("A <box>1</box>.", "holds the tag '<box>'"),
    ("As 2 < 5 and 7 > 3.", "holds the tag '< 5 and 7 >'"),
    ("Done. <eos>", "holds the tag '<eos>'"),
    (f"{test_cooper_train_set.CALL} <segmentation>All.</segmentation>",
     "draws <segmentation>, and it has no segmentation"),
  ],
)  # fmt: skip
def test_a_trace_that_can_not_be_learned_is_a_bad_sample(
  thought, said, tmp_path
):
  items = test_cooper_train_set.trace()
  items[5]["value"] = f"<think>{thought}</think>{test_cooper_train_set.ANSWER}"
  source = test_cooper_train_set.traces(tmp_path, items)
  with pytest.raises(UserError, match=rf"Interleaved_SFT.jsonl:1: .*{said}"):
    source[0]


def test_a_row_whose_trace_draws_what_it_lacks_is_a_bad_sample(tmp_path):
  row = {"image": png(image(0)), "question": "How many?", "answer": "2"}
  row |= {"reasoning": "See. <depth> Two.", "depth_scale": 256}
  rows = [row | {"depth": png(depth(0))}, row | {"depth": None}]
  rows[1]["depth_scale"] = None
  table(tmp_path / "a.parquet", rows)
  source = show.opened(show.config_of("parquet", str(tmp_path), size=8), "all")
  assert set(source[0].maps) == {"depth"}
  with pytest.raises(UserError, match=r"a.parquet:1: .* draws <depth>, and it"):
    source[1]
