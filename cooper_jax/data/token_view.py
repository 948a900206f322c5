"""Tokens of a question and of its trace, and which of them carry loss.

What SFT makes of a question with all its maps, in the packaged text tokenizer:
the request is read and not learned, the response is. Weights of single words
are those of a run and are not shown.
"""

import functools
from typing import NamedTuple

import numpy as np

from cooper_jax import modalities
from cooper_jax.data import traces
from cooper_jax.models.config import ModelConfig, VisionConfig
from cooper_jax.sample import Question
from cooper_jax.sequences import segments
from cooper_jax.sequences.markup import MarkupEncoder
from cooper_jax.tokenizers.text import TextTokenizer
from cooper_jax.tokenizers.vocab import Vocabulary

SIDE = 64  # pixels of the image whose cells location tokens name


class ShownToken(NamedTuple):
  """A token as people read it, and whether it is learned."""

  text: str
  learned: bool


def of_question(question: Question, maps) -> list[ShownToken]:
  """The tokens of a question and of the whole response to it.

  maps: modalities that the sample has; those that the question needs are drawn.
  Raises UserError where a trace can't be read.
  """
  encoder = _encoder()
  drawn = tuple(name for name in question.needs if name in maps)
  markup = traces.compose(question, drawn if question.reasoning else None)
  request = encoder.request(question.text)
  response = encoder.response(
    markup,
    lambda name, _: segments.Map(
      encoder.modality_ids[name], np.zeros(0, np.int64)
    ),
  )
  return [each for part in (request, *response) for each in _shown(part)]


def _shown(part) -> list[ShownToken]:
  encoder = _encoder()
  vocabulary = encoder.form.vocabulary
  if isinstance(part, segments.Map):
    opening = vocabulary.name(vocabulary.opening(part.modality_id))
    cells = encoder.form.model.map_codes
    return [ShownToken(f"{opening} {cells} codes", part.learn)]
  learned = np.broadcast_to(part.learn, len(part.ids))
  learned = learned & (np.broadcast_to(part.weight, len(part.ids)) > 0)
  return [
    ShownToken(
      encoder.text.decode([token])
      if vocabulary.kind(token) == "text"
      else vocabulary.name(token),
      bool(each),
    )
    for token, each in zip(part.ids.tolist(), learned, strict=True)
  ]


@functools.cache
def _encoder() -> MarkupEncoder:
  text = TextTokenizer.load()
  model = ModelConfig(
    text=text.rows,
    codes=1,
    vision=VisionConfig(SIDE),
    attention="xla",
    unroll=False,
  )
  names = [(n, m.MODALITY_ID) for n, m in modalities.found().items()]
  vocabulary = Vocabulary(text.rows, model.locations, 1, text.size, text.absent)
  form = segments.Format(vocabulary, model, tuple(i for _, i in names))
  return MarkupEncoder(form, text, tuple(names))
