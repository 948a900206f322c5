"""The text tokenizer: lossless, deterministic, one token per known word."""

import copy
import io
import math
import re

import numpy as np
import pytest

from cooper_jax import modalities
from cooper_jax.data import traces
from cooper_jax.errors import UserError
from cooper_jax.tokenizers import text
from cooper_jax.tokenizers.text import TextTokenizer
from cooper_jax.world import COLOURS, WorldConfig, generate
from cooper_jax.world.questions import families, wording


@pytest.fixture(scope="module")
def tokenizer():
  return TextTokenizer.load()


def test_any_text_survives_the_round_trip(tokenizer):
  rng = np.random.default_rng(0)
  texts = [
    "",
    " ",
    "  a  b\n\n c\t",
    "héllo 日本 🎲 e\u0301",
    "1.2.3 .5 07 4,5",
  ]
  for _ in range(300):
    raw = rng.integers(0, 256, rng.integers(1, 60)).astype(np.uint8).tobytes()
    texts.append(raw.decode("utf-8", "replace"))
    points = rng.integers(0, 0x10FFFF, rng.integers(1, 30))
    texts.append("".join(chr(p) for p in points if not 0xD800 <= p < 0xE000))
    texts.append("".join(rng.choice(list(" a.0-9Zx\n<>?"), 20)))
  assert [tokenizer.decode(tokenizer.encode(t)) for t in texts] == texts
  assert tokenizer.encode_batch(texts) == [tokenizer.encode(t) for t in texts]


def test_ids_fill_the_table(tokenizer):
  alone = [tokenizer.decode([i]) for i in range(tokenizer.size)]
  # A token that is whole characters comes back as itself; bytes do not.
  back = [tokenizer.encode(t) == [i] for i, t in enumerate(alone)]
  assert sum(back) > tokenizer.size - 256
  assert 400 <= tokenizer.size <= 1000


def test_every_number_of_metres_is_one_token(tokenizer):
  # 24 values a decade, printed with two significant digits: .10 to 30
  wanted = []
  for k in range(-24, 36):
    value = float(text.E24[k % 24]) * 10 ** math.floor(k / 24)
    wanted.append(
      f"{value:.2f}"
      if value < 0.995
      else f"{value:.1f}"
      if value < 9.95
      else f"{value:.0f}"
    )
  assert wanted[0] == "0.10" and wanted[24] == "1.0" and wanted[-1] == "30"
  for number in wanted:
    assert tokenizer.token(" " + number) is not None, number
    assert tokenizer.token(number) is not None, number


def test_every_word_of_the_list_is_one_token(tokenizer):
  for word in text.read_words(text.WORDS.read_text("utf-8")):
    assert tokenizer.token(word) is not None, word
    assert tokenizer.token(" " + word) is not None, word
  assert tokenizer.token("zyzzyva") is None


def test_every_word_of_the_world_is_one_token(tokenizer):
  world = WorldConfig(image_size=32)
  said = [
    *(m.CALL for m in modalities.found().values()),
    traces.DOUBT,
    *COLOURS,
  ]
  said += [*wording.PLURALS, *wording.PLURALS.values()]
  said += [t for f in families.names() for t in families.find(f).TEMPLATES]
  for split in ("train", "heldout"):
    for sample in generate(world, split=split, start=0, count=32):
      for question in (*sample.questions, *sample.grounding):
        said += [question.text, question.answer, question.reasoning]
        said += question.options
  # Without tags and the templates' {names}, as pieces after a space.
  words = " ".join(said)
  words = re.sub(r"<[^>]*>|\{[^}]*\}", " ", words).split()
  pieces = {p for w in set(words) for p in re.findall(text.PIECES, " " + w)}
  assert {" ball", " Which", " ?", " 2.4", " 0.91"} <= pieces
  missing = sorted(p for p in pieces if tokenizer.token(p) is None)
  assert not missing, f"add to assets/words.txt: {missing}"


def test_the_committed_table_is_what_the_command_builds(tmp_path, monkeypatch):
  built = tmp_path / "built.json"
  assert text.main(["--build", "--output", str(built)]) == 0
  assert built.read_bytes() == text.ASSET.read_bytes()
  assert built.stat().st_size <= 100_000
  words = text.WORDS.read_text("utf-8")
  monkeypatch.setattr("sys.stdin", io.StringIO(words))
  again = tmp_path / "again.json"
  assert text.main(["--build", "-", "--output", str(again)]) == 0
  assert again.read_bytes() == built.read_bytes()


def test_table_does_not_depend_on_the_order_of_the_words():
  assert text.build(["ball", "box"]) == text.build(["box", "ball"])


def test_copied_tokenizer_encodes_alike(tokenizer):
  sentence = "the red ball is 2.4 m away ; seltsam"
  other = copy.deepcopy(tokenizer)
  assert other.encode(sentence) == tokenizer.encode(sentence)


def test_broken_files_are_one_line(tmp_path):
  with pytest.raises(UserError, match="leave the path empty"):
    TextTokenizer.load(tmp_path / "none.json")
  (tmp_path / "bad.json").write_text("{}")
  with pytest.raises(UserError, match="not a tokenizers JSON"):
    TextTokenizer.load(tmp_path / "bad.json")
