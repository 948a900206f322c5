"""Markup of samples: the documents of each stage, and what is in the loss.

The image is the trunk of a document; every request about it is a branch that
shares the image's cells: its maps, its grounding tasks and its questions.
"""

import dataclasses
import functools
import re

import numpy as np

from cooper_jax.sequences import lens
from cooper_jax.sequences.segments import Format, Text
from cooper_jax.tokenizers.text import TextTokenizer

_TAG = re.compile(r"(<[^<>]*>)")
_AT = re.compile(r"<at (\S+) (\S+)>")
_MAP = re.compile(r"<([a-z_]+)( corrupted| counterfactual| id=\d+)?>")


@dataclasses.dataclass(frozen=True)
class MarkupEncoder:
  """Turns text and markup into segments of one format."""

  form: Format
  text: TextTokenizer
  modalities: tuple[tuple[str, int], ...]  # (name, MODALITY_ID)
  tell_lens: bool = False  # whether requests begin with the lens

  @functools.cached_property
  def modality_ids(self) -> dict[str, int]:
    return dict(self.modalities)

  def cell(self, y: float, x: float, shape: int = 0) -> int:
    """The cell at fractions y, x of the height and width of a shape's image."""
    grid = self.form.model.vision.grids[shape]
    row, column = (
      min(max(int(at * side), 0), side - 1)
      for at, side in zip((y, x), grid, strict=True)
    )
    return row * grid[1] + column

  def request(self, text: str, sample=None) -> Text:
    """`<user> text <assistant>`, read and not learned.

    sample: what is asked about, None = of unknown origin. Where this encoder
    tells the lens, the text begins with its.
    """
    begin = ""
    if self.tell_lens and sample is not None:
      begin = lens.told(sample.camera, self.form.model.vision.image_size)
    return self._request(text, begin)

  def longest_request(self, text: str) -> Text:
    """The request about whatever sample it is longest of."""
    return self._request(text, lens.LONGEST_LENS if self.tell_lens else "")

  def _request(self, text: str, begin: str) -> Text:
    vocabulary = self.form.vocabulary
    text = f"{begin} {text.strip()}".strip()
    ids = [
      vocabulary.special("<user>"),
      *self.text.encode(" " + text),
      vocabulary.special("<assistant>"),
    ]
    return Text(np.array(ids), learn=False)

  def response(
    self, markup: str, draw, *, weights=None, kind_of=None, shape=0
  ) -> list:
    """Segments of a response in markup, ending with `<eos>`.

    Args:
      markup: words, `<at y x>`, maps and tags (see data/traces.py).
      draw: draw(modality, option) -> segments.Map for `<depth>`,
        `<depth corrupted>`, `<segmentation id=3>`; option "", "corrupted",
        "counterfactual", "id=3".
      weights: loss weight of {"text", "name", "location", "reading",
        "answer"}, 1 where missing; a thought's first token: see `decision`.
      kind_of: word -> the key of its weight; None = "text" for every word.
      shape: of the image that it is about, see `segments.shape_of`.
    """
    vocabulary = self.form.vocabulary
    weights = weights or {}
    segments, ids, weight = [], [], []
    answering = False
    think, deciding = vocabulary.special("<think>"), decision(weights)

    def put(more, kind):
      decides = bool(ids) and ids[-1] == think
      kind = "answer" if answering and kind != "location" else kind
      each = [weights.get(kind, 1.0)] * len(more)
      weight.extend([deciding, *each[1:]] if decides and more else each)
      ids.extend(more)

    def flush():
      if ids:
        segments.append(
          Text(np.array(ids), weight=np.array(weight, np.float32))
        )
        ids.clear()
        weight.clear()

    for piece in _TAG.split(markup):
      at, drawn = _AT.fullmatch(piece), _MAP.fullmatch(piece)
      if at:
        cell = self.cell(float(at[1]), float(at[2]), shape)
        put([vocabulary.location(cell)], "location")
      elif drawn and drawn[1] in self.modality_ids:
        flush()
        segments.append(draw(drawn[1], (drawn[2] or "").strip()))
      elif _TAG.fullmatch(piece):
        # All tags weigh the same: the first one chooses the mode of use, and
        # a heavier <answer> would be chosen more often than the data has it.
        answering = False
        put([vocabulary.special(piece)], "text")
        answering = piece == "<answer>"
      elif piece.strip():
        for word in piece.split():
          kind = kind_of(word) if kind_of else "text"
          put(self.text.encode(" " + word), kind)
    put([vocabulary.special("<eos>")], "text")
    flush()
    return segments


def request_of(title: str) -> str:
  """The request for a map, by its modality's TITLE."""
  return f"Draw the {title.lower()} ."


def decision(weights) -> float:
  """Loss weight of a thought's first token, whatever it is.

  It decides whether a map is drawn: a call ("measure") that weighed less than
  the names and places which begin other thoughts would be learned as rarer
  than it is shown. It has the largest of their weights, so that nothing that
  is read there is learned less.
  """
  kinds = ("text", "name", "location", "reading")
  return max(weights.get(kind, 1.0) for kind in kinds)
