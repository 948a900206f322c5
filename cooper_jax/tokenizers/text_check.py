"""A folder's text against what its own class gave: ids, chat text and size.

`chat.json`, where a folder has one, holds `messages`, the `text` that they are
and its `ids`, and the tokenizer's `size`; `texts` may hold more pairs.
"""

import unicodedata
from pathlib import Path

from cooper_jax.errors import LIBRARY_FAILS, UserError, cause
from cooper_jax.tokenizers import text_files
from cooper_jax.tokenizers.chat_template import ChatTemplate
from cooper_jax.tokenizers.folder_text import PROBE, FolderText

EXPECTED_CHAT = "chat.json"
# What reading it raises where it holds other things than it should.
DAMAGED = (AttributeError, KeyError, OverflowError, TypeError, ValueError)
# Of a folder whose text model is not imported.
CARRIED = "the tokenizer is carried along, not read: no text is imported"
AROUND = 40  # characters around a difference
# No space before, several, and what only looks like a special token.
SAMPLES = (PROBE, "red", "  2.5 m ", "a<|im_end|><|endoftext|></s>b")


def has_text(folder) -> bool:
  """Whether a folder has a tokenizer."""
  return text_files.read(folder, text_files.TOKENIZER) is not None


def differences(folder, *, live: bool = False) -> list[str]:
  """A line for each thing that is not as it should be; [] where all is.

  Without `chat.json`, what can be seen without it: that the folder loads, and
  that text comes back from its tokens. live: whether to ask the folder's own
  class of `transformers`, too, which has to be installed; UserError where it
  can't be asked, or the folder's text can't be read.
  """
  folder = Path(folder).expanduser()
  text = FolderText.load(folder)
  try:
    found = _losses(text)
    expected = text_files.read_object(folder, EXPECTED_CHAT)
    size = expected.get("size", text.size)
    if text.size != size:
      found.append(f"tokenizer has {text.size} tokens, expected {size}")
    if "messages" in expected and "text" in expected:
      made = ChatTemplate.load(folder).chat(expected["messages"])
      found += _texts("chat text", made, expected["text"])
    pairs = [(expected["text"], expected["ids"])] if "ids" in expected else []
    pairs += [(t["text"], t["ids"]) for t in expected.get("texts", ())]
    for said, ids in pairs:
      found += _ids(text, said, ids)
  except UserError as error:
    return [str(error)]
  except DAMAGED as error:
    return [f"{folder / EXPECTED_CHAT} is not as it should be ({error!r})"]
  return found + (_live(folder, text) if live else [])


def _losses(text: FolderText) -> list[str]:
  """Texts that don't come back from their tokens, or hold a special one."""
  found = []
  for said in SAMPLES:
    ids = text.encode(said)
    back, wanted = (
      unicodedata.normalize("NFKC", each) for each in (text.decode(ids), said)
    )
    found += _texts(f"text of the tokens of {said!r}", back, wanted)
    found += [
      f"{said!r} holds the token {i} that ends a text"
      for i in sorted(set(ids) & set(text.ends))
    ]
  return found


def _live(folder: Path, text: FolderText) -> list[str]:
  """The same samples and a chat, of the class that `transformers` has."""
  messages = [{"role": "user", "content": said} for said in SAMPLES[:1]]
  try:
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(
      folder, local_files_only=True, trust_remote_code=False
    )
    size, expected = len(own), None
    ids = [own(said, add_special_tokens=False)["input_ids"] for said in SAMPLES]
    if own.chat_template:
      expected = own.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
      )
  except LIBRARY_FAILS as error:
    raise UserError(
      f"--live needs a transformers that reads the tokenizer of {folder}:"
      f" {cause(error)}"
    ) from error
  found = []
  if size != text.size:
    found.append(f"tokenizer has {text.size} tokens, its class {size}")
  for said, each in zip(SAMPLES, ids, strict=True):
    found += _ids(text, said, each)
  if expected is not None:
    try:
      made = ChatTemplate.load(folder).chat(messages)
    except UserError as error:
      return [*found, str(error)]
    found += _texts("chat text of its class", made, expected)
  return found


def _texts(what: str, made: str, expected: str) -> list[str]:
  if made == expected:
    return []
  at = _first(made, expected)
  near = slice(max(0, at - AROUND // 2), at + AROUND // 2)
  return [
    f"{what} differs at character {at}: {made[near]!r}, expected"
    f" {expected[near]!r}"
  ]


def _ids(text: FolderText, said: str, expected: list[int]) -> list[str]:
  made = text.whole(said)
  if made == list(expected):
    return []
  at = _first(made, expected)
  here, there = made[at : at + 4], list(expected[at : at + 4])
  return [
    f"ids of {said[:AROUND]!r} differ at token {at}: {here}"
    f" {text.tokens(here)}, expected {there} {text.tokens(there)}"
  ]


def _first(one, other) -> int:
  """Where two sequences first differ."""
  pairs = enumerate(zip(one, other))
  return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
