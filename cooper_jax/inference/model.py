"""A trained model as one object: asked in words, it answers and draws.

Each call runs on the first device under a mesh of the model's own, whether or
not the caller has set one. What is compiled stays so: a second question costs
no second start.
"""

import contextlib
import dataclasses
import types

import jax
import numpy as np
from ml_collections import ConfigDict

from cooper_jax import modalities
from cooper_jax.data import modes
from cooper_jax.errors import UserError, nearest
from cooper_jax.eval import trace
from cooper_jax.inference import answer, images, views, wording
from cooper_jax.inference.answer import Answer
from cooper_jax.inference.images import InputImage
from cooper_jax.policy import Policy
from cooper_jax.rollouts import generate
from cooper_jax.rollouts.prompts import Item, modes_of, trunk_of
from cooper_jax.runtime import compilation
from cooper_jax.sampling import prompts
from cooper_jax.tokenizers.map_tokenizer import Codec

MOST = 16  # questions that are answered in one call of the sampler
ROOMS_ONLY = "the model knows rendered rooms only, and takes this for one"
OWN_ONLY = "the model knows pictures like those of its training only"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Model:
  """A policy, its map tokenizers and their mesh; made by `load`.

  name: what it is, for people; config: that it was trained with.
  drawable: modalities whose tokenizer was trained.
  mesh: of the device that holds `params`.
  """

  name: str
  config: ConfigDict
  policy: Policy
  params: dict
  codecs: dict[str, Codec]
  drawable: tuple[str, ...]
  mesh: jax.sharding.Mesh

  @property
  def modes(self) -> list[str]:
    """How it can be asked: "adaptive" leaves to it whether it draws."""
    return modes_of(self.policy, self.config.sft.shares, self.drawable)

  def ask(
    self,
    image,
    question,
    *,
    mode="adaptive",
    batch: int | None = None,
    field_of_view: float | None = None,
  ):
    """Answers a question about an image; of a list, all, in one call.

    Args:
      image: a path, a PIL image, an array u8 [H, W, 3] or a `Sample`.
      question: a str for one `Answer`, a list of them for a list.
      mode: one of `modes`.
      batch: questions in one call of the sampler; default up to 16.
      field_of_view: degrees that the image is wide, for a model that is told
        the lens; None = as its sample or its EXIF says, else a middle one.

    Raises UserError, one line, for an image that can't be read, a question
    that is empty or too long, a mode that the model was not trained for, and a
    lens that it is not told.
    """
    single = isinstance(question, str)
    questions = [question] if single else wording.listed(question)
    wording.check(questions)
    if batch is not None and (type(batch) is not int or batch < 1):
      raise UserError(f"batch={batch!r}; give a number of questions, or None")
    self.check_mode(mode)
    read = self._read(image, field_of_view)
    found = self._answers(read, questions, mode, batch)
    return found[0] if single else found

  def draw(
    self, image, modality: str, *, field_of_view: float | None = None
  ) -> np.ndarray:
    """The map [H, W, ...] that it draws on request, pixel by pixel.

    Depth is f32 metres, classes are u8 ids (u16 of lists beyond 255). H, W are
    at most 2048: the image's own, of a model of `data.fit` = crop or pad those
    of the square that it makes of the image. The model draws a small square,
    and each pixel has its nearest value.
    """
    if modality not in self.drawable:
      raise UserError(
        f'no map "{modality}": this model draws'
        f" {', '.join(self.drawable) or 'none'}"
        f"{nearest(str(modality), self.drawable)}"
      )
    found = self._read(image, field_of_view)
    with self._running():
      (drawn,) = generate.draw(
        self.policy,
        self.params,
        [_sample(found)],
        modality,
        self.codecs[modality],
        batch=1,
        buckets=self.config.sampling.prompt_buckets,
      )
    return answer.fit(drawn, found.photo.shape[:2])

  def chat(self, image, *, field_of_view: float | None = None) -> "Chat":
    """A conversation about one image, which is read once."""
    return Chat(self, self._read(image, field_of_view))

  def check_mode(self, mode: str, where: str = "mode=") -> str:
    """Gives the mode; UserError where the model was not trained for it."""
    if mode not in self.modes:
      raise UserError(
        f"{where}{mode}: this model has {', '.join(self.modes)}"
        f"{nearest(str(mode), self.modes)}"
      )
    return mode

  def most_drawing(self) -> str:
    """The mode in which it draws the most maps."""
    held = self.modes
    wanted = (modes.BOTH, *modalities.names(), modes.ADAPTIVE)
    return next(mode for mode in wanted if mode in held)

  def _read(self, image, field_of_view: float | None = None) -> InputImage:
    views.check(field_of_view, self.config)
    data = self.config.data
    if not isinstance(image, InputImage):
      fit = data.get("fit", "squash")
      image = images.read(image, data.image_size, fit=fit)
    return views.told(image, field_of_view, self.config)

  @contextlib.contextmanager
  def _running(self):
    with jax.set_mesh(self.mesh), compilation.effort(quick=True):
      yield

  def _answers(self, image: InputImage, questions, mode, batch):
    if not questions:
      return []
    known = trace.world_words()
    texts = [trace.as_known(wording.as_written(q), known) for q in questions]
    items = [Item(_sample(image), types.SimpleNamespace(text=t)) for t in texts]
    with self._running():
      self._refuse_long(items)
      view = generate.respond(
        self.policy,
        self.params,
        items,
        mode,
        self.codecs,
        batch=batch or min(MOST, 1 << (len(items) - 1).bit_length()),
        buckets=self.config.sampling.prompt_buckets,
      )
    own = image.sample.questions if image.sample else ()
    true = {question.text: question.answer for question in own}
    notes = image.notes
    if image.sample is None:
      notes = (told_of(self.config.data.source), *notes)
    return [
      Answer(
        question=" ".join(question.split()),
        mode=mode,
        response=said,
        drawn=drawn,
        photo=image.photo,
        true=true.get(text),
        unknown_words=tuple(trace.unknown(text, known)),
        notes=notes,
        path=image.path,
      )
      for question, text, said, drawn in zip(
        questions, texts, view.text, view.maps, strict=True
      )
    ]

  def _refuse_long(self, items) -> None:
    """Raises UserError for a question longer than any of training."""
    buckets = self.config.sampling.prompt_buckets
    for number, item in enumerate(items, 1):
      try:
        prompts.bucket([trunk_of(item, self.policy)], self.policy.form, buckets)
      except UserError as error:
        raise UserError(
          f"question {number} is too long for this model; shorten it ({error})"
        ) from error

  def __repr__(self) -> str:
    return f"Model({self.name}, modes: {', '.join(self.modes)})"


class Chat:
  """Questions about one image, one after the other.

  Each is answered of the image alone: no model here was trained on what was
  said before. `answers` keeps what was.
  """

  def __init__(self, model: Model, image: InputImage):
    self.model, self.image = model, image
    self.answers: list[Answer] = []

  def ask(self, question: str, *, mode: str = "adaptive") -> Answer:
    """Answers one more question; as `Model.ask`."""
    found = self.model.ask(self.image, question, mode=mode)
    self.answers.append(found)
    return found


def _sample(image: InputImage):
  """What `generate` reads of a sample."""
  return types.SimpleNamespace(image=image.square, camera=image.camera)


def told_of(source: str) -> str:
  """What is said of a photograph to a model of these data sources."""
  return ROOMS_ONLY if source == "world" else OWN_ONLY
