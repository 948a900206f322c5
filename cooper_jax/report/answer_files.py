"""Names and files of answers: a picture each, and its maps as arrays.

A name holds what was asked about, the beginning of the question and a digest
of all that the answer depends on, so no two questions and no two pictures of
one name write over each other.
"""

import hashlib
import re
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image

from cooper_jax.data import kept_files
from cooper_jax.errors import UserError

FOLDER = Path("runs/ask")


def place(out: str | None, photograph: Path | None = None):
  """(folder, file or None) of --out: a folder, or a picture's own name.

  Raises UserError for another suffix, a folder of a file that is not there,
  and for the photograph itself.
  """
  if not out:
    return FOLDER, None
  path = Path(out)
  if path.is_dir() or not path.suffix:
    if path.exists() and not path.is_dir():
      raise UserError(f"--out={path} is a file; name a folder or a new .png")
    return path, None
  if path.suffix.lower() != ".png":
    raise UserError(
      f"--out={path}: the picture is a PNG; end it in .png, or name a folder"
    )
  if not path.parent.is_dir():
    raise UserError(f"--out={path}: there is no folder {path.parent}")
  keep_off(path, photograph)
  return path.parent, path


def keep_off(path: Path, photograph: Path | None) -> None:
  """Raises UserError where the photograph itself would be written over."""
  if photograph:
    asked = (photograph, "the photograph that is asked about")
    kept_files.keep_off(path, [asked])


def pages(out: str | None, about: str, questions, rest: str, photograph=None):
  """The picture of each question's answer.

  about: what is asked about, in a word or a path; rest: what else the answers
  depend on, as model and mode.
  """
  folder, file = place(out, photograph)
  if file is not None:
    if len(questions) == 1:
      return [file]
    found = [
      file.with_name(f"{file.stem}-{i}{file.suffix}")
      for i in range(1, len(questions) + 1)
    ]
    for each in found:
      keep_off(each, photograph)
    return found
  path = Path(about)
  stem = slug(path.name, 30)
  whole = str(path.resolve()) if photograph else about
  return [
    folder / f"{stem}-{slug(question, 40)}-{digest(whole, question, rest)}.png"
    for question in questions
  ]


def slug(text: str, most: int) -> str:
  """In: "Größe of the red ball?"   Out: "grosse-of-the-red-ball"."""
  folded = unicodedata.normalize("NFKD", text.casefold())
  ascii_only = folded.encode("ascii", "ignore").decode()
  words = re.findall(r"[a-z0-9]+", ascii_only)
  return "-".join(words)[:most].strip("-") or "x"


def digest(*parts: str) -> str:
  joined = "\0".join(parts).encode("utf-8", "surrogatepass")
  return hashlib.sha256(joined).hexdigest()[:8]


def write_maps(page: Path, maps, photograph=None) -> list[dict]:
  """Writes each (modality, target) beside a page; says what is where.

  Depth as .npy of f32 metres and 16-bit PNG of millimetres, 0 = no reading;
  classes as .npy of u8 ids and 8-bit PNG, of wide lists u16 and 16-bit; all
  else as .npy.
  """
  found, seen = [], {}
  for modality, target in maps:
    seen[modality] = seen.get(modality, 0) + 1
    number = "" if seen[modality] == 1 else f"-{seen[modality]}"
    stem = page.with_name(f"{page.stem}-{modality}{number}")
    target = np.asarray(target)
    kept, coded = arrays(target)
    npy = stem.with_name(stem.name + ".npy")
    keep_off(npy.with_suffix(".png"), photograph)
    np.save(npy, kept)
    paths = {"modality": modality, "npy": str(npy)}
    if coded is not None:
      png = stem.with_name(stem.name + ".png")
      Image.fromarray(coded).save(png)
      paths["png"] = str(png)
    found.append(paths)
  return found


def arrays(target: np.ndarray):
  """(array to keep, its pixels for a grey PNG or None)."""
  if target.ndim == 2 and np.issubdtype(target.dtype, np.floating):
    metres = target.astype(np.float32)
    known = np.isfinite(metres) & (metres > 0)
    millimetres = np.rint(np.where(known, metres, 0) * 1000.0)
    return metres, np.clip(millimetres, 0, 65535).astype(np.uint16)
  if target.ndim == 2:
    wide = target.dtype == np.uint16 or target.max(initial=0) > 255
    ids = target.astype(np.uint16 if wide else np.uint8)
    return ids, ids
  return target.astype(np.float32), None
