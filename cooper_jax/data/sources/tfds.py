"""Source "tfds:NAME/CONFIG": a prepared data set of tensorflow-datasets.

Read are folders that `download_and_prepare` has filled, in random order, by a
map of columns; nothing is downloaded and TensorFlow is not needed. A column is
a feature: an image [h, w, 3], depth [h, w] in metres, class ids [h, w]. A class
label is read as its name.
"""

import dataclasses
import functools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from cooper_jax import modalities
from cooper_jax.data import (
  columns,
  data_sets,
  fingerprints,
  folders,
  parquet_files,
  picture_files,
)
from cooper_jax.data.folders import FolderSource, Listed
from cooper_jax.data.sources import DataConfig, arrayrecord
from cooper_jax.errors import UserError

_ROOT = "~/tensorflow_datasets"
_INFO = "dataset_info.json"
# Formats that are read at any place: how many records a file has.
_COUNTS = {
  "array_record": lambda path, where: len(arrayrecord.opened(path)),
  "parquet": parquet_files.count,
}
_BROKEN = (*picture_files.BROKEN, AssertionError)
_SPLITS = {"train": "train", "validation": "validation", "val": "validation",
          "test": "test"}  # fmt: skip
# Pictures that look like a map and are none: data set -> column -> why.
NO_MAPS = {
  "scene_parse150": {
    "annotation": "it is made of annotations_instance: its red is one of 100"
    " instance classes and its green the instance, not SceneParsing's 150"
    " classes; read the folders of SceneParsing-150 with the source ade20k"
  }
}


@dataclasses.dataclass(frozen=True)
class Config(columns.ColumnConfig):
  """Where prepared data sets lie, and what their features are."""

  root: str = _ROOT  # data_dir of tensorflow-datasets


def check(config: DataConfig) -> None:
  """UserError where no data set is named, or it is not prepared."""
  _data(config).check(config)


def source(config: DataConfig, split: str) -> FolderSource:
  """The samples of a split."""
  return _data(config).source(config, split)


def asked(config: DataConfig, split: str):
  """Yields (question, name of its sample, maps); no picture is read."""
  return _data(config).asked(config, split)


def survey(config: DataConfig) -> list[str]:
  """What a run's plan says; some samples of each split are decoded."""
  return _data(config).survey(config)


def everything(config: DataConfig) -> FolderSource:
  """The samples of every split."""
  data = _data(config)
  return data.opened(config, data.listed(config))


class Prepared(data_sets.DataSet):
  """A data set whose examples lie in files that no sample names."""

  def _settings(self, config: DataConfig) -> tuple[str, ...]:
    folder = _folder(self.root(config), config.argument)
    paths = sorted(folder.iterdir())
    files = fingerprints.of_files([p.name for p in paths], paths)
    return (*super()._settings(config), files)


def _data(config: DataConfig) -> Prepared:
  name = config.argument
  if not name:
    raise UserError(
      "config.data.source=tfds names no data set; write tfds:NAME, as"
      " tfds:nyu_depth_v2"
    )
  return _of_name(name, config.own("tfds").root)


@functools.cache
def _of_name(name: str, root: str) -> Prepared:
  """One of each, for its samples are listed once."""
  return Prepared(
    "tfds",
    download=f'{name} by python -c "import tensorflow_datasets as tfds;'
    f" tfds.builder('{name}', data_dir='{root}',"
    " file_format='array_record').download_and_prepare()\"",
    layout=f"{name}/VERSION/{_INFO}",
    samples=functools.partial(samples, name=name),
  )


def samples(root: Path, own: Config, *, name: str) -> list[Listed]:
  """Every example of every split that a run has."""
  folder = _folder(root, name)
  if folder is None:
    return []
  where = f"tfds: {name}"
  builder = _builder(str(folder), where)
  features = builder.info.features
  if not hasattr(features, "keys"):
    raise UserError(f"{where} has no named features")
  chosen = columns.chosen(list(features), columns.parse(own.columns), where)
  _refuse(name, chosen)
  shown = [n for n in columns.pictured() if n in chosen]
  texts = {ours: t for ours, t in chosen.items() if ours not in shown}
  found = []
  for part, facts in builder.info.splits.items():
    if part not in _SPLITS:
      continue
    told = _told(builder, part, texts, where) if texts else None
    for row in range(facts.num_examples):
      which = f"{name}/{part}/{row}"
      try:
        values = told(row) if told else {}
      except _BROKEN as error:
        said = picture_files.reason(error)
        problem = f"tfds: {which} can't be read: {said}"
        found.append(Listed(which, "", problem=problem, split=_SPLITS[part]))
        continue
      found.append(
        columns.listed(
          which,
          values | dict.fromkeys(shown, columns.HELD),
          path=str((folder / _INFO).relative_to(root)),
          row=row,
          root=root,
          columns=chosen,
          usual=own.usual,
          cell=functools.partial(_cell, part=part),
          split=_SPLITS[part],
          source="tfds",
        )
      )
  return found


def _folder(root: Path, name: str) -> Path | None:
  """The folder of a data set's last version, None where it is not prepared."""
  base = root / name
  if (base / _INFO).is_file():
    return base
  known = [p.parent for p in base.glob(f"*/{_INFO}")]
  return max(known, key=_version) if known else None


def _version(folder: Path) -> tuple:
  parts = folder.name.split(".")
  return tuple(int(each) if each.isdecimal() else -1 for each in parts)


def _refuse(name: str, chosen) -> None:
  for column, why in NO_MAPS.get(name.partition("/")[0], {}).items():
    for which in modalities.names():
      if chosen.get(which) == column:
        raise UserError(
          f"tfds: {name}: column {column!r} is no map of {which}: {why}"
        )


@functools.lru_cache(maxsize=8)
def _builder(folder: str, where: str):
  try:
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise UserError(
      f"{where}: pip install tensorflow-datasets ({error})"
    ) from error
  try:
    kind = json.loads((Path(folder) / _INFO).read_text())["fileFormat"]
    if kind not in _COUNTS:
      raise UserError(
        f"{where}: {folder} is in the format {kind}, which is not read at any"
        " place; prepare it again with file_format='array_record'"
      )
    found = tfds.builder_from_directory(folder)
    for split in found.info.splits.values():
      _check_files(folder, split, _COUNTS[kind], where)
    return found
  except _BROKEN as error:
    raise UserError(
      f"{where}: {folder} can't be read: {picture_files.reason(error)}"
    ) from error


def _check_files(folder: str, split, count, where: str) -> None:
  """UserError where a split's files lie elsewhere, or have other records."""
  paths = [os.fspath(path) for path in split.filepaths]
  for path, length in zip(paths, split.shard_lengths, strict=True):
    folders.inside(Path(folder), os.path.relpath(path, folder), where)
    if (there := count(path, where)) != length:
      raise UserError(
        f"{where}: {path} has {there:,} records, by {_INFO} {length:,}; prepare"
        " it again"
      )


@functools.lru_cache(maxsize=8)
def _opened(folder: str, part: str):
  return _builder(folder, folder).as_data_source(part)


@functools.lru_cache(maxsize=4)
def _example(folder: str, part: str, row: int) -> dict[str, Any]:
  """An example, decoded once for its image and its maps."""
  return _opened(folder, part)[row]


def _told(builder, part: str, texts, where: str):
  """row -> the values of some features, without reading the others."""
  import tensorflow_datasets as tfds

  features = builder.info.features
  others = set(features) - set(texts.values())
  skipped = {name: tfds.decode.SkipDecoding() for name in others}
  found = builder.as_data_source(part, decoders=skipped)

  def values(row: int) -> dict[str, Any]:
    example = found[row]
    return {
      ours: _named(features[theirs], example[theirs])
      for ours, theirs in texts.items()
    }

  return values


def _named(feature, value: Any) -> Any:
  """A class label's name; other values as they are."""
  names = getattr(feature, "names", None)
  if names and np.asarray(value).dtype.kind in "iu" and np.ndim(value) == 0:
    return names[int(value)] if int(value) >= 0 else None
  return value


def _cell(path: str, row: int, column: str, where: str, *, part: str) -> Any:
  """What a feature of an example holds."""
  folder = str(Path(path).parent)
  try:
    value = _example(folder, part, row)[column]
  except _BROKEN as error:
    raise UserError(
      f"{where}: example {row} can't be read: {picture_files.reason(error)}"
    ) from error
  if isinstance(value, np.ndarray) and value.dtype == np.float16:
    return value.astype(np.float32)
  return value
