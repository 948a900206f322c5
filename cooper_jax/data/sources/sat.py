"""Source "sat": SAT, spatial questions about rooms of a simulator.

Parquet files with `image_bytes`, a list; `question`, `answers`, and the right
one as text (`correct_answer`) or by its place (`correct_answer_idx`). Read are
the questions about one image; those about two are left out, and said.
"""

import dataclasses
import re
from pathlib import Path

from cooper_jax.data import columns, data_sets, folders, parquet_files
from cooper_jax.data.columns import HELD
from cooper_jax.data.folders import Listed
from cooper_jax.data.line_maps import PLAIN
from cooper_jax.errors import UserError

_IMAGES, _TEXT, _PLACE = "image_bytes", "correct_answer", "correct_answer_idx"


@dataclasses.dataclass(frozen=True)
class Config:
  """Where the data set lies."""

  root: str = ""  # folder of SAT_train.parquet and the others


def samples(root: Path, own: Config) -> list[Listed]:
  """Every question about one image."""
  del own
  found, total = [], 0
  for path in folders.files(root, ".parquet"):
    rows = list(_readable(root, path))
    total += len(rows)
    found += [one for one in rows if one is not None]
  if total > len(found):
    data_sets.say(
      f"note: sat: {total - len(found):,} of {total:,} questions are about"
      " several images and left out"
    )
  return found


def _readable(root: Path, path: str):
  """Yields the samples of a file, None for one of several images.

  A file that can't be read, or from some row on, is one bad sample.
  """
  try:
    yield from _rows(root, path)
  except parquet_files.Unreadable as error:
    yield Listed(path, path, problem=str(error), split=data_sets.split_in(path))


def _rows(root: Path, path: str):
  where, file = f"sat: {path}", root / path
  split = data_sets.split_in(path)
  there = parquet_files.names(file, where)
  right = next((name for name in (_TEXT, _PLACE) if name in there), _TEXT)
  needed = ("question", "answers", right)
  for name in (_IMAGES, *needed):
    if name not in there:
      raise UserError(
        f"{where} has no column {name!r}; it has {', '.join(there)}"
      )
  kinds = ["question_type"] if "question_type" in there else []
  told = parquet_files.rows(file, [*needed, *kinds], where)
  images = parquet_files.lengths(file, _IMAGES, where)
  for row, (values, count) in enumerate(zip(told, images, strict=True)):
    if count > 1:
      yield None
      continue
    answers, answer = values["answers"] or [], values[right]
    if (
      right == _PLACE and isinstance(answer, int) and 0 <= answer < len(answers)
    ):
      answer = answers[answer]
    one = columns.listed(
      f"{path}:{row}",
      {
        "image": HELD,
        "question": values["question"],
        "answer": answer,
        "options": answers,
      },
      path=path,
      row=row,
      root=root,
      columns={"image": _IMAGES},
      usual=PLAIN,
      cell=parquet_files.cell,
      split=split,
      source="sat",
    )
    family = re.sub(
      r"\W+", "_", f"sat_{values.get('question_type') or 'asked'}"
    )
    asked = [dataclasses.replace(q, family=family) for q in one.questions]
    yield dataclasses.replace(one, questions=tuple(asked))


DATA = data_sets.DataSet(
  "sat",
  download="huggingface.co/datasets/array/SAT, MIT",
  layout="SAT_train.parquet, SAT_val.parquet, SAT_static.parquet with"
  " image_bytes, question, answers and correct_answer",
  samples=samples,
)
asked, check, source, survey = DATA.asked, DATA.check, DATA.source, DATA.survey
