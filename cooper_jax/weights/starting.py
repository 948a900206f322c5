"""Start of a run from folders of released weights: sizes, text, parameters.

`take` completes a config when a run begins: sizes and text are the folders',
and a digest of each is noted. `load` gives the parameters that the first stage
begins with: what the folders have, and of our own what goes with it.
"""

import dataclasses
import functools
import hashlib
import json
import zlib
from pathlib import Path

import jax
import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.parallel import processes
from cooper_jax.tokenizers import text_check
from cooper_jax.tokenizers.folder_text import FolderText
from cooper_jax.training import json_files
from cooper_jax.training.manifest import flatten
from cooper_jax.training.start_folders import folders
from cooper_jax.weights import (
  decoder,
  fields,
  folder,
  importing,
  origins,
  picture_codes,
  picture_start,
  streaming,
)

ORIGINS = "origins.json"  # beside a stage's checkpoints
LOOKED_AT = 2**16  # bytes of each tensor, at either end, that a digest is of
EMBEDDING, OUT_OF = "params/embedding", "params/head"
MERGED = "params/vision/merger/fc2/bias"
# Of a folder's text nothing else stands between the embedding and the layers.
OF_TEXT = {"smear": False}
# Where a family says nothing of it.
OF_ONE_TABLE = {
  "rope_llama3": (),
  "rope_sections": (),
  "rope_interleaved": False,
  "causal_cells": False,
}


def take(config, given=()) -> None:
  """Takes sizes, text and digests of the folders that a config names into it.

  given: names of settings that were asked for, as "model.layers": one that
  disagrees with a folder is refused, others are what the folder says. Raises
  UserError where folders don't go together or can't be read.
  """
  named = folders(config)
  if named:
    _check_together(config, named)
  for role, path in named.items():
    planned = plan(role, path)
    _check_role(role, planned)
    _take_sizes(config, planned, given)
    _check_width(config, role, planned)
    config.init.digests[role] = _noted(config, role, planned)
    if "text" in planned.sizes:
      _take_text(config, role, planned, given)
  picture_start.take(config, digest, given)


def _check_together(config, named: dict) -> None:
  whole = [
    f"config.init.{role}" for role in ("text", "vision") if role in named
  ]
  if "from" in named and whole:
    raise UserError(
      f"config.init.from is a whole model, and {' and '.join(whole)} a part of"
      " one; leave one of them out"
    )
  if config.init_from:
    raise UserError(
      f"config.init_from={config.init_from} begins with a package, and"
      f" config.init.{min(named)} with a folder of weights; set"
      " --config.init_from='' or take a variant that trains every stage (long,"
      " scratch, smoke)"
    )


def plan(role: str, path) -> importing.ImportPlan:
  """What of a folder a role takes; UserError names the role's setting."""
  only = "" if role == "from" else role
  try:
    return importing.plan(folder.open_folder(path), only)
  except UserError as error:
    raise UserError(f"config.init.{role}: {error}") from error


def _check_role(role: str, planned: importing.ImportPlan) -> None:
  """A folder has what it is named for, and no more that would be left out."""
  if picture_codes.SIZES in planned.sizes:
    raise UserError(
      f"config.init.{role}: {planned.source.path} is read as an image"
      " tokenizer; name it as config.init.tokenizer.MODALITY"
    )
  has = {n for n in ("text", "vision") if n in planned.sizes}
  wanted = {"text", "vision"} if role == "from" else {role}
  if has != wanted:
    right = "from" if len(has) == 2 else min(has)
    raise UserError(
      f"config.init.{role}: {planned.source.path} is a model of"
      f" {' and '.join(sorted(has))}; name it as config.init.{right}"
    )


def _take_sizes(config, planned: importing.ImportPlan, given) -> None:
  sizes = dict(planned.sizes)
  vision = dict(sizes.pop("vision", {}))
  if "text" in sizes:
    sizes = OF_ONE_TABLE | OF_TEXT | sizes
    del sizes["text"]
  found = {f"model.{name}": value for name, value in sizes.items()}
  pixels = vision.pop("image_size", 0)
  found |= {f"model.vision.{name}": value for name, value in vision.items()}
  if vision.get("merge"):
    _check_cells(config, planned, pixels)
  elif vision and not vision.get("cell_table"):
    found |= {"data.image_size": pixels}
  elif pixels:
    _check_pixels(config, planned, pixels)
  for name, value in found.items():
    *sections, last = name.split(".")
    here = config
    for section in sections:
      here = here[section]
    if name in given and here[last] != value:
      raise UserError(
        f"config.{name} is {here[last]}, {planned.source.path} has {value};"
        " leave it out"
      )
    here[last] = value


def _check_pixels(config, planned: importing.ImportPlan, most: int) -> None:
  """Pictures of any size up to the tables' are a corner of them."""
  pixels, patch = config.data.image_size, planned.sizes["vision"]["patch"]
  if pixels > most or pixels % patch:
    raise UserError(
      f"config.data.image_size is {pixels}, {planned.source.path} takes"
      f" multiples of its patch {patch} up to {most}; set one"
    )


def _check_cells(config, planned: importing.ImportPlan, cell: int) -> None:
  """Pictures of any size are whole cells of merged patches."""
  pixels = config.data.image_size
  if pixels % cell:
    raise UserError(
      f"config.data.image_size is {pixels}, {planned.source.path} takes"
      f" multiples of {cell}, the side of its cells; set one"
    )


def _check_width(config, role: str, planned: importing.ImportPlan) -> None:
  """A merger gives as many channels as the decoder has."""
  merger = planned.names.get(MERGED)
  if merger and merger.shape[0] != config.model.d_model:
    raise UserError(
      f"config.init.{role}: the tower of {planned.source.path} gives"
      f" {merger.shape[0]} channels, config.model.d_model is"
      f" {config.model.d_model}; take a text of that width, or another tower"
    )


def _take_text(config, role: str, planned: importing.ImportPlan, given) -> None:
  rows, path = planned.sizes["text"], planned.source.path
  if not config.text_folder:
    if not text_check.has_text(path):
      raise UserError(
        f"config.init.{role}: {path} has no tokenizer.json, and its rows mean"
        " nothing without; set config.text_folder to a folder that has it"
      )
    config.text_folder = str(path)
  tokens = FolderText.load(config.text_folder).size
  if tokens > rows:
    raise UserError(
      f"config.init.{role}: {path} has {rows} rows of text, the tokenizer of"
      f" {config.text_folder} has {tokens} tokens; one of them is of another"
      " model"
    )
  if "text_rows" in given and 0 < config.text_rows < rows:
    raise UserError(
      f"config.text_rows is {config.text_rows}, {path} has {rows}; leave it out"
    )
  config.text_rows = max(config.text_rows, rows)


def digest(source: folder.WeightsFolder) -> str:
  """Sixteen hex digits that say which weights a folder has.

  Of its config (less what changes nothing, as the version that wrote it), of
  name, dtype and shape of each tensor, and of the bytes at either end of each:
  weights that were trained further differ in all.
  """
  said = json.dumps(_computing(source.config), sort_keys=True)
  found = hashlib.sha256(said.encode())
  for key, entry in sorted(source.tensors.items()):
    found.update(f"{key} {entry.dtype} {entry.shape}\n".encode())
    with (source.path / entry.file).open("rb") as file:
      for at in (entry.begin, max(entry.begin, entry.end - LOOKED_AT)):
        file.seek(at)
        found.update(file.read(min(LOOKED_AT, entry.end - at)))
  return found.hexdigest()[:16]


def _computing(said):
  """A config without the fields that change nothing that a model computes."""
  if not isinstance(said, dict):
    return said
  return {
    name: _computing(value)
    for name, value in said.items()
    if name not in fields.HARMLESS or name == "model_type"
  }


def _noted(config, role: str, planned: importing.ImportPlan) -> str:
  """The digest of a folder; UserError where another one was noted."""
  found, noted = digest(planned.source), config.init.digests[role]
  if noted not in ("", found):
    raise UserError(
      f"config.init.{role}: {planned.source.path} has the weights {found}, and"
      f" this was begun with {noted}; name the folder that has them"
    )
  return found


def load(config, params, stage_folder: Path):
  """The parameters that a stage begins with, of the folders of a config.

  What each array is from is printed, and stored in the stage's folder, beside
  its checkpoints. params: as in `build`.
  """
  params, table = build(config, params)
  if processes.is_first():
    print("\n".join(origins.lines(table)), flush=True)
    stage_folder.mkdir(parents=True, exist_ok=True)
    found = {"folders": folders(config), "digests": dict(config.init.digests)}
    found |= {"arrays": origins.as_json(table)}
    json_files.write_json(stage_folder / ORIGINS, found)
  return params


def build(config, params):
  """(parameters, their origins) of a model that begins with folders.

  params: of a new model, whose leaves stay where nothing is imported and
  nothing follows from it. Every leaf that changes is where it was, in its
  sharding; what had none is an array on the host.
  """
  shapes, streams, found = flatten(params), {}, []
  for role, path in folders(config).items():
    planned = plan(role, path)
    _noted(config, role, planned)
    for origin in planned.origins():
      stream = streaming.of_folder(planned, origin.path)
      if planned.names[origin.path].transform == decoder.CORNER:
        stream = streaming.corner(stream, shapes[origin.path].shape[0])
      streams[origin.path] = stream
      said = f"{role}: {origin.imported}"
      found.append(
        dataclasses.replace(origin, imported=said, shape=stream.shape)
      )
  table = origins.table(found, shapes)
  made = _of_our_own(config, shapes, streams)
  table = [
    dataclasses.replace(row, initialised=made[row.path][1])
    if row.path in made
    else row
    for row in table
  ]
  streams |= {path: stream for path, (stream, _) in made.items()}
  tree = shapes | streaming.place(streams, shapes)
  return (
    jax.tree.unflatten(jax.tree.structure(params), [*tree.values()]),
    table,
  )


def _of_our_own(config, shapes: dict, streams: dict) -> dict[str, tuple]:
  """(stream, how it is made) of what is not in a folder and follows from it.

  Rows of our own (specials, locations, codes) are drawn as the folder's rows
  are spread, so that none stands out; the rows that are added to those begin
  with nothing; and the weights of map positions begin as those of text.
  """
  made = {}
  for path, added in (
    (EMBEDDING, ("params/embedding_digits", "params/place")),
    (OUT_OF, ("params/head_digits",)),
  ):
    if path not in streams:
      continue
    rows = shapes[path].shape[0]
    count = rows - streams[path].shape[0]
    seed = [config.seed, zlib.crc32(path.encode())]
    rng_of = functools.partial(np.random.default_rng, seed)
    said = f"last {count:,} rows drawn from mean and variance of those imported"
    made[path] = streaming.extended(streams[path], rows, rng_of), said
    for other in added:
      if other in shapes:
        zeros = streaming.zeros(shapes[other].shape)
        made[other] = zeros, f"zeros, for it is added to {path}"
  for path in shapes:
    source = path.replace("/code/", "/main/")
    if source != path and source in streams and path not in streams:
      made[path] = streams[source], f"copy of {source}"
  return made
