"""Messages as the text that a downloaded model was trained on: its template.

A chat template is a program in Jinja's language, written by whoever made the
folder. It runs in Jinja's sandbox: it sees the messages and the names of the
special tokens, can change neither, and reaches nothing of Python. The language
has what `transformers` gives it (`apply_chat_template`): blocks are trimmed,
loops have break and continue, there are `raise_exception`, `strftime_now`,
`tojson` without escapes, and `{% generation %}`.
"""

import datetime
import json
from collections.abc import Sequence
from pathlib import Path

import jinja2
from jinja2 import ext, nodes, sandbox

from cooper_jax.errors import UserError
from cooper_jax.tokenizers import text_files

LONGEST = 10_000_000  # characters of a text; a template could go on for ever
NAMED = (
  "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token",
  "mask_token",
)  # fmt: skip


class _Generation(ext.Extension):
  """`{% generation %}` marks what the model said; its text is as it stands."""

  tags = frozenset(["generation"])

  def parse(self, parser):
    line = next(parser.stream).lineno
    body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
    return nodes.Scope(body, lineno=line)


class _Sandbox(sandbox.ImmutableSandboxedEnvironment):
  """Jinja's own, which says so where a template reaches for Python's inside.

  Jinja itself would print nothing in its place. And `'a' * 10**11` is refused
  before it takes memory, here and when the template is compiled.
  """

  intercepted_binops = frozenset("*")

  def call_binop(self, context, operator, left, right):
    for said, times in ((left, right), (right, left)):
      many = isinstance(said, (str, list, tuple)) and isinstance(times, int)
      if many and len(said) * times > LONGEST:
        raise jinja2.TemplateRuntimeError(f"{times:,} times a text")
    return super().call_binop(context, operator, left, right)

  def unsafe_undefined(self, obj, attribute):
    raise jinja2.exceptions.SecurityError(
      f"access to {attribute!r} of a {type(obj).__name__} is unsafe"
    )


class ChatTemplate:
  """A folder's template, compiled.

  names: special tokens, as `eos_token`, that it may write. whose: what errors
  call it.
  """

  def __init__(self, source: str, names: dict[str, str], whose: str):
    self._names, self._whose = names, whose
    try:
      self._template = _environment().from_string(source)
    except (jinja2.TemplateError, RecursionError, MemoryError) as error:
      raise UserError(
        f"{whose}: its chat template is not one ({_line(error)})"
      ) from error

  @classmethod
  def load(cls, folder) -> "ChatTemplate":
    """Reads the template of a folder; UserError where there is none."""
    folder = Path(folder).expanduser()
    settings = text_files.read_object(folder, text_files.SETTINGS)
    source = find(folder, settings)
    if source is None:
      raise UserError(
        f"{folder} has no chat template (chat_template.jinja, or chat_template"
        f" in {text_files.SETTINGS}); take the model's chat or instruct folder"
      )
    others = text_files.read_object(folder, "special_tokens_map.json")
    found = {
      name: text_files.token_text(settings.get(name, others.get(name)))
      for name in NAMED
    }
    extra = settings.get("extra_special_tokens")
    if isinstance(extra, dict):
      found |= {name: text_files.token_text(t) for name, t in extra.items()}
    found = {name: text for name, text in found.items() if text is not None}
    return cls(source, found, str(folder))

  def chat(
    self, messages: Sequence[dict], *, answer: bool = True, **more
  ) -> str:
    """The text of messages, each {"role": .., "content": ..}.

    answer: whether the opening of the model's answer stands at the end. more:
    what else the template asks for, as `tools` or `enable_thinking`. Raises
    UserError with what the template says is wrong, or did.
    """
    given = {"tools": None, "documents": None} | self._names | more
    pieces, length = [], 0
    try:
      for piece in self._template.generate(
        messages=list(messages), add_generation_prompt=answer, **given
      ):
        pieces.append(piece)
        length += len(piece)
        if length > LONGEST:
          raise UserError(
            f"{self._whose}: its chat template writes more than {LONGEST:,}"
            " characters; give fewer messages"
          )
    except jinja2.exceptions.SecurityError as error:
      raise UserError(
        f"{self._whose}: its chat template tries to leave its sandbox"
        f" ({_line(error)}); don't trust this folder"
      ) from error
    except UserError:
      raise
    except MemoryError as error:
      raise UserError(
        f"{self._whose}: its chat template takes more memory than there is;"
        " give fewer messages, or take another folder"
      ) from error
    except Exception as error:  # whatever the template does with the messages
      raise UserError(
        f"{self._whose}: its chat template refuses these messages"
        f" ({_line(error)})"
      ) from error
    return "".join(pieces)


def find(folder, settings: dict) -> str | None:
  """The default template of a folder, in the order in which files count."""
  alone = text_files.read(folder, "chat_template.jinja")
  if alone is not None:
    return alone
  of_processor = text_files.read_object(folder, "chat_template.json")
  for said in (settings, of_processor):
    source = said.get("chat_template")
    if isinstance(source, list):  # several, each with its name
      named = {t.get("name"): t for t in source if isinstance(t, dict)}
      source = named.get("default", {}).get("template")
    if isinstance(source, str):
      return source
  return None


def _environment() -> _Sandbox:
  made = _Sandbox(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[_Generation, ext.loopcontrols],
  )
  made.filters["tojson"] = _to_json
  made.globals["raise_exception"] = _raise
  made.globals["strftime_now"] = _now
  return made


def _to_json(
  value, ensure_ascii=False, indent=None, separators=None, sort_keys=False
) -> str:
  """Jinja's own would escape `<` and `&`."""
  return json.dumps(
    value,
    ensure_ascii=ensure_ascii,
    indent=indent,
    separators=separators,
    sort_keys=sort_keys,
  )


def _raise(message):
  raise jinja2.TemplateError(message)


def _now(form: str) -> str:
  return datetime.datetime.now().strftime(form)


def _line(error: Exception) -> str:
  return text_files.shown(f"{type(error).__name__}: {error}")
