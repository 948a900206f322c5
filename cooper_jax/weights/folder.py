"""Folders of weights as the hub has them: one safetensors file, or an index.

Nothing that a folder says is followed out of it, and nothing in it is run.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.weights import headers

BAGEL = ("llm_config.json", "vit_config.json")  # configs of such a folder
BAGEL_SINGLE = "ema.safetensors"  # its weights, averaged
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIG = "config.json"
TWO_CONFIGS = "{llm,vit}_config.json"  # how errors name BAGEL's two at once
EXPECTED = "io.npz"  # what the model's own class gave
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")


@dataclasses.dataclass(frozen=True)
class WeightsFolder:
  """A folder whose files were checked; no tensor is read yet."""

  path: Path
  config: dict
  tensors: dict[str, headers.TensorEntry]
  metadata: dict  # of the safetensors files
  notes: tuple[str, ...] = ()  # what was ignored, a line each
  nonfinite: bool = False  # tensors may hold NaN and infinite values

  def raw(self, key: str) -> np.ndarray:
    """The bytes of a tensor, u8 [bytes], as they are in the file."""
    entry = self.tensors[key]
    path = self.path / entry.file
    count = entry.end - entry.begin
    return np.fromfile(path, np.uint8, count=count, offset=entry.begin)

  def same(self, key: str, other: str) -> bool:
    """Whether two tensors are one, bit for bit."""
    one, two = self.tensors[key], self.tensors[other]
    alike = (one.dtype, one.shape) == (two.dtype, two.shape)
    return alike and np.array_equal(self.raw(key), self.raw(other))

  def read(self, key: str) -> np.ndarray:
    """The tensor of a key, in its own dtype and shape [...].

    Raises UserError where it holds NaN or infinite values.
    """
    array = np.array(self.mapped(key))
    self.check_finite(key, array)
    return array

  def mapped(self, key: str) -> np.ndarray:
    """The tensor [...] as the file's own bytes: what is looked at is read."""
    entry = self.tensors[key]
    file = self.path / entry.file
    count = entry.end - entry.begin
    raw = np.memmap(file, np.uint8, "r", entry.begin, count)
    whole = raw.view(np.ndarray).view(headers.DTYPES[entry.dtype])
    return whole.reshape(entry.shape)

  def check_finite(self, key: str, array: np.ndarray) -> None:
    """Raises UserError where values [...] of a tensor are NaN or infinite."""
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad and not self.nonfinite:
      raise UserError(
        f"{self.path / self.tensors[key].file}: {key} has {bad:,} of"
        f" {array.size:,} values that are NaN or infinite; get the folder anew"
        " (convert and verify take them with --allow_nonfinite)"
      )


def open_folder(path, *, nonfinite: bool = False) -> WeightsFolder:
  """Looks a folder through: its config, its index, the headers of its files.

  Raises UserError with the first thing that is wrong, before any tensor is
  read.
  """
  path = Path(os.path.expanduser(path))
  if path.suffix in PICKLED and path.is_file():
    raise UserError(f"{path} is a pickle, or as unsafe; {headers.no_pickle()}")
  if not path.is_dir():
    hint = "; give the folder that it is in" if path.is_file() else ""
    raise UserError(f"{path} is no folder{hint}")
  config = read_config(path)
  averaged = config.get("model_type") == "bagel" and os.path.lexists(
    path / BAGEL_SINGLE
  )
  single = BAGEL_SINGLE if averaged else SINGLE
  here = sorted(file.name for file in path.glob("*.safetensors"))
  notes = []
  if os.path.lexists(path / INDEX):
    listed = _index(path)
    files = sorted(set(listed.values()))
    if single in here and single not in files:
      raise UserError(
        f"{path} has {single}, and {INDEX}, which does not name it: two models,"
        " maybe; remove the one that you don't mean"
      )
    notes += [
      f"{name} is ignored: {INDEX} does not name it"
      for name in here
      if name not in files
    ]
  elif os.path.lexists(path / single):
    listed, files = None, [single]
    notes += [
      f"{name} is ignored: there is no {INDEX}"
      for name in here
      if name != single
    ]
  else:
    raise UserError(_nothing(path, here, single))
  tensors, metadata = {}, {}
  for file in files:
    found, said = headers.read_header(inside(path, file), file)
    for key in found:
      if key in tensors:
        raise UserError(
          f"{path}: {key} is given twice, in {tensors[key].file} and in {file}"
        )
    tensors |= found
    metadata |= said
  if listed is not None:
    _check_listed(path, listed, tensors)
  return WeightsFolder(path, config, tensors, metadata, tuple(notes), nonfinite)


def config_name(path: Path) -> str:
  """How errors name the config of a folder."""
  has_two = any(os.path.lexists(path / name) for name in BAGEL)
  return TWO_CONFIGS if has_two else CONFIG


def read_config(path: Path) -> dict:
  """The config of a folder; of BAGEL's two that say what it is, one."""
  if config_name(path) == CONFIG:
    return read_json(path, CONFIG)
  parts = {name.removesuffix(".json"): read_json(path, name) for name in BAGEL}
  return {"model_type": "bagel", **parts}


def _index(path: Path) -> dict[str, str]:
  """Key -> file, of the index."""
  listed = read_json(path, INDEX).get("weight_map")
  if not isinstance(listed, dict) or not listed:
    raise UserError(f"{path / INDEX} has no weight_map of key to file")
  for key, file in listed.items():
    if not isinstance(file, str):
      raise UserError(f"{path / INDEX}: {key} is in {file!r}, which is no name")
  return listed


def _check_listed(path: Path, listed: dict[str, str], tensors) -> None:
  for key in sorted(listed.keys() | tensors.keys()):
    if key not in listed:
      raise UserError(
        f"{path}: {key} is in {tensors[key].file}, but {INDEX} does not list it"
      )
    if key not in tensors or tensors[key].file != listed[key]:
      raise UserError(
        f"{path}: {key} is not in {listed[key]}, where {INDEX} has it"
      )


def _nothing(path: Path, here: list[str], single: str) -> str:
  """Why a folder without the files that were looked for is refused."""
  pickles = sorted(f.name for f in path.iterdir() if f.suffix in PICKLED)
  if here:
    return (
      f"{path} has neither {single} nor {INDEX}, only {', '.join(here[:3])};"
      " get the folder whole"
    )
  if pickles:
    return (
      f"{path} has no safetensors file, only {', '.join(pickles[:3])};"
      f" {headers.no_pickle()}"
    )
  return f"{path} has neither {single} nor {INDEX}; get the folder whole"


def inside(path: Path, name: str) -> Path:
  """The file of a folder by its name; UserError where that leads out of it."""
  plain = name not in ("", ".", "..") and name.isprintable()
  if not plain or set(name) & set("/\\"):
    raise UserError(
      f"{path} names the file {name!r}; allowed: names of files in the folder,"
      " without a path"
    )
  file = path / name
  try:
    folder, there = path.resolve(), file.resolve()
  except (OSError, RuntimeError) as error:
    raise UserError(f"{file} is a symbolic link to itself") from error
  if folder not in there.parents:
    raise UserError(
      f"{file} is a symbolic link out of the folder, to {there}; copy the"
      " folder with its files (cp -rL)"
    )
  if not file.is_file():
    raise UserError(f"{file} does not exist; get the folder whole")
  return file


def read_json(path: Path, name: str) -> dict:
  """The JSON object of a file in a folder; UserError where it is none."""
  file = inside(path, name)
  try:
    data = file.read_bytes()
    headers.check_fetched(file, data)
    found = headers.parse(data)
  except (ValueError, RecursionError) as error:
    raise UserError(f"{file} is no JSON: {error}") from error
  if not isinstance(found, dict):
    raise UserError(f"{file} is no JSON object")
  return found
