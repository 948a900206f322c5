"""The unified vocabulary: ranges, specials, slots."""

import pathlib
import types

import pytest

from cooper_jax import modalities
from cooper_jax.errors import UserError
from cooper_jax.modalities import depth
from cooper_jax.tokenizers import vocab
from cooper_jax.tokenizers.vocab import Vocabulary

VOCAB = Vocabulary(text=700, locations=64, codes=1000)


def test_ranges_follow_each_other_without_a_gap():
  # 700 text rows, 64 specials, 64 locations, then the codes
  assert VOCAB.specials == 700
  assert VOCAB.locations_start == 764
  assert VOCAB.codes_start == VOCAB.text_rows == 828
  assert VOCAB.size == 1828
  kinds = [VOCAB.kind(t) for t in (0, 699, 700, 763, 764, 827, 828, 1827)]
  expected = ["text"] * 2 + ["special"] * 2 + ["location"] * 2 + ["code"] * 2
  assert kinds == expected
  assert VOCAB.location(63) == 827 and VOCAB.code(0) == 828


def test_specials_keep_their_order():
  assert VOCAB.special("<pad>") == 700
  assert VOCAB.special("</answer>") == 709
  # depth is slot 0, segmentation slot 1: 16 + 2s opens, 17 + 2s closes
  assert VOCAB.special("<depth>") == VOCAB.opening(0) == 716
  assert VOCAB.special("</depth>") == VOCAB.closing(0) == 717
  assert VOCAB.special("<segmentation>") == VOCAB.opening(1) == 718
  assert VOCAB.closing(23) == 763 < VOCAB.locations_start


def test_slot_inverts_opening_only():
  assert [VOCAB.modality_id(VOCAB.opening(s)) for s in range(24)] == list(
    range(24)
  )
  assert VOCAB.modality_id(VOCAB.closing(3)) is None
  assert VOCAB.modality_id(VOCAB.special("</answer>")) is None
  assert VOCAB.modality_id(VOCAB.locations_start) is None


def test_names_invert_special():
  names = [*vocab.SPECIAL_NAMES, "<depth>", "</depth>", "<segmentation>"]
  assert [VOCAB.name(VOCAB.special(n)) for n in names] == names
  assert VOCAB.name(VOCAB.location(5)) == "<at 5>"
  assert VOCAB.name(VOCAB.code(7)) == "<code 7>"
  assert VOCAB.name(VOCAB.specials + 15) == "<special 15>"


@pytest.mark.parametrize(
  "name", ["<deph>", "depth", "</pad>", "<depth", "<//depth>", ""]
)
def test_unknown_special_lists_what_exists(name):
  with pytest.raises(UserError, match=r"<think>.*<depth>"):
    VOCAB.special(name)


def test_a_modality_that_is_added_later_is_found(tmp_path, monkeypatch):
  with pytest.raises(UserError):
    VOCAB.special("<thermal>")
  like = pathlib.Path(depth.__file__).read_text(encoding="utf-8")
  thermal = like.replace("\nMODALITY_ID = 0\n", "\nMODALITY_ID = 9\n")
  (tmp_path / "thermal.py").write_text(thermal, encoding="utf-8")
  folders = [*modalities.__path__, str(tmp_path)]
  monkeypatch.setattr(modalities, "__path__", folders)
  # slot 9: 700 + 16 + 2 x 9
  assert VOCAB.special("<thermal>") == 734
  assert VOCAB.name(735) == "</thermal>"
  vocab.modality_ids.cache_clear()


def test_slots_are_refused_when_shared_missing_or_out_of_range():
  def module(**attributes):
    return types.SimpleNamespace(**attributes)

  slots = vocab.assign_modality_ids(
    {"a": module(MODALITY_ID=0), "b": module(MODALITY_ID=2)}
  )
  assert slots == {"a": 0, "b": 2}
  with pytest.raises(
    UserError, match=r"'a' and 'b' both have MODALITY_ID 1.* 0 "
  ):
    vocab.assign_modality_ids(
      {"a": module(MODALITY_ID=1), "b": module(MODALITY_ID=1)}
    )
  for bad in (
    module(),
    module(MODALITY_ID=24),
    module(MODALITY_ID=-1),
    module(MODALITY_ID="1"),
  ):
    with pytest.raises(UserError, match=r"0\.\.23"):
      vocab.assign_modality_ids({"a": bad})


@pytest.mark.parametrize("call", ["location", "code", "kind", "opening"])
@pytest.mark.parametrize("index", [-1, 100_000])
def test_out_of_range_is_refused(call, index):
  with pytest.raises(UserError, match="outside"):
    getattr(VOCAB, call)(index)
