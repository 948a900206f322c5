"""Claims about the view of rollouts: markup, maps, and that it is read-only."""

import types

import numpy as np
import pytest

from cooper_jax.models.token_kinds import CODE, FORCED, TEXT
from cooper_jax.rollouts.response import (
  Responses,
  Turn,
  freeze,
  turns,
)
from cooper_jax.tokenizers.text import TextTokenizer
from cooper_jax.tokenizers.vocab import Vocabulary


class Maker:
  """Writes a Rollout as the sampler would, one row from a list of pieces."""

  def __init__(self):
    self.tokenizer = TextTokenizer.load()
    self.vocabulary = Vocabulary(self.tokenizer.size, 64, 10)

  def row(self, *pieces):
    tokens, states = [], []
    for piece in pieces:
      if isinstance(piece, int):
        ids, state = [self.vocabulary.location(piece)], TEXT
      elif isinstance(piece, tuple):
        ids, state = [self.vocabulary.code(c) for c in piece], CODE
      elif piece.startswith("<<"):  # "<<think>": the tag spelt in letters
        ids, state = self.tokenizer.encode(piece[1:]), TEXT
      elif piece.startswith("<"):
        ids, state = [self.vocabulary.special(piece)], TEXT
      else:
        ids, state = self.tokenizer.encode(piece), TEXT
      tokens += ids
      states += [state] * len(ids)
    return tokens, states

  def rollout(self, rows, *, slots, codes, stop):
    length = max(len(tokens) for tokens, _ in rows) + 2
    pad = self.vocabulary.special("<pad>")
    return types.SimpleNamespace(
      tokens=np.array([t + [pad] * (length - len(t)) for t, _ in rows]),
      state=np.array([s + [0] * (length - len(s)) for _, s in rows], np.int8),
      map_modality=np.array(slots, np.int8),
      codes=np.array(codes, np.int32),
      stop=np.array(stop, np.int8),
      group=np.arange(len(rows)) // 2,
      sample_id=np.arange(len(rows)) + 100,
      image_shape=None,
    )


@pytest.fixture(scope="module")
def view():
  maker = Maker()
  rows = [
    maker.row(
      *("<think>", " measure the depth", "</think>", "<depth>", (1, 2, 3, 4)),
      *("</depth>", "<think>", " red ball", 11, " 2.4 m", "</think>"),
      *("<answer>", " red ball", "</answer>", "<eos>"),
    ),
    maker.row(
      *("<think>", " hm", "</think>", "<segmentation>", (5, 6, 7, 8)),
      *("</segmentation>", "<think>", " two", "</think>", "<depth>"),
      *((9, 9, 9, 9), "</depth>"),
    ),
    maker.row("<<think>", " x", "<<answer>", " red", "<eos>", " ghost"),
  ]
  calls = []

  def decode_maps(modality, codes_nQ):
    calls.append((modality, len(codes_nQ)))
    return codes_nQ.reshape(-1, 2, 2) * 10

  result = Responses.from_rollout(
    maker.rollout(
      rows,
      slots=[[0, -1], [1, 0], [-1, -1]],
      codes=[
        [[1, 2, 3, 4], [0] * 4],
        [[5, 6, 7, 8], [9] * 4],
        [[0] * 4, [0] * 4],
      ],
      stop=[1, 0, 1],
    ),
    vocabulary=maker.vocabulary,
    text_tokenizer=maker.tokenizer,
    decode_maps=decode_maps,
  )
  assert sorted(calls) == [("depth", 2), ("segmentation", 1)]
  return result


def test_text_is_in_the_markup_of_the_data(view):
  # Cell 11 of 8 x 8 is row 1, column 3: centres at 1.5/8 and 3.5/8.
  assert view.text[0] == (
    "<think> measure the depth </think> <depth> "
    "<think> red ball <at 0.188 0.438> 2.4 m </think> "
    "<answer> red ball </answer>"
  )
  assert view.text[1].endswith("<think> two </think> <depth>")


def test_maps_come_in_the_order_drawn_with_their_decoded_targets(view):
  assert [m.modality for m in view.maps[1]] == ["segmentation", "depth"]
  np.testing.assert_array_equal(view.maps[1][0].codes, [5, 6, 7, 8])
  np.testing.assert_array_equal(view.maps[1][1].target, np.full((2, 2), 90))
  np.testing.assert_array_equal(view.maps[0][0].target, [[10, 20], [30, 40]])
  assert view.maps[2] == ()


def test_tags_spelt_out_in_letters_are_no_tags(view):
  assert "<" not in view.text[2]
  assert view.text[2].count("&lt;") == 2
  assert turns(view.text[2])[0] == []
  assert "ghost" not in view.text[2]


def test_counts_and_flags(view):
  np.testing.assert_array_equal(view.truncated, [False, True, False])
  np.testing.assert_array_equal(view.code_tokens, [4, 8, 0])
  np.testing.assert_array_equal(view.sample_id, [100, 101, 102])
  np.testing.assert_array_equal(view.group, [0, 0, 1])
  assert len(view) == 3


def test_the_prompts_last_token_and_forced_ones():
  maker = Maker()
  tokens, states = maker.row(" red", "<think>", " blue", "</think>")
  states[0] = states[1] = FORCED  # slot 0 is the prompt's
  view = Responses.from_rollout(
    maker.rollout([(tokens, states)], slots=[[]], codes=[[]], stop=[2]),
    vocabulary=maker.vocabulary,
    text_tokenizer=maker.tokenizer,
    decode_maps=None,
    group=[5],
    sample_id=[8],
  )
  assert view.text == ("<think> blue </think>",)
  assert view.text_tokens[0] == 2  # " blue" and "</think>" were sampled
  assert view.truncated[0] and view.group[0] == 5 and view.sample_id[0] == 8


def test_nothing_in_the_view_can_be_written(view):
  with pytest.raises(ValueError, match="read-only"):
    view.group[0] = 7
  with pytest.raises(ValueError, match="read-only"):
    view.maps[0][0].target[0, 0] = 7
  with pytest.raises(ValueError, match="read-only"):
    view.maps[0][0].codes[0] = 7
  with pytest.raises(AttributeError):
    view.text = ()
  with pytest.raises(TypeError):
    view.text[0] = ""


def test_freezing_leaves_the_original_writeable():
  array = np.zeros(2)
  frozen = freeze([[array], "a"])
  with pytest.raises(ValueError, match="read-only"):
    frozen[0][0][0] = 1
  array[0] = 1
  assert frozen[0][0][0] == 1 and frozen[1] == "a"


def test_a_view_of_unequal_lengths_is_refused():
  with pytest.raises(ValueError, match="group has 3 of 1 rows"):
    Responses.from_texts(["a"], group=[0, 0, 0])


def test_turns():
  found, rest = turns(
    "<think> a <at 0.1 0.2> </think> <depth> <think> b </think> "
    "<answer> 3 </answer>"
  )
  assert found == [
    Turn("a <at 0.1 0.2>", "depth", ""),
    Turn("b", "answer", "3"),
  ]
  assert rest == ""
  found, rest = turns("<think> a </think> <depth> and <think> b </think>")
  assert [t.action for t in found] == ["depth"]
  assert rest == "and <think> b </think>"
  assert turns("<think> a <think> b </think> <depth>")[0] == []
  assert turns("<think> a </think> <at 0.1 0.2>")[0] == []
  assert turns("<think> a </think> </depth>")[0] == []
