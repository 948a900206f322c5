r"""Source "spar": SPAR-7M, spatial questions about scanned and built rooms.

Lines are conversations about images below the data set's `images/`, and say
where coloured marks are to be drawn, in thousandths of the sides: points and
boxes 20 pixels wide, as the authors' loader draws them. `select` gives a letter
of the options in the question, `fill` a number or a word, `sentence` text. Read
are the questions about one image; of SPAR-7M-RGBD its depth too, millimetres.
"""

import collections
import dataclasses
import functools
import json
import re
from pathlib import Path

from PIL import Image, ImageDraw

from cooper_jax.data import (
  conversations,
  data_sets,
  folders,
  own_questions,
  picture_files,
  pictures,
  records,
)
from cooper_jax.data.folders import Listed, MapPath
from cooper_jax.errors import UserError
from cooper_jax.grading import numerals

FORMS = ("fill", "select", "sentence")
COLOURS = ("red", "blue", "green", "yellow")
# Tasks whose pictures have no marks, whatever their lines say.
UNMARKED = ("distance_infer_center_oc", "view_change_infer")
RADIUS, STROKE = 20, 20  # pixels of a point, of the line of a box
# Kinds of tasks: what the names of the loader's tasks begin with. A number that
# fills the blank of the first is in metres, as their questions end ("The unit
# is meter"); of the others none is a length: words, counts, places, the three
# sides of a box, an area.
LENGTHS = ("depth_prediction", "distance_prediction")
OTHERS = (
  "obj_spatial_relation", "distance_infer_center", "spatial_volume_infer",
  "spatial_imagination", "position_matching", "view_change_infer",
  "camera_motion_infer", "obj_frame_locate", "appearance_order", "room_size",
  "obj_count", "nav",
)  # fmt: skip
_OPTION = re.compile(r"^\s*\(?([A-Z])[.):]\s*(.+?)\s*$", re.MULTILINE)
_METRE = r"met(?:er|re)s?\b"
# Metres that say a unit: not "within 3 meters", nor "square meters".
_METRES = re.compile(rf"(\d\s*-?\s*|\b(?:square|cubic)\s+)?\b{_METRE}", re.I)
_COUNT = re.compile(
  rf"\b(?:how many|number of) (?!{_METRE})|\bcount(?:s|ed|ing)?\b", re.I
)


@dataclasses.dataclass(frozen=True)
class Config:
  """Where the data set lies, and which of its seven million lines are read."""

  root: str = ""  # the folder spar/, of scannet, scannetpp, structured3d
  tasks: tuple[str, ...] = ()  # folders of tasks: depth_prediction_oo; () = all
  forms: tuple[str, ...] = ("fill", "select")  # fill | select | sentence

  def __post_init__(self):
    for form in self.forms:
      if form not in FORMS:
        raise UserError(f"forms has {form!r}; allowed: {', '.join(FORMS)}")


def samples(root: Path, own: Config) -> list[Listed]:
  """Every line about one image of the tasks and forms."""
  found, several = [], 0
  for path in folders.files(root, ".jsonl"):
    parts = path.split("/")
    if len(parts) < 5 or parts[-5] != "qa_jsonl" or parts[-2] not in own.forms:
      continue
    if own.tasks and parts[-3] not in own.tasks:
      continue
    images = "/".join([*parts[:-5], "images"])
    split = data_sets.split_in(parts[-4])
    with (root / path).open("rb") as file:
      for number, raw in enumerate(file, 1):
        if not raw.strip():
          continue
        name = f"{path}:{number}"
        try:
          with folders.reading(f"spar: {name}"):
            one = _line(root, images, path, name, raw)
        except UserError as error:
          one = Listed(name, path, problem=str(error), split=split)
        several += one is None
        found += [one] if one else []
  if several:
    data_sets.say(
      f"note: spar: {several:,} of {several + len(found):,} questions are"
      " about several images and left out"
    )
  return found


def _line(root, images, path, name, raw: bytes) -> Listed | None:
  """A line as a sample; None where it has several images."""
  where = f"spar: {name}"
  try:
    record = json.loads(raw)
    shown = record["image"]
    shown = [shown] if isinstance(shown, str) else list(shown)
    if len(shown) > 1:
      return None
    line = {"image": shown[0], "conversations": record["conversations"]}
    (asked,) = conversations.expand(line, records.keys())
  except (ValueError, KeyError, TypeError, IndexError) as error:
    said = picture_files.reason(error)
    raise UserError(f"{where}: the line is not SPAR's: {said}") from error
  part, task, form = path.split("/")[-4:-1]
  kind = record.get("type")
  kind = kind if isinstance(kind, str) and kind else task
  question, problems = own_questions.make(_asked(asked, form, kind))
  if question is None:
    raise UserError(f"{where}: {problems[0]}")
  family = re.sub(r"\W+", "_", f"spar_{task}_{form}_{question.answer_type}")
  marks = () if kind in UNMARKED else _marks(record, where)
  depth = record.get("depth") or ()
  depth = [depth] if isinstance(depth, str) else list(depth)
  maps = {}
  if len(depth) == 1 and (root / images / str(depth[0])).is_file():
    maps["depth"] = MapPath(f"{images}/{depth[0]}", 1000.0)
  return Listed(
    name,
    f"{images}/{shown[0]}",
    maps,
    split=data_sets.split_in(part),
    group=f"{images}/{str(shown[0]).partition('/')[0]}",
    questions=(dataclasses.replace(question, family=family),),
    read=(
      functools.partial(_marked, marks=marks, alone=not maps) if marks else None
    ),
    beside=(path,),  # it says the marks
  )


def _asked(asked: dict, form: str, task: str) -> dict:
  """A line of own data: options as the question lists them, metres said."""
  text, answer = asked["question"], asked["answer"]
  line = {"question": text, "answer": answer, "image": asked["image"]}
  if form == "sentence":
    return line | {"answer_type": "text"}
  listed = collections.OrderedDict(_OPTION.findall(text))
  letters = [chr(ord("A") + i) for i in range(len(listed))]
  if form == "select" and len(listed) > 1 and [*listed] == letters:
    return line | {"options": [*listed.values()]}
  number = re.fullmatch(r"\s*\d+(\.\d*)?\s*", answer)
  return line | ({"unit": "m"} if number and is_length(task, text) else {})


def is_length(task: str, question: str) -> bool:
  """Whether a number that answers a question is in metres.

  By its task; of a task that the loader does not know by the words, and where
  these say of a count too, it is none.
  """
  if task.startswith((*LENGTHS, *OTHERS)):
    return task.startswith(LENGTHS)
  text = numerals.plain(question, _METRE)  # "within three meters", too
  said = any(not found[1] for found in _METRES.finditer(text))
  return said and not _COUNT.search(text)


def _marks(record, where: str) -> tuple:
  """(colour, numbers) of what is drawn: two of a point, four of a box."""
  found = []
  for kind, count in (("point", 2), ("bbox", 4)):
    for colour in COLOURS:
      written = record.get(f"{colour}_{kind}")
      if written is None:
        continue
      try:
        numbers = tuple(float(each) for each in written[0])
      except (TypeError, ValueError, LookupError) as error:
        raise UserError(
          f"{where}: {colour}_{kind} is no list of {count} numbers"
        ) from error
      if len(numbers) != count or not all(0 <= n <= 1000 for n in numbers):
        raise UserError(
          f"{where}: {colour}_{kind} is {numbers}; it should be {count} numbers"
          " from 0 to 1000"
        )
      found.append((colour, numbers))
  return tuple(found)


def _marked(path: str, where: str, *, marks, alone: bool) -> Image.Image:
  """The picture with its marks, at its own size."""
  with picture_files.opened(path, where, "image") as picture:
    shown = pictures.upright(picture, where, alone=alone)
  draw = ImageDraw.Draw(shown)
  for colour, numbers in marks:
    sides = (shown.width, shown.height) * 2
    at = [n / 1000 * side for n, side in zip(numbers, sides)]
    if len(at) == 2:
      x, y = map(int, at)
      box = (x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS)
      draw.ellipse(box, fill=colour)
    else:
      out = STROKE * 7 / 8  # most of the line is outside of the box
      (x0, x1), (y0, y1) = (sorted(each) for each in (at[::2], at[1::2]))
      box = tuple(map(int, (x0 - out, y0 - out, x1 + out, y1 + out)))
      draw.rectangle(box, outline=colour, width=STROKE)
  return shown


DATA = data_sets.DataSet(
  "spar",
  download="huggingface.co/datasets/jasonzhango/SPAR-7M (questions, MIT) or"
  " SPAR-7M-RGBD, and the images of ScanNet, ScanNet++ and Structured3D under"
  " their own terms, laid out by its scripts",
  layout="scannet/images/scene0000_00/image_color/0.jpg, image_depth, and"
  " scannet/qa_jsonl/train/depth_prediction_oo/fill/fill_76837.jsonl",
  samples=samples,
)
asked, check, source, survey = DATA.asked, DATA.check, DATA.source, DATA.survey
