"""An answer: the words, the trace that led to them, and the maps it drew.

It prints as text, a notebook shows it as a picture, and `save` writes that
picture to a file.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np
from PIL import Image

from cooper_jax.errors import UserError
from cooper_jax.eval import trace
from cooper_jax.pictures import drawing
from cooper_jax.report import answer_files, answer_page
from cooper_jax.rollouts import response


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Answer:
  """What a model said to one question about one image.

  question: as it was asked; mode: of use, as "adaptive" or "depth".
  response: all that was said, in the markup of the data.
  drawn: the maps in the order drawn, square, as the model draws them.
  photo: u8 [H, W, 3], the image as it is shown.
  true: the answer of a scene's own question, None where it is not known.
  at_once: the answer without drawing, where that was asked as well.
  unknown_words: of the question, that no training text of the world has.
  notes: what a reader should know of the answer.
  path: the image's file, which `save` does not write over.
  """

  question: str
  mode: str
  response: str
  drawn: tuple[response.DrawnMap, ...]
  photo: np.ndarray
  true: str | None = None
  at_once: str | None = None
  unknown_words: tuple[str, ...] = ()
  notes: tuple[str, ...] = ()
  path: Path | None = None

  @functools.cached_property
  def parts(self) -> trace.Trace:
    """The response taken apart: turns, answer, and what is wrong with it."""
    return trace.read(self.response)

  @property
  def text(self) -> str:
    """The answer in words, "" where none was given."""
    return self.parts.answer or ""

  @property
  def trace(self) -> str:
    """The reasoning, a line a step; [1], [2] are the numbers of `places`."""
    lines = [line.strip() for line in trace.tell(self.response).splitlines()]
    return "\n".join(line for line in lines if not line.startswith("answer:"))

  @property
  def turns(self) -> tuple[response.Turn, ...]:
    """(thought, action, content) of each step; an action draws or answers."""
    return self.parts.turns

  @property
  def places(self) -> list[tuple[float, float]]:
    """(y, x) of each place that the trace names, as shares of the sides."""
    return trace.places(self.response)

  @functools.cached_property
  def maps(self) -> dict[str, np.ndarray]:
    """Map of each modality drawn [H, W, ...], pixel by pixel of the photo.

    The model draws small squares (`drawn`); here each pixel of the photo has
    the value of the nearest one, so nothing is blended across edges.
    """
    sides = self.photo.shape[:2]
    return {each.modality: fit(each.target, sides) for each in self.drawn}

  def picture(self) -> np.ndarray:
    """Question, photo, maps, trace and answer as one picture u8 [h, w, 3]."""
    strange = bool(self.notes)  # then maps are checked best over the photo
    return answer_page.page(
      self.photo,
      [(each.module, each.target) for each in self.drawn],
      self.places,
      self.question,
      self._lines(),
      over=strange,
    )

  def _lines(self) -> list[tuple[str, bool]]:
    """(line, whether it is an answer) below the picture."""
    lines = [(line, False) for line in self.trace.splitlines()]
    end = "answer"
    if self.at_once is not None:
      lines.insert(0, (f"at once: {self.at_once or '(nothing)'}", True))
      end = "after drawing" if self.drawn else end
    lines.append((f"{end}: {self.text or '(nothing)'}", True))
    if self.true:
      lines.append((f"true: {self.true}", True))
    if self.unknown_words:
      lines.append((unknown(self.unknown_words), False))
    return lines + [(f"note: {note}", False) for note in self.notes]

  def save(self, path) -> Path:
    """Writes `picture` as a PNG; UserError for another kind of path."""
    path = Path(path).expanduser()
    if path.suffix.lower() != ".png":
      raise UserError(f"{path}: the picture is a PNG; end its name in .png")
    try:
      if not path.parent.is_dir():
        raise UserError(f"{path} can't be written: no folder {path.parent}")
      answer_files.keep_off(path, self.path)
      Image.fromarray(self.picture()).save(path, format="PNG")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
      said = getattr(error, "strerror", None) or error
      raise UserError(f"{str(path)!r} can't be written: {said}") from error
    return path

  def _repr_png_(self) -> bytes:
    return drawing.png(self.picture())

  def __str__(self) -> str:
    return "\n".join([self.tell(), *(f"  note: {each}" for each in self.notes)])

  def tell(self) -> str:
    """The answer for a terminal, without its notes."""
    lines = [self.question]
    if self.unknown_words:
      lines.append(f"  {unknown(self.unknown_words)}")
    if self.at_once is not None:
      lines.append(f"  at once: {self.at_once or '(nothing)'}; after drawing:")
    lines.append(trace.tell(self.response))
    if self.true:
      lines.append(f"  true:   {self.true}")
    return "\n".join(lines)

  def __repr__(self) -> str:
    maps = ", ".join(each.modality for each in self.drawn) or "none"
    return f"Answer({self.text!r} to {self.question!r}, maps: {maps})"


def unknown(words) -> str:
  return f"note: unknown words: {', '.join(words)}"


def fit(target, sides) -> np.ndarray:
  """A map at other sides (height, width), each pixel the nearest one's."""
  target = np.asarray(target)
  rows, columns = (
    ((np.arange(side) + 0.5) * has / side).astype(int)
    for side, has in zip(sides, target.shape[:2], strict=True)
  )
  return np.ascontiguousarray(target[rows[:, None], columns])
