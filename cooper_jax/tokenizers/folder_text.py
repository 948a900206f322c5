"""Text to tokens as a downloaded model does: a folder's `tokenizer.json`.

Ids are the folder's, those of `<|im_end|>` and the like included; our own
specials, locations and codes are rows behind its embedding. Two things differ
from the folder's own class, which `whole` gives: text comes in pieces that are
joined, so no space is put before one and none is taken away in decoding; and an
added token that a text spells out is letters, so that no question and no
caption can end a turn or begin one.
"""

import copy
import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import tokenizers

from cooper_jax.errors import UserError
from cooper_jax.tokenizers import text_files
from cooper_jax.tokenizers.text import TextTokenizer

# What every policy has to be able to say, and to read back.
PROBE = " The red box: 2.40 m, (not 13)? No; it's < 5 and > 0."
# A byte's name is letters, too; where it is the byte, a text can fake a line.
PROBES = (PROBE, "<0x0A>")
MOST_IDS = 10_000_000  # tokens; the largest tables have some 300,000
# Where a token that ends a text is named: in settings by word, here by id.
ENDS = ("generation_config.json", "config.json")


class FolderText(TextTokenizer):
  """Text of a folder's tokenizer; `load` makes it.

  rows: of the folder's embedding, of which its tokens may be fewer. ends: ids
  with which the folder's model ends a text.
  """

  def __init__(self, said: dict, rows: int = 0, ends: tuple[int, ...] = ()):
    self._said = said
    self._whole = make(said)
    pieces = make(without_added(without_prefix(said)))
    pieces.encode_special_tokens = True  # they are letters in a text
    super().__init__(pieces)
    ids = set(self._whole.get_vocab(with_added_tokens=True).values())
    self._size = _size(self._whole)
    self.absent = tuple(sorted(set(range(self._size)) - ids))
    self._rows, self.ends = rows, tuple(ends)

  @classmethod
  def load(cls, folder, *, digest: str = "") -> "FolderText":
    """Reads a folder.

    Raises UserError where it has no tokenizer or another one than `digest`
    says, where that loses text, or has more tokens than the embedding rows.
    """
    if not text_files.checked(str(folder), digest):
      raise UserError("no folder is named; give that of a downloaded model")
    folder = Path(folder).expanduser()
    said = text_files.read_tokenizer(folder)
    # Before anything is made that has an entry for each id up to the largest.
    size = _size(make(said, folder / text_files.TOKENIZER))
    rows = text_files.embedding_rows(folder)
    if size > MOST_IDS:
      raise UserError(
        f"{folder}: its tokenizer has the id {size - 1:,}, and {MOST_IDS:,}"
        " tokens are the most; download it again"
      )
    if rows and rows < size:
      raise UserError(
        f"{folder}: its tokenizer has {size:,} tokens, its embedding {rows:,}"
        " rows (vocab_size); the two are not of one model"
      )
    made = cls(said, rows)
    _check_ids(made, folder)
    made.ends = _ends(made, folder)
    _check_text(made, folder)
    return made

  @property
  def size(self) -> int:
    """Ids that there are, up to the largest; `absent` are those in between."""
    return self._size

  @property
  def rows(self) -> int:
    return self._rows or self._size

  def whole(self, text: str) -> list[int]:
    """Ids of a whole text as the folder's class gives them.

    Special tokens that stand in it are themselves; none is put around it.
    """
    return self._whole.encode(text, add_special_tokens=False).ids

  def special(self, name: str) -> int | None:
    """Id of an added token, as `<|im_end|>`; None where there is none."""
    added = self._whole.get_added_tokens_decoder()
    return next((i for i, t in added.items() if t.content == name), None)

  def control(self) -> dict[int, str]:
    """Id -> spelling of the added tokens that are special or end a text."""
    added = self._whole.get_added_tokens_decoder().items()
    return {i: t.content for i, t in added if t.special or i in self.ends}

  def tokens(self, ids: Iterable[int]) -> list[str | None]:
    """The table's entries, as they are spelt there."""
    return [self._whole.id_to_token(int(i)) for i in ids]

  def __getstate__(self):
    return self._said, self._rows, self.ends

  def __setstate__(self, state) -> None:
    self.__init__(*state)


def make(said: dict, path=text_files.TOKENIZER) -> tokenizers.Tokenizer:
  """A tokenizer of what a `tokenizer.json` says.

  Nothing is cut off, filled up or left to chance, whatever the file asks for.
  Raises UserError, naming `path`, where the library can't make one of it or
  would move an id.
  """
  said = said | {"truncation": None, "padding": None}
  model = said.get("model")
  if isinstance(model, dict) and model.get("dropout"):
    said["model"] = model | {"dropout": None}
  try:
    made = tokenizers.Tokenizer.from_str(json.dumps(said))
  except Exception as error:  # the Rust side raises bare Exception
    raise UserError(
      f"{path} is not a tokenizers JSON file ({text_files.shown(error)})"
    ) from error
  # The library gives an added token the next free id, whatever the file says.
  for token in said.get("added_tokens") or ():
    name, number = token["content"], token["id"]
    here = made.token_to_id(name)
    if here != number:
      raise UserError(
        f"{path} gives {text_files.shown(name)} the id {number}, and loaded it"
        f" has {here}; added tokens have to follow the vocabulary without a gap"
      )
  return made


def without_added(said: dict) -> dict:
  """The same tokenizer, all of whose added tokens are special.

  A text is not to hold any: DeepSeek's turns begin with some that no file calls
  special. Runs of white space stay, which tell nobody's turn.
  """
  added = said.get("added_tokens") or []
  spelt = [t | {"special": True} for t in added if not t["content"].isspace()]
  changed = {t["content"]: t for t in spelt}
  return said | {"added_tokens": [changed.get(t["content"], t) for t in added]}


def without_prefix(said: dict) -> dict:
  """The same tokenizer, less the space before a text that it puts and takes.

  Llama's and Mistral's begin every text with one; a piece that continues a
  text has its own.
  """
  said = copy.copy(said)
  for part in ("normalizer", "pre_tokenizer", "decoder"):
    said[part] = _without(said.get(part), part)
  return said


# Lists of parts, by the name that they have there.
_LISTS = ("normalizers", "pretokenizers", "decoders")


def _without(part, place: str):
  """One part of the pipeline, None where nothing is left of it."""
  if not isinstance(part, dict):
    return part
  part, kind = dict(part), part.get("type")
  for name in _LISTS:
    if isinstance(part.get(name), list):
      inner = [_without(each, place) for each in part[name]]
      part[name] = [each for each in inner if each is not None]
      if not part[name]:
        return None
  if place == "normalizer" and kind == "Prepend":
    return None
  # Of the decoders, Strip alone takes the space away again.
  if place == "decoder" and kind == "Strip" and part.get("content") == " ":
    return None
  if kind == "ByteLevel" and "add_prefix_space" in part:
    part["add_prefix_space"] = False
  if kind == "Metaspace":
    # Its older name for the same; the library refuses some pairs of the two.
    part.pop("add_prefix_space", None)
    part["prepend_scheme"] = "never"
  return part


def _size(made: tokenizers.Tokenizer) -> int:
  """Ids up to the largest that a token has."""
  return 1 + max(made.get_vocab(with_added_tokens=True).values(), default=-1)


def _check_text(text: FolderText, folder: Path) -> None:
  """Text comes back from its tokens, and holds no special one."""
  for said in PROBES:
    back = text.decode(text.encode(said))
    if unicodedata.normalize("NFKC", back) != said:
      raise UserError(
        f"{folder}: its tokenizer loses text ({said!r} comes back as"
        f" {back!r}), so answers could not be read; take a model whose"
        " tokenizer keeps letters, digits and spaces"
      )
  for number, name in text.control().items():
    if number in text.encode(name):
      raise UserError(
        f"{folder}: a text that spells {text_files.shown(name)} has that token"
        f" itself ({number}), so a question could end a turn; take a model"
        " whose tokenizer is byte-level or BPE"
      )


def _check_ids(text: FolderText, folder: Path) -> None:
  """The ids that the settings give special tokens are the tokenizer's."""
  said = text_files.read_object(folder, text_files.SETTINGS)
  added = said.get("added_tokens_decoder")
  for number, token in (added if isinstance(added, dict) else {}).items():
    name = text_files.token_text(token)
    here = text.special(name) if name else None
    if not number.isdecimal() or here != int(number):
      raise UserError(
        f"{folder / text_files.SETTINGS} gives {text_files.shown(name)} the id"
        f" {number},"
        f" {text_files.TOKENIZER} gives it"
        f" {'none' if here is None else here}; download both again"
      )


def _ends(text: FolderText, folder: Path) -> tuple[int, ...]:
  """Ids that end a text, by its settings and by its model's."""
  settings = text_files.read_object(folder, text_files.SETTINGS)
  name = text_files.token_text(settings.get("eos_token"))
  found = [text.special(name)] if name else []
  for file in ENDS:
    ids = text_files.read_object(folder, file).get("eos_token_id")
    found += ids if isinstance(ids, list) else [ids]
  ids = [i for i in found if isinstance(i, int) and 0 <= i < text.size]
  return tuple(dict.fromkeys(ids))
