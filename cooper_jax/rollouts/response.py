"""Rollouts as people and rewards see them: text with tags, maps as arrays.

The view is made once on the host and is read-only. Rewards that slice or write
into what they were given once made the paper's own exploration reward depend
on the order of the rewards; here it raises.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cooper_jax import plugins
from cooper_jax.models.token_kinds import CODE, FORCED, TEXT
from cooper_jax.sampling.grammar import EOS


class DrawnMap(NamedTuple):
  """One drawn map: its modality, its codes and the decoded target.

  set_up: the modality as the policy's run set it up; None = as it stands.
  """

  modality: str
  codes: np.ndarray
  target: np.ndarray
  set_up: Any = None

  @property
  def module(self):
    """What scores and shows it."""
    return self.set_up or plugins.find("modalities", self.modality)


class Turn(NamedTuple):
  """One `<think>..</think>` and what follows it: a map or the answer."""

  thought: str
  action: str  # modality name, or "answer"
  content: str  # of the answer; "" for a map


@dataclasses.dataclass(frozen=True)
class Responses:
  """R rollouts on the host. Sequences are tuples, arrays not writeable."""

  text: tuple[str, ...]  # markup as in the data: tags, `<depth>`, `<at y x>`
  maps: tuple[tuple[DrawnMap, ...], ...]
  truncated: np.ndarray  # bool [R]: stopped by a budget, not by <eos>
  group: np.ndarray  # [R]
  sample_id: np.ndarray  # [R]
  text_tokens: np.ndarray  # [R] sampled tokens, codes and forced ones aside
  code_tokens: np.ndarray  # [R]

  def __len__(self) -> int:
    return len(self.text)

  def __post_init__(self):
    object.__setattr__(self, "text", tuple(self.text))
    frozen = tuple(
      tuple(
        m._replace(codes=read_only(m.codes), target=read_only(m.target))
        for m in maps
      )
      for maps in self.maps
    )
    object.__setattr__(self, "maps", frozen)
    for field in dataclasses.fields(self)[2:]:
      array = read_only(getattr(self, field.name))
      object.__setattr__(self, field.name, array)
      if len(array) != len(self.text):
        raise ValueError(f"{field.name} has {len(array)} of {len(self)} rows")

  @classmethod
  def from_texts(cls, text: Sequence[str], *, group=None, maps=None, **fields):
    """A view of responses that were not sampled here: imported or written."""
    rows = len(text)
    zeros = np.zeros(rows, np.int32)
    defaults = {
      "truncated": np.zeros(rows, bool),
      "sample_id": np.arange(rows),
      "text_tokens": np.array([len(t.split()) for t in text], np.int32),
      "code_tokens": zeros,
    }
    group = zeros if group is None else group
    maps = ((),) * rows if maps is None else maps
    return cls(text=text, maps=maps, group=group, **(defaults | fields))

  @classmethod
  def from_rollout(
    cls,
    rollout,
    *,
    vocabulary,
    text_tokenizer,
    decode_maps: Callable[[str, np.ndarray], np.ndarray],
    group=None,
    sample_id=None,
    modalities: Mapping[int, str] | None = None,
    set_up: Mapping[str, Any] | None = None,
    grids: Sequence[tuple[int, int]] = (),
  ) -> "Responses":
    """Reads a rollout that was fetched to the host (numpy arrays).

    group and sample_id [R] are the rollout's own where they are not given.
    decode_maps(modality, codes [n, Q]) -> targets [n, ...]; maps of one
    modality are decoded in one call. `modalities` maps MODALITY_ID to
    name and is every modality there is by default, `set_up` has those that
    are not as they stand by name. grids: (rows, columns) of image cells by
    shape (`VisionConfig.grids`); () = a square.
    """
    if modalities is None:
      modalities = _modalities()
    state, shape = np.asarray(rollout.state), rollout.image_shape
    grids = grids or ((max(1, math.isqrt(vocabulary.locations)),) * 2,)
    shape = np.zeros(len(state), int) if shape is None else np.asarray(shape)
    return cls(
      text=tuple(
        _read(*row, grids[index], vocabulary, text_tokenizer, modalities)
        for *row, index in zip(np.asarray(rollout.tokens), state, shape)
      ),
      maps=_maps(rollout, decode_maps, modalities, set_up or {}),
      truncated=np.asarray(rollout.stop) != EOS,
      group=rollout.group if group is None else group,
      sample_id=rollout.sample_id if sample_id is None else sample_id,
      text_tokens=(state == TEXT).sum(1),
      code_tokens=(state == CODE).sum(1),
    )


def read_only(array) -> np.ndarray:
  """A view of the array that can not be written through."""
  array = np.asarray(array).view()
  array.flags.writeable = False
  return array


def freeze(value):
  """Lists as tuples and arrays read-only, at any depth."""
  if isinstance(value, np.ndarray):
    return read_only(value)
  if isinstance(value, list | tuple):
    return tuple(freeze(item) for item in value)
  return value


_THINK = r"\s*<think>((?:(?!</?think>|</?answer>).)*)</think>\s*"
_TURN = re.compile(
  _THINK + r"(?:<answer>((?:(?!</?think>|</?answer>).)*)</answer>|"
  r"<(?!/|at\b|think>|answer>)([a-z_]+)[^<>]*>)",
  re.DOTALL,
)


def turns(text: str) -> tuple[list[Turn], str]:
  """(well-formed turns from the start on, the rest that is none)."""
  found, end = [], 0
  while match := _TURN.match(text, end):
    thought, answer, modality = match.groups()
    action = "answer" if modality is None else modality
    found.append(Turn(thought.strip(), action, (answer or "").strip()))
    end = match.end()
  return found, text[end:].strip()


def _modalities() -> dict[int, str]:
  names = plugins.names("modalities")
  return {plugins.find("modalities", name).MODALITY_ID: name for name in names}


def _maps(rollout, decode_maps, modalities, set_up):
  modality_RM = np.asarray(rollout.map_modality)
  codes_RMQ = np.asarray(rollout.codes)
  targets = {}
  for modality_id in np.unique(modality_RM[modality_RM >= 0]):
    rows, columns = np.nonzero(modality_RM == modality_id)
    codes_nQ = codes_RMQ[rows, columns]
    decoded = np.asarray(decode_maps(modalities[int(modality_id)], codes_nQ))
    targets |= dict(zip(zip(rows.tolist(), columns.tolist()), decoded))
  return tuple(
    tuple(
      DrawnMap(
        modalities[int(modality_id)],
        codes_RMQ[row, k],
        targets[row, k],
        set_up.get(modalities[int(modality_id)]),
      )
      for k, modality_id in enumerate(modality_ids)
      if modality_id >= 0
    )
    for row, modality_ids in enumerate(modality_RM)
  )


def _read(tokens, states, grid, vocabulary, text_tokenizer, modalities) -> str:
  """The response in the markup of the data, codes and closing tags left out.

  A tag counts only as its own token: a `<` that was spelt out in letters is
  written `&lt;`, so that no map or answer can be faked by writing its tag.
  """
  pieces, run = [], []

  def flush():
    if run:
      pieces.append(text_tokenizer.decode(run).replace("<", "&lt;"))
      run.clear()

  openings = {vocabulary.opening(s): name for s, name in modalities.items()}
  closings = {vocabulary.closing(s) for s in modalities}
  names = ("<think>", "</think>", "<answer>", "</answer>", "<image>")
  tags = {vocabulary.special(name): name for name in names}
  end = vocabulary.special("<eos>")
  for place, (token, state) in enumerate(zip(tokens.tolist(), states.tolist())):
    if state not in (TEXT, FORCED) or token in closings:
      continue
    if place == 0 and state == FORCED:
      continue  # the prompt's last token, which the sampler feeds first
    if token < vocabulary.text:
      run.append(token)
      continue
    flush()
    if token == end:
      break
    if token in openings:
      pieces.append(f"<{openings[token]}>")
    elif token in tags:
      pieces.append(tags[token])
    elif vocabulary.locations_start <= token < vocabulary.codes_start:
      row, column = divmod(token - vocabulary.locations_start, grid[1])
      y, x = (row + 0.5) / grid[0], (column + 0.5) / grid[1]
      pieces.append(f"<at {y:.3f} {x:.3f}>")
    else:
      pieces.append(f"<special {token - vocabulary.specials}>")
  flush()
  return " ".join(" ".join(pieces).split())
