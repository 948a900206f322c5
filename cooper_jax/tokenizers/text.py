"""Text to tokens and back: a small byte-level BPE that knows the world's words.

A word of the embedded world and a number of metres is one token, so a question
costs about as many tokens as it has words and reading a distance off a map is
one choice.  Any other text falls back to a few merges and then to bytes, so
nothing is unknown and decoding is lossless.  The table is a Hugging Face
`tokenizers` JSON, `assets/text_tokenizer.json`, made from `assets/words.txt`:

  python -m cooper_jax.tokenizers.text --build [words.txt ...]   (- is stdin)
"""

import argparse
import collections
import functools
import itertools
import json
import pathlib
import re
import sys
from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from cooper_jax.errors import UserError

ASSETS = pathlib.Path(__file__).parents[1] / "assets"
ASSET = ASSETS / "text_tokenizer.json"
WORDS = ASSETS / "words.txt"

# A number keeps its decimal point, a word its leading space.
PIECES = r" ?[A-Za-z]+| ?[0-9]+(?:\.[0-9]+)?| ?[^\sA-Za-z0-9]+|\s+"
E24 = (
  "1.0 1.1 1.2 1.3 1.5 1.6 1.8 2.0 2.2 2.4 2.7 3.0 "
  "3.3 3.6 3.9 4.3 4.7 5.1 5.6 6.2 6.8 7.5 8.2 9.1"
).split()
PUNCTUATION = ". , ? ; : ! ( ) - ' \"".split()
MERGES = 32  # pairs of bytes for the words that the list does not hold


def numbers() -> list[str]:
  """E24 numbers 0.10 to 30 as traces print them, and whole numbers to 30."""
  small = [f"{float(e) / 10:.2f}" for e in E24]
  whole = [str(n) for n in range(31)]  # E24 has no more than two digits
  return list(dict.fromkeys([*small, *E24, *whole]))


class TextTokenizer:
  """Encodes text to ids in [0, size) and back, losslessly."""

  def __init__(self, tokenizer: tokenizers.Tokenizer):
    self._tokenizer = tokenizer
    # Documents and questions say the same few thousand words again and again.
    self._encoded = functools.lru_cache(1 << 15)(self._encode)

  @classmethod
  def load(cls, path: str | pathlib.Path | None = None) -> "TextTokenizer":
    """Reads a `tokenizers` JSON; None means the one the package ships with.

    Raises UserError where the file is missing or holds no tokenizer.
    """
    path = pathlib.Path(path or ASSET)
    try:
      return cls(tokenizers.Tokenizer.from_str(path.read_text("utf-8")))
    except OSError as error:
      raise UserError(
        f"text tokenizer {path}: {error.strerror}; leave the path empty for "
        "the one that the package ships with"
      ) from error
    except Exception as error:  # the Rust side raises bare Exception
      raise UserError(
        f"text tokenizer {path} is not a tokenizers JSON file ({error}); leave"
        " the path empty for the one that the package ships with"
      ) from error

  absent: tuple[int, ...] = ()  # ids below size that no token has

  @property
  def size(self) -> int:
    return self._tokenizer.get_vocab_size()

  @property
  def rows(self) -> int:
    """Rows of an embedding for it, where no setting asks for more."""
    return self.size

  def encode(self, text: str) -> list[int]:
    return list(self._encoded(text))

  def _encode(self, text: str) -> tuple[int, ...]:
    return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    found = self._tokenizer.encode_batch_fast(
      list(texts), add_special_tokens=False
    )
    return [encoding.ids for encoding in found]

  def decode(self, ids: Iterable[int]) -> str:
    """Text of the ids; bytes that are no UTF-8 become U+FFFD."""
    return self._tokenizer.decode(
      [int(i) for i in ids], skip_special_tokens=False
    )

  def token(self, piece: str) -> int | None:
    """Id of a piece that is one token, None where it takes several."""
    ids = self.encode(piece)
    return ids[0] if len(ids) == 1 else None

  def __getstate__(self) -> str:
    return self._tokenizer.to_str()

  def __setstate__(self, state: str) -> None:
    self.__init__(tokenizers.Tokenizer.from_str(state))


def read_words(text: str) -> list[str]:
  """The pieces of a word list or corpus, `#` lines left out, in order."""
  lines = [x for x in text.splitlines() if not x.startswith("#")]
  pieces = re.findall(PIECES, "\n".join(lines))
  return list(dict.fromkeys(p.strip() for p in pieces if p.strip()))


def build(words: Sequence[str]) -> str:
  """The tokenizer's JSON for these words, the same for the same words.

  The pieces are whole entries of the table and `ignore_merges` finds them
  there, so no chain of half words takes rows of the model's head.
  """
  pieces = [*words, *numbers(), *PUNCTUATION]
  pieces = sorted(dict.fromkeys(pieces))
  byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

  def spell(text: str) -> str:
    return byte_level.pre_tokenize_str(text)[0][0]

  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  merges = _merges([w for w in words if w.isalpha()])
  table = [*alphabet, *(a + b for a, b in merges)]
  table += [spell(form) for piece in pieces for form in (" " + piece, piece)]
  tokenizer = tokenizers.Tokenizer(
    models.BPE(
      vocab={t: i for i, t in enumerate(dict.fromkeys(table))},
      merges=merges,
      ignore_merges=True,
    )
  )
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(tokenizers.Regex(PIECES), "isolated"),
      byte_level,
    ]
  )
  tokenizer.decoder = decoders.ByteLevel()
  return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=True, indent=0)


def _merges(words: Sequence[str]) -> list[tuple[str, str]]:
  """The pairs that byte-pair encoding of the words joins first.

  Ties go to the pair that sorts first: the table must not depend on a hash.
  """
  spelled = [list(word) for word in sorted(set(words))]
  merges: list[tuple[str, str]] = []
  while len(merges) < MERGES:
    pairs = collections.Counter(
      pair for word in spelled for pair in itertools.pairwise(word)
    )
    if not pairs:
      break
    best = min(pairs, key=lambda pair: (-pairs[pair], pair))
    merges.append(best)
    for word in spelled:
      i = 0
      while i + 1 < len(word):
        if (word[i], word[i + 1]) == best:
          word[i : i + 2] = ["".join(best)]
        i += 1
  return merges


def main(argv: Sequence[str] | None = None) -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--build", nargs="*", metavar="FILE", required=True)
  parser.add_argument("--output", type=pathlib.Path, default=ASSET)
  arguments = parser.parse_args(argv)
  texts = [
    sys.stdin.read() if name == "-" else pathlib.Path(name).read_text("utf-8")
    for name in arguments.build or [str(WORDS)]
  ]
  arguments.output.write_text(build(read_words("\n".join(texts))) + "\n")
  loaded = TextTokenizer.load(arguments.output)
  print(f"{arguments.output}: {loaded.size} tokens")
  return 0


if __name__ == "__main__":
  sys.exit(main())
