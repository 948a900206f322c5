"""The one unified vocabulary: text, specials, locations, map codes.

Every token of the model is one integer, and the four kinds are four row ranges
`text [0, V) | 64 specials | J locations | C codes`, so that a softmax over a
kind is a slice of the head.  All modalities share the C codes: the special
token that opens a map says which one it is.  A modality therefore costs two
reserved specials, those of its MODALITY_ID, and no row of any table moves.
"""

import dataclasses
import functools

from cooper_jax import plugins
from cooper_jax.errors import UserError

SPECIALS = 64
RESERVED_SPECIALS = 16  # specials below this are not a modality's
MAX_MODALITIES = (SPECIALS - RESERVED_SPECIALS) // 2
SPECIAL_NAMES = (
  "<pad>",
  "<bos>",
  "<eos>",
  "<image>",
  "<user>",
  "<assistant>",
  "<think>",
  "</think>",
  "<answer>",
  "</answer>",
)


def assign_modality_ids(modalities: dict[str, object]) -> dict[str, int]:
  """MODALITY_ID of each modality, from name -> module.

  Raises UserError where a MODALITY_ID is missing, out of range or taken twice.
  """
  taken: dict[int, str] = {}
  for name in sorted(modalities):
    modality_id = getattr(modalities[name], "MODALITY_ID", None)
    if (
      not isinstance(modality_id, int) or not 0 <= modality_id < MAX_MODALITIES
    ):
      raise UserError(
        f"modality {name!r} has MODALITY_ID {modality_id!r}; allowed are the"
        f" free numbers in 0..{MAX_MODALITIES - 1}"
      )
    if modality_id in taken:
      free = next(s for s in range(MAX_MODALITIES) if s not in taken)
      raise UserError(
        f"modalities {taken[modality_id]!r} and {name!r} both have"
        f" MODALITY_ID {modality_id}; "
        f"give one of them another, e.g. {free} (0..{MAX_MODALITIES - 1} exist)"
      )
    taken[modality_id] = name
  return {name: modality_id for modality_id, name in taken.items()}


@functools.cache
def modality_ids() -> dict[str, int]:
  """MODALITY_ID of every modality there is, found by file name."""
  names = plugins.names("modalities")
  return assign_modality_ids({n: plugins.find("modalities", n) for n in names})


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """Rows of the token table: from sizes, the first id of each kind, and names.

  words: tokens that the text tokenizer has, where `text` rows are more, as in
  released models; nobody may choose the rest. 0: as many. absent: ids below
  that which no token has, if there are any.
  """

  text: int
  locations: int
  codes: int
  words: int = 0
  absent: tuple[int, ...] = ()

  @property
  def specials(self) -> int:
    """The first special's id."""
    return self.text

  @property
  def locations_start(self) -> int:
    return self.text + SPECIALS

  @property
  def codes_start(self) -> int:
    return self.text_rows

  @property
  def text_rows(self) -> int:
    """Rows that a text position may choose among: all but the codes."""
    return self.text + SPECIALS + self.locations

  @property
  def size(self) -> int:
    return self.text_rows + self.codes

  def opening(self, modality_id: int) -> int:
    """Token that opens a map of this modality."""
    return self.specials + RESERVED_SPECIALS + 2 * _checked(modality_id)

  def closing(self, modality_id: int) -> int:
    """Token that closes a map of this modality."""
    return self.opening(modality_id) + 1

  def modality_id(self, token: int) -> int | None:
    """The modality whose map this token opens, None for others."""
    offset = token - self.specials - RESERVED_SPECIALS
    opens = 0 <= offset < 2 * MAX_MODALITIES and offset % 2 == 0
    return offset // 2 if opens else None

  def special(self, name: str) -> int:
    """Id of `<think>`, or of a modality's `<depth>` or `</depth>`."""
    if name in SPECIAL_NAMES:
      return self.specials + SPECIAL_NAMES.index(name)
    modality, closes = name.strip("</>"), name.startswith("</")
    if modality not in modality_ids():
      modality_ids.cache_clear()  # its folder may have been added since
    modality_id = modality_ids().get(modality)
    if modality_id is None or name != _tag(modality, closes):
      known = (
        *SPECIAL_NAMES,
        *(_tag(m, False) for m in sorted(modality_ids())),
      )
      raise UserError(f"no special token {name!r}; there are {' '.join(known)}")
    return self.closing(modality_id) if closes else self.opening(modality_id)

  def location(self, cell: int) -> int:
    """Id of the token that names image cell `cell` (row-major)."""
    return self._row("location", cell, self.locations, self.locations_start)

  def code(self, code: int) -> int:
    """Id of map code `code` in 0..C-1."""
    return self._row("code", code, self.codes, self.codes_start)

  def kind(self, token: int) -> str:
    """One of `text`, `special`, `location`, `code`."""
    if not 0 <= token < self.size:
      raise UserError(f"token {token} is outside the vocabulary 0..{self.size}")
    starts = (self.text, self.locations_start, self.codes_start, self.size)
    kinds = ("text", "special", "location", "code")
    return kinds[next(i for i, end in enumerate(starts) if token < end)]

  def name(self, token: int) -> str:
    """What people read for a token that is not text: `<depth>`, `<at 12>`."""
    kind = self.kind(token)
    if kind == "text":
      return f"<text {token}>"
    if kind == "location":
      return f"<at {token - self.locations_start}>"
    if kind == "code":
      return f"<code {token - self.codes_start}>"
    offset = token - self.specials
    if offset < len(SPECIAL_NAMES):
      return SPECIAL_NAMES[offset]
    for modality, modality_id in modality_ids().items():
      if token in (self.opening(modality_id), self.closing(modality_id)):
        return _tag(modality, token == self.closing(modality_id))
    return f"<special {offset}>"

  def _row(self, kind: str, index: int, count: int, start: int) -> int:
    if not 0 <= index < count:
      raise UserError(f"{kind} {index} is outside 0..{count - 1}")
    return start + index


def _tag(name: str, closes: bool) -> str:
  return f"</{name}>" if closes else f"<{name}>"


def _checked(modality_id: int) -> int:
  if not 0 <= modality_id < MAX_MODALITIES:
    raise UserError(
      f"modality id {modality_id} is outside 0..{MAX_MODALITIES - 1}"
    )
  return modality_id
