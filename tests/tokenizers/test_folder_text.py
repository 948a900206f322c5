"""Text of downloaded folders: lossless in pieces, ids kept, one-line errors."""

import json
import pickle
import sys
import types
import unicodedata

import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.tokenizers import folder_text, text_check, text_files
from cooper_jax.tokenizers.folder_text import FolderText
from tests.tokenizers import folders


@pytest.fixture(scope="module", params=folders.KINDS)
def folder(request, tmp_path_factory):
  made = tmp_path_factory.mktemp("hub") / request.param
  return folders.write(made, request.param, rows=600)


@pytest.fixture(scope="module")
def text(folder):
  return FolderText.load(folder)


def random_texts():
  rng = np.random.default_rng(0)
  yield from ("", " ", "  a  b\n\n c\t", "héllo 日本 🎲 ", "1.2.3 .5 07 4,5")
  for _ in range(100):
    points = rng.integers(0, 0x10FFFF, rng.integers(1, 20))
    yield "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000)
    yield "".join(rng.choice(list(" a.0-9Zx\n<>?|s/"), 20))


def test_any_text_survives_the_round_trip(text):
  texts = list(random_texts())
  back = [text.decode(ids) for ids in text.encode_batch(texts)]
  composed = [unicodedata.normalize("NFC", each) for each in texts]
  # Llama's kind does not compose accents; what it gives is the text itself.
  assert back in (composed, texts)
  assert text.encode_batch(texts) == [text.encode(t) for t in texts]


def test_pieces_join_to_the_text_and_its_ids(text):
  said = " How far is the red box ? 2.4 m"
  pieces = [text.encode(" " + word) for word in said.split()]
  ids = [i for piece in pieces for i in piece]
  assert text.decode(ids) == said
  assert ids == text.encode(said)
  assert text.decode(text.encode("box")) == "box"
  # A whole text as the folder's class has it: Llama's puts the space itself.
  assert text.whole(said.strip()) in (ids, text.encode(said.strip()))


def test_the_space_before_a_text_is_only_the_whole_texts(tmp_path):
  for kind in folders.KINDS:
    put = int(kind != "byte_level")
    text = FolderText.load(folders.write(tmp_path / kind, kind))
    assert text.whole("box") == text.encode(put * " " + "box"), kind


def test_special_tokens_keep_their_ids_and_no_text_has_them(folder, text):
  said = text_files.read_tokenizer(folder)
  added = {t["content"]: t["id"] for t in said["added_tokens"]}
  assert len(added) >= 3
  for name, number in added.items():
    assert text.special(name) == number
    assert text.whole(name)[-1:] == [number]  # Llama's puts a space before
    assert text.decode([number]) == name
    spelt = text.encode(f" say {name} !")
    assert number not in spelt, name  # nor where the folder says "not special"
    assert text.decode(spelt) == f" say {name} !"
  assert text.ends == (added[folders.KINDS[folder.name][1]],)
  assert text.special("<none>") is None


def test_ends_are_those_of_the_settings_and_of_the_model(tmp_path):
  folder = folders.write(tmp_path / "f", eos_token={"content": "<|im_end|>"})
  (folder / "generation_config.json").write_text('{"eos_token_id": [0, 5]}')
  text = FolderText.load(folder)
  assert text.ends == (text.special("<|im_end|>"), 0, 5)


def test_size_and_rows(folder, text):
  said = text_files.read_tokenizer(folder)
  ids = {*said["model"]["vocab"].values()}
  ids |= {t["id"] for t in said["added_tokens"]}
  assert text.size == max(ids) + 1 == len(ids)
  assert text.rows == 600 and text.absent == ()


def test_an_id_that_no_token_has_is_absent():
  said = folders.byte_level()
  said["added_tokens"] = []
  table = said["model"]["vocab"]
  last = max(table, key=table.get)
  said["model"]["merges"].pop()
  table[last] += 3
  text = FolderText(said)
  assert text.absent == tuple(range(len(table) - 1, text.size - 1))
  assert len(text.absent) == 3


def test_a_copy_encodes_alike(text):
  other = pickle.loads(pickle.dumps(text))
  said = "the red ball <|im_end|> é"
  assert other.encode(said) == text.encode(said)
  assert (other.size, other.rows, other.ends) == (text.size, 600, text.ends)


def test_nothing_is_cut_off_filled_up_or_left_to_chance(tmp_path):
  folder = folders.write(tmp_path / "f")
  plain = FolderText.load(folder).whole("the red ball of the blue box")
  said = text_files.read_tokenizer(folder)
  cut = dict(direction="Right", max_length=4, strategy="LongestFirst", stride=0)
  folders.change(
    folder,
    "tokenizer.json",
    truncation=cut,
    model=said["model"] | {"dropout": 0.9},
  )
  assert FolderText.load(folder).whole("the red ball of the blue box") == plain


def refusal(folder, **options) -> str:
  with pytest.raises(UserError) as error:
    FolderText.load(folder, **options)
  message = str(error.value)
  assert "\n" not in message and str(folder) in message
  return message


def test_bad_folders_are_one_line_each(tmp_path):
  assert "no folder" in refusal(tmp_path / "none")
  assert "no folder" in refusal("~nobody-here/none")
  bare = tmp_path / "bare"
  bare.mkdir()
  assert "has no tokenizer" in refusal(bare)
  (bare / "tokenizer.model").write_bytes(b"\0")
  assert "of its tokenizer.model transformers makes one" in refusal(bare)
  for content, said in (
    ("{", "is not JSON"),
    ("[]", "holds a list"),
    ('{"a": 1}', "not a tokenizers JSON"),
  ):
    (bare / "tokenizer.json").write_text(content)
    assert said in refusal(bare)
  small = folders.write(tmp_path / "small", rows=300)
  assert "324 tokens, its embedding 300 rows" in refusal(small)
  folders.change(small, "config.json", vocab_size="many")
  assert "vocab_size is 'many'" in refusal(small)
  # A vision-language model has it one level down.
  folders.change(
    small, "config.json", vocab_size=None, text_config={"vocab_size": 9}
  )
  assert "its embedding 9 rows" in refusal(small)


def test_an_id_that_would_move_is_refused(tmp_path):
  folder = folders.write(tmp_path / "f")
  added = text_files.read_tokenizer(folder)["added_tokens"]
  wrong = {str(added[-1]["id"] + 1): {"content": "<think>"}}
  folders.change(folder, "tokenizer_config.json", added_tokens_decoder=wrong)
  assert "gives <think> the id 324" in refusal(folder)
  right = {str(t["id"]): t for t in added}
  folders.change(folder, "tokenizer_config.json", added_tokens_decoder=right)
  FolderText.load(folder)
  added[-1]["id"] += 5
  folders.change(folder, "tokenizer.json", added_tokens=added)
  assert "gives <think> the id 328, and loaded it has 323" in refusal(folder)


def test_a_tokenizer_that_loses_text_is_refused(tmp_path):
  folder = folders.write(tmp_path / "f")
  folders.change(folder, "tokenizer.json", normalizer={"type": "Lowercase"})
  assert "loses text" in refusal(folder)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
  folder = folders.write(tmp_path / "f")
  path = folder / "tokenizer.json"
  path.rename(tmp_path / "elsewhere.json")
  path.symlink_to(tmp_path / "elsewhere.json")
  assert "link out of the folder" in refusal(folder)


def test_another_tokenizer_than_was_noted_is_refused(tmp_path):
  folder = folders.write(tmp_path / "f")
  noted = text_files.digest(folder)
  FolderText.load(folder, digest=noted)
  # Spaces and the chat template change no id.
  said = (folder / "tokenizer.json").read_text()
  (folder / "tokenizer.json").write_text(said.replace(", ", " ,\n"))
  folders.change(folder, "tokenizer_config.json", chat_template="{{ 1 }}")
  FolderText.load(folder, digest=noted)
  folders.write(folder, "metaspace")
  assert f"made with {noted}" in refusal(folder, digest=noted)
  with pytest.raises(UserError, match=r"config\.text_folder is empty"):
    text_files.checked("", noted)
  assert text_files.checked("", "") == ""


def test_a_prefix_is_taken_from_every_part():
  said = {
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend"}]},
    "pre_tokenizer": {
      "type": "Sequence",
      "pretokenizers": [
        {"type": "Split"},
        {"type": "Metaspace", "prepend_scheme": "always"},
      ],
    },
    "decoder": {"type": "Metaspace", "add_prefix_space": True},
  }
  assert folder_text.without_prefix(said) == {
    "normalizer": None,
    "pre_tokenizer": {
      "type": "Sequence",
      "pretokenizers": [
        {"type": "Split"},
        {"type": "Metaspace", "prepend_scheme": "never"},
      ],
    },
    "decoder": {"type": "Metaspace", "prepend_scheme": "never"},
  }


def test_white_space_of_the_added_tokens_stays_one(tmp_path):
  folder = folders.write(tmp_path / "f")
  said = text_files.read_tokenizer(folder)
  added = said["added_tokens"]
  gap = added[-1] | {"id": added[-1]["id"] + 1, "content": "    "}
  folders.change(folder, "tokenizer.json", added_tokens=[*added, gap])
  text = FolderText.load(folder)
  assert gap["id"] in text.encode("a    b")
  assert text.decode(text.encode("a    b")) == "a    b"


def test_a_tokenizer_that_finds_special_tokens_in_letters_is_refused(
  tmp_path, monkeypatch
):
  kind = {"unigram": (folders.unigram, "</s>")}
  monkeypatch.setattr(folders, "KINDS", folders.KINDS | kind)
  folder = folders.write(tmp_path / "f", "unigram")
  assert "spells <unk> has that token itself (0)" in refusal(folder)
  # A table whose special tokens are only added, and which has bytes.
  said = text_files.read_tokenizer(folder)
  said["model"]["vocab"][1][0] = "<0x0A>"
  said["model"] |= {"byte_fallback": True}
  said["added_tokens"] = []
  said["decoder"] = {
    "type": "Sequence",
    "decoders": [{"type": "ByteFallback"}, said["decoder"]],
  }
  folders.change(folder, "tokenizer.json", **said)
  assert r"('<0x0A>' comes back as '\n')" in refusal(folder)


def test_an_id_past_all_tables_is_refused_before_memory_is_taken(tmp_path):
  folder = folders.write(tmp_path / "f")
  said = text_files.read_tokenizer(folder)
  said["added_tokens"] = []
  table = said["model"]["vocab"]
  said["model"]["merges"].pop()
  table[max(table, key=table.get)] = 4_000_000_000
  folders.change(folder, "tokenizer.json", **said)
  assert "has the id 4,000,000,000" in refusal(folder)
  (folder / "config.json").write_text('{"vocab_size": 4100000000}')
  assert "has the id 4,000,000,000" in refusal(folder)


def test_no_folder_is_not_the_one_that_one_stands_in(tmp_path, monkeypatch):
  monkeypatch.chdir(folders.write(tmp_path / "f"))
  with pytest.raises(UserError, match=r"config\.text_folder is empty"):
    FolderText.load("", digest="0123")
  with pytest.raises(UserError, match="no folder is named"):
    FolderText.load("")
  assert FolderText.load(".").size


def test_a_strangers_words_steer_no_terminal(tmp_path):
  folder = folders.write(tmp_path / "f")
  wrong = {"5": {"content": "\x1b[2J\u202ename"}}
  folders.change(folder, "tokenizer_config.json", added_tokens_decoder=wrong)
  assert "gives [2J name the id 5" in refusal(folder)


def test_a_copy_is_a_whole_folder_and_nothing_of_an_earlier_one(tmp_path):
  folder = folders.write(tmp_path / "f", eos_token=None)
  there = folders.write(tmp_path / "earlier", "metaspace", rows=900)
  (there / "chat_template.jinja").write_text("earlier")
  names = {"bos_token": "<|im_start|>"}
  (folder / "special_tokens_map.json").write_text(json.dumps(names))
  end = FolderText.load(folder).special("<|im_end|>")
  model = {"vocab_size": 600, "eos_token_id": end, "hidden_size": 8}
  (folder / "config.json").write_text(json.dumps(model))
  for out in (there, folder):  # onto itself, too
    text_files.copy(folder, out, 600)
    text = FolderText.load(out)
    assert (text.rows, text.ends) == (600, (end,))
    assert not (out / "chat_template.jinja").exists()
    assert text_files.read_object(out, "special_tokens_map.json") == names
    assert "hidden_size" not in text_files.read_object(out, "config.json")
  text_files.remove(there)
  assert list(there.iterdir()) == []
  (there / "config.json").write_text("{}")  # not one that `copy` wrote
  text_files.remove(there)
  assert (there / "config.json").exists()


@pytest.mark.parametrize(
  ("error", "said"),
  [
    (UserError("asked"), "asked"),
    (AttributeError("no\nsuch"), "tokenizer of .*: AttributeError: no such$"),
  ],
)
def test_the_folders_own_class_runs_none_of_its_code(
  error, said, tmp_path, monkeypatch
):
  given = {}

  class AutoTokenizer:
    @classmethod
    def from_pretrained(cls, _, **options):
      given.update(options)
      raise error

  fake = types.SimpleNamespace(AutoTokenizer=AutoTokenizer)
  monkeypatch.setitem(sys.modules, "transformers", fake)
  folder = folders.write(tmp_path / "f")
  with pytest.raises(UserError, match=said):
    text_check.differences(folder, live=True)
  assert given == {"local_files_only": True, "trust_remote_code": False}


def expected(folder):
  """What `chat.json` would hold, found here by other means."""
  ids = FolderText.load(folder).whole("a red ball")
  return {"texts": [{"text": "a red ball", "ids": ids}]}


def test_differences_from_what_was_noted(folder):
  assert text_check.has_text(folder)
  assert text_check.differences(folder) == []
  path = folder / text_check.EXPECTED_CHAT
  size = FolderText.load(folder).size
  try:
    for said, line in (
      (expected(folder) | {"size": size}, None),
      ({"size": size + 1}, f"{size} tokens, expected {size + 1}"),
      ({"texts": [{"text": "red", "ids": [1, 2]}]}, "ids of 'red' differ at"),
      ({"texts": [{"text": "red"}]}, "not as it should be"),
      ({"texts": [{"text": "red", "ids": [-1]}]}, "not as it should be"),
      ({"texts": [{"text": "red", "ids": ["x"]}]}, "not as it should be"),
      (
        {"messages": [{"role": "user", "content": "Hi"}], "text": "Hi"},
        "chat text differs at character 0",
      ),
    ):
      path.write_text(json.dumps(said))
      found = text_check.differences(folder)
      assert bool(found) == bool(line), found
      assert line is None or line in found[0]
  finally:
    path.unlink()
