r"""Source "cooper_train_set": COOPER's own sets, as they are published.

`part` says which: "amg", lines of `rgb_image` with `depth_image` or
`seg_image`; "sft", interleaved traces with their pictures in base64; "rl",
questions with the flag that says whether maps helped. In traces a textual call
(`<depth-estimation>...`) becomes our token, and the picture behind it that map:
grey is linear in metres from `nearest` to `farthest`, so steps are .25 m at
65 m; of two pictures of one map the first is kept, which is drawn once. Colours
of segmentation are read with a list (`colors`), else refused.
A turn ends `<answer>a summary \boxed{2}</answer>`, of which the box is the
answer; what the user says behind a map (to reflect) is no part of the question.
"""

import base64
import binascii
import dataclasses
import functools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cooper_jax.data import (
  colour_maps,
  columns,
  data_sets,
  folders,
  own_questions,
  picture_files,
  pictures,
  records,
  tag_checks,
)
from cooper_jax.data.folders import Listed, MapPath
from cooper_jax.errors import UserError
from cooper_jax.grading import extract
from cooper_jax.sample import Question

PARTS = ("amg", "sft", "rl")
CALLS = {"depth-estimation": "depth", "segmentation": "segmentation"}
# Folder of an AMG index -> units a metre of its 16-bit PNG files.
SCALES = {"hypersim": 1000.0, "vkitti": 100.0, "nyu": 1000.0, "kitti": 256.0}
_CALL = re.compile(rf"<({'|'.join(CALLS)})>.*?</\1>", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_TAGS = re.compile(r"</?(?:think|answer|user|assistant)>")


@dataclasses.dataclass(frozen=True)
class Config:
  """Where the sets lie, which is read, and what its pictures of maps mean."""

  root: str = ""  # folder of COOPER_Train_Set
  part: str = "sft"  # amg | sft | rl
  # Index to read where a part has several in the root: Interleaved_SFT.jsonl or
  # its variant of text alone; "" = all of them.
  file: str = ""
  # Text file of the system prompt, which goes before each question; "" = none.
  system: str = ""
  nearest: float = 0.0  # metres of black in a trace's picture of depth
  farthest: float = 65.0  # metres of white in it, as COOPER has it for Hypersim
  # Text file of "Name r g b" lines, of pictures of segmentation; "" = none.
  colors: str = ""

  def __post_init__(self):
    if self.part not in PARTS:
      raise UserError(f"part is {self.part!r}; allowed: {', '.join(PARTS)}")
    if not 0 <= self.nearest < self.farthest < math.inf:
      raise UserError(
        f"nearest is {self.nearest:g}, farthest {self.farthest:g}; allowed are"
        " metres from 0, the second above the first"
      )


def samples(root: Path, own: Config) -> list[Listed]:
  """Every line of the indices of the part, without its pictures."""
  read = {"amg": _dense, "sft": _trace, "rl": _question}[own.part]
  if own.colors:
    _colors(own, "cooper_train_set")  # a wrong setting is no bad line
  if own.system:
    _system(own.system)
  found = []
  for name in folders.files(root, ".jsonl"):
    if own.file and not f"/{name}".endswith(f"/{own.file}"):
      continue
    with (root / name).open("rb") as file:
      offset = 0
      for number, raw in enumerate(file, 1):
        where = f"cooper_train_set: {name}:{number}"
        try:
          with folders.reading(where):
            record = _record(raw, where)
            given = (root, own, name, number, offset, record, where)
            one = record and read(*given)
        except UserError as error:  # one of the samples that may be bad
          one = Listed(f"{name}:{number}", "", problem=str(error))
        found += [one] if one else []
        offset += len(raw)
  return found


def _record(raw: bytes, where: str) -> dict[str, Any]:
  if not raw.strip():
    return {}
  try:
    record = json.loads(raw)
    if not isinstance(record, dict):
      raise ValueError("it is no object")
  except ValueError as error:
    raise UserError(f"{where}: the line is not JSON: {error}") from error
  return record


def _dense(root, own, name, number, offset, record, where) -> Listed | None:
  """{"rgb_image", "depth_image" or "seg_image", "data_id" or "data_idx"}."""
  if "rgb_image" not in record:
    return None
  folder = Path(name).parent
  keys = ("rgb_image", "depth_image", "seg_image")
  image, depth, classes = (_text(record, key, where) for key in keys)
  if not image or not (depth or classes):
    raise UserError(
      f"{where}: a line has 'rgb_image' and 'depth_image' or 'seg_image'"
    )
  maps = {}
  if depth:
    known = (SCALES.get(part.lower()) for part in folder.parts)
    scale = next(filter(None, known), None)
    if scale is None:
      raise UserError(
        f"{where}: units of depth are known by folders named"
        f" {', '.join(SCALES)}; this index lies in {folder}"
      )
    maps["depth"] = MapPath(str(folder / depth), scale)
  if classes:
    colors = _colors(own, where)
    maps["segmentation"] = MapPath(
      str(folder / classes),
      names=tuple(each for each, _ in colors),
      read=functools.partial(_coloured, colors=colors),
    )
  return Listed(f"{name}:{number}", str(folder / image), maps)


def _text(record, key: str, where: str, *, kinds: tuple = (str,)) -> str:
  """The text under a key, "" without one; UserError where it is no text.

  kinds: what else may be written there, numbers.
  """
  value = record.get(key)
  if key == "image" and isinstance(value, list):
    if len(value) != 1:
      raise UserError(f"{where}: {columns.several(len(value))}")
    value = value[0]
  if value is not None and type(value) not in kinds:
    raise UserError(f"{where}: {key!r} is {records.said(value)}, no text")
  return "" if value is None else str(value).strip()


def _question(root, own, name, number, offset, record, where) -> Listed | None:
  """{"question", "answer", "image", "data_id", "flag"}."""
  if not {"question", "answer", "image"} <= set(record):
    return None
  written = {
    key: _text(record, key, where, kinds=(str, int, float))
    for key in ("question", "answer", "image", "flag")
  }
  written = {k: text for k, text in written.items() if text}
  if not {"question", "answer", "image"} <= set(written):
    raise UserError(f"{where}: question, answer or image is empty")
  question = _asked(own, written, where)
  folder = Path(name).parent
  image = str(folder / written["image"])
  if not (root / image).is_file():
    image = str(folder / "images" / written["image"])
  return Listed(f"{name}:{number}", image, questions=(question,))


def _asked(own: Config, record: dict[str, str], where: str) -> Question:
  """A question with the kind of its answer found, as own data has it."""
  question, problems = own_questions.make(record)
  if question is None:
    raise UserError(f"{where}: {problems[0]}")
  if own.system:
    text = f"{_system(own.system)}\n{question.text}"
    question = dataclasses.replace(question, text=text)
  return question


@functools.lru_cache(maxsize=4)
def _system(written: str) -> str:
  """The system prompt that a text file holds."""
  path = Path(written).expanduser()
  try:
    text = path.read_text(encoding="utf-8").strip()
  except (OSError, ValueError) as error:
    raise UserError(
      f"config.data.settings.cooper_train_set.system={path} can't be read:"
      f" {picture_files.reason(error)}"
    ) from error
  if not text:
    raise UserError(
      f"config.data.settings.cooper_train_set.system={path} is empty"
    )
  return text


def _trace(root, own, name, number, offset, record, where) -> Listed | None:
  """{"interleaved_reason": [{"type", "value", "need_loss"}, ...]}."""
  if "interleaved_reason" not in record:
    return None
  items = record["interleaved_reason"]
  if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
    raise UserError(
      f"{where}: 'interleaved_reason' is no list of parts"
      ' {"type", "value", "need_loss"}'
    )
  asked, said, images, called, maps = [], [], [], [], {}
  for place, item in enumerate(items):
    kind, trained = item.get("type"), item.get("need_loss")
    if trained not in ("true", "false"):
      raise UserError(
        f"{where}: need_loss of part {place} is {trained!r}; it is the string"
        " 'true' or 'false'"
      )
    if kind == "text" and isinstance(item.get("value"), str):
      if trained == "true":
        said.append(item["value"])
        # Their pictures follow in the same order.
        called = [CALLS[c] for c in _CALL.findall(item["value"])] or called
      elif not said:
        asked.append(item["value"])
    elif kind == "image" and not images and not said:
      images.append(place)
    elif kind == "image" and called:
      which = called.pop(0)
      maps.setdefault(which, _drawn(own, name, offset, place, which, where))
    else:
      raise UserError(
        f"{where}: part {place} is of type {kind!r}; read are texts, the image"
        " and behind each call its picture"
      )
  text = "".join(said)
  answer, reasoning = _answered(text)
  if not images or not answer or not "".join(asked).strip():
    raise UserError(
      f"{where}: a trace has an image, a question and an answer in \\boxed{{}}"
    )
  reasoning = _CALL.sub(lambda m: f" <{CALLS[m[1]]}> ", reasoning)
  reasoning = _TAGS.sub(" ", reasoning)
  written = {"question": "".join(asked).strip(), "image": name}
  written |= {"answer": answer, "reasoning": " ".join(reasoning.split())}
  question = _asked(own, written, where)
  question = dataclasses.replace(question, needs=tuple(maps))
  tag_checks.check([question], maps, where)
  return Listed(
    f"{name}:{number}",
    name,
    maps,
    questions=(question,),
    read=functools.partial(
      _embedded, offset=offset, place=images[0], alone=not maps
    ),
  )


def _answered(text: str) -> tuple[str, str]:
  r"""(answer, what stands before it): the last `\boxed`, else <answer>.

  In: "<think>Near.</think><answer>So \boxed{2}</answer>"
  Out: ("2", "<think>Near.</think>")
  """
  tags = list(_ANSWER.finditer(text))
  inner = extract.boxed(text)
  start = tags[-1].start() if tags else text.rfind("\\boxed")
  if inner is None and tags:
    inner = tags[-1][1]
  return extract.plain(inner or ""), text[: max(start, 0)]


def _drawn(own, name, offset, place, which, where) -> MapPath:
  picture = functools.partial(
    _embedded, offset=offset, place=place, alone=False
  )
  if which == "depth":
    reach = (own.nearest, own.farthest)
    return MapPath(
      name, read=functools.partial(_grey, picture=picture, reach=reach)
    )
  colors = _colors(own, where)
  return MapPath(
    name,
    names=tuple(each for each, _ in colors),
    read=functools.partial(_coloured, colors=colors, picture=picture),
  )


def _colors(own: Config, where: str):
  if not own.colors:
    raise UserError(
      f"{where}: its segmentation is a picture of colours, whose classes are"
      " not published; name a list of 'Name r g b' lines:"
      " --config.data.settings.cooper_train_set.colors=FILE"
    )
  return colour_maps.named(Path(own.colors).expanduser())


def _embedded(
  path: str, where: str, *, offset: int, place: int, alone: bool
) -> Image.Image:
  """The picture of a part of the line that begins at a byte of the file."""
  with open(path, "rb") as file:
    file.seek(offset)
    record = _record(file.readline(), where)
  said = f"{where}: the picture of part {place}"
  try:
    value = record["interleaved_reason"][place]["value"]
    written = "".join(value.rpartition("base64,")[2].split())  # may be wrapped
    raw = base64.b64decode(written, validate=True)
  except (binascii.Error, *picture_files.BROKEN) as error:
    raise UserError(f"{said} can't be read: it is no base64") from error
  held = picture_files.Embedded(raw, f"of part {place}")
  with picture_files.opened(held, where, "picture") as picture:
    return pictures.upright(picture, said, alone=alone)


def _grey(file, *, picture, reach) -> np.ndarray:
  """Metres [h, w] of a picture whose grey is linear in them."""
  rgb = np.asarray(picture(file.path, file.said)).astype(np.float32)
  if np.ptp(rgb, axis=-1).mean() > 8:  # JPEG colours grey a little
    raise UserError(f"{file.said} is coloured; a picture of depth is grey")
  low, high = reach
  return low + rgb.mean(-1) / 255 * (high - low)


def _coloured(file, *, colors, picture=None) -> np.ndarray:
  if picture is None:
    rgb = colour_maps.colours(file)
  else:
    rgb = np.asarray(picture(file.path, file.said))
  return colour_maps.ids(rgb, colors, file.said)


DATA = data_sets.DataSet(
  "cooper_train_set",
  download="huggingface.co/datasets/Starrrrrry/COOPER_Train_Set, joined and"
  " unpacked; each part under the licence of its data",
  layout="COOPER_reasoning_train_set/Interleaved_SFT.jsonl,"
  " COOPER_reasoning_train_set/RL_data.jsonl with images/, and indices as"
  " datasets/vkitti/train.jsonl beside their files",
  samples=samples,
  tables=("colors", "system"),
)
asked, check, source, survey = DATA.asked, DATA.check, DATA.source, DATA.survey
