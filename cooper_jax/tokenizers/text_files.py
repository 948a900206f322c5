"""The text files of a downloaded model: tokenizer, its settings, its template.

Read with care, for they come from strangers: a link out of the folder is not
followed, nothing is run, and what is missing or broken is said in one line.
"""

import hashlib
import json
import os
from pathlib import Path

from cooper_jax.errors import UserError

TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
CONFIG = "config.json"  # of the folder's model
# What a policy needs of a folder to read and write text as it does.
KEPT = (
  CONFIG, TOKENIZER, SETTINGS, "chat_template.jinja", "chat_template.json",
  "generation_config.json", "special_tokens_map.json",
)  # fmt: skip
MODELS = (CONFIG, "llm_config.json")  # where the embedding's rows stand
SENTENCEPIECE = ("tokenizer.model", "vocab.json", "spiece.model")


def read(folder, name: str) -> str | None:
  """The text of a file of a folder, None where there is none.

  Raises UserError where it can't be read or is a link out of the folder.
  """
  folder = Path(os.path.expanduser(folder))
  path = folder / name
  if not path.exists() and not path.is_symlink():
    return None
  try:
    within = path.resolve().is_relative_to(folder.resolve())
  except (OSError, RuntimeError) as error:
    raise UserError(f"{path} is a link to itself") from error
  if not within:
    raise UserError(
      f"{path} is a link out of the folder; copy the files themselves (cp -rL)"
    )
  if path.exists() and not path.is_file():  # a pipe would be read for ever
    raise UserError(f"{path} is no file; download it again")
  try:
    return path.read_text("utf-8")
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"{path} can't be read: {error}") from error


def read_object(folder, name: str) -> dict:
  """The JSON object of a file, {} where there is none."""
  text = read(folder, name)
  if text is None:
    return {}
  try:
    value = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise UserError(
      f"{Path(folder) / name} is not JSON ({error}); download it again"
    ) from error
  if not isinstance(value, dict):
    raise UserError(
      f"{Path(folder) / name} holds a {type(value).__name__}, expected an"
      " object"
    )
  return value


def read_tokenizer(folder) -> dict:
  """What `tokenizer.json` holds; UserError where there is none."""
  if not Path(os.path.expanduser(folder)).is_dir():
    raise UserError(f"no folder {folder}; give that of a downloaded model")
  found = read_object(folder, TOKENIZER)
  if found:
    return found
  folder = Path(os.path.expanduser(folder))
  others = [name for name in SENTENCEPIECE if (folder / name).exists()]
  made = f"; of its {others[0]} transformers makes one" if others else ""
  raise UserError(f"{folder} has no tokenizer: no {TOKENIZER} in it{made}")


def digest(folder) -> str:
  """Sixteen hex digits that say which tokenizer a folder has.

  Of what the file says, not of its spaces; the chat template is not in it.
  """
  said = json.dumps(read_tokenizer(folder), sort_keys=True)
  return hashlib.sha256(said.encode()).hexdigest()[:16]


def checked(folder: str, noted: str) -> str:
  """The digest of a folder's tokenizer, "" for the package's own.

  Raises UserError where another one was noted: ids would mean other words.
  """
  if not folder:
    if noted:
      raise UserError(
        f"config.text_digest is {noted} and config.text_folder is empty; name"
        " the folder of that tokenizer"
      )
    return ""
  found = digest(folder)
  if noted not in ("", found):
    raise UserError(
      f"{Path(folder) / TOKENIZER} is the tokenizer {found}, and this was made"
      f" with {noted}; set config.text_folder to a folder that has it"
    )
  return found


def copy(folder, out, rows: int) -> None:
  """Copies what a policy needs of a folder's text into another folder.

  Of an earlier copy nothing is left. rows: of the embedding; they and the ends
  are all that is said of the model.
  """
  found = {name: read(folder, name) for name in KEPT}  # it may be the same
  ends = read_object(folder, CONFIG).get("eos_token_id")
  model = {"vocab_size": rows} | (
    {} if ends is None else {"eos_token_id": ends}
  )
  found[CONFIG] = json.dumps(model) + "\n"
  remove(out)
  for name, said in found.items():
    if said is not None:
      (Path(out) / name).write_text(said, "utf-8")


def remove(out) -> None:
  """Removes what `copy` wrote into a folder, if it did."""
  if (Path(out) / TOKENIZER).exists():
    for name in KEPT:
      (Path(out) / name).unlink(missing_ok=True)


def embedding_rows(folder) -> int:
  """Rows of text of the folder's embedding, 0 where its config says none."""
  for name in MODELS:
    said = read_object(folder, name)
    inner = said.get("text_config")
    for part in (said, inner if isinstance(inner, dict) else {}):
      rows = part.get("vocab_size")
      if rows is not None:
        if not isinstance(rows, int) or rows < 1:
          raise UserError(
            f"{Path(folder) / name}: vocab_size is {rows!r}, expected a number"
            " of rows"
          )
        return rows
  return 0


def shown(said) -> str:
  """A stranger's words for a message: a line that steers no terminal."""
  seen = "".join(c if c.isprintable() else " " for c in str(said))
  return " ".join(seen.split())


def token_text(said) -> str | None:
  """In: "<s>" or {"content": "<s>", "lstrip": false}   Out: "<s>"."""
  text = said.get("content") if isinstance(said, dict) else said
  return text if isinstance(text, str) else None
