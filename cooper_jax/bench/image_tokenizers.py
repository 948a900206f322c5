"""Errors of our maps in a released image tokenizer, beside our own.

  python -m cooper_jax.bench.image_tokenizers DIR --pixels=256

Encodes and decodes the maps of the embedded world's test scenes, depth as grey
and classes as colours, and prints the errors beside those of the packaged
model's own tokenizers, and of the best map that is always the same. Ours are
measured at the size that they were trained for; a code of theirs is of so many
pixels that small maps have few of them, so both sizes and counts are told.
"""

import argparse
import sys
import tempfile

import jax

from cooper_jax import modalities, package
from cooper_jax.data import map_examples, mixture
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import EXIT_DONE, EXIT_USER, UserError, printable
from cooper_jax.inference import loading
from cooper_jax.stages import tokenizer_scores
from cooper_jax.tokenizers.map_tokenizer import Codec
from cooper_jax.tokenizers.picture_tokenizer import PictureTokenizerConfig
from cooper_jax.training import workdir
from cooper_jax.weights import folder, importing, picture_codes

START = "tiny"  # the package whose tokenizers are beside it


def compare(path, *, pixels: int, scenes: int, start: str = START):
  """Lines of a table: each metric of a folder's tokenizer, and of ours.

  pixels: a side of the maps that the folder's is given. Raises UserError where
  the folder has none, or maps of that size can't be.
  """
  planned = importing.plan(folder.open_folder(path))
  network = planned.sizes.get(picture_codes.SIZES)
  if network is None:
    raise UserError(f"{path} is no image tokenizer")
  if pixels < 1 or pixels % network.factor:
    raise UserError(
      f"--pixels={pixels}: {path} takes multiples of {network.factor}"
    )
  params = picture_codes.tree(importing.read(planned))
  theirs = PictureTokenizerConfig(network, pixels)
  model = loading.load_package(start)
  with jax.set_mesh(model.mesh):
    ours, small = _measured(start, model.codecs, scenes, 0)
    drawable, notes = {}, []
    for name, codec in model.codecs.items():
      try:
        assert_drawable(name, codec.modality)
      except UserError as error:
        notes.append(f"note: {name}: {error}")
        continue
      drawable[name] = Codec(codec.modality, theirs, params)
    found, _ = _measured(start, drawable, scenes, pixels)
  size = next(iter(model.codecs.values())).config
  rows = [("metric", str(path), f"ours ({start})", "constant map")]
  for key, value in found.items():
    name, _, metric = key.partition("/tokenizer_")
    if isinstance(value, list) or "/" in metric or not metric:
      continue
    constant = small.get(f"{name}/{metric}_constant")
    cells = (value, ours.get(key), constant)
    said = ("-" if cell is None else f"{cell:.4f}" for cell in cells)
    rows.append((f"{name} {metric}", *said))
  rows.append(("pixels a side", str(pixels), str(size.image_size), ""))
  rows.append(("codes a map", str(theirs.cells), str(size.cells), ""))
  rows.append(("codes there are", f"{theirs.codes:,}", f"{size.codes:,}", ""))
  widths = [max(map(len, column)) for column in zip(*rows)]
  lines = [
    "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
    for row in rows
  ]
  return [*notes, *lines, f"{scenes} test scenes of the embedded world"]


def assert_drawable(name: str, modality) -> None:
  """UserError where maps of a modality can't be pictures in colours."""
  if modality.to_colours is None:
    raise UserError(f"maps of {name} can't be drawn in colours")
  jax.eval_shape(modality.to_colours, jax.ShapeDtypeStruct((1, 1, 1), "int32"))


def _measured(start: str, codecs, scenes: int, pixels: int):
  """(errors of tokenizers, those of constant maps), by name of the metric.

  pixels: of the maps, 0 = as the package has them.
  """
  config = workdir.to_config(
    package.read_manifest(package.find(start))["config"]
  )
  with tempfile.TemporaryDirectory() as cache, config.unlocked():
    config.data.update(test_scenes=scenes, train_scenes=scenes, cache=cache)
    config.data.image_size = pixels or config.data.image_size
    modules = {name: modalities.of(config)[name] for name in codecs}
    data = DataConfig.from_config(config)
    test = mixture.open_split(data, "test")
    targets = map_examples.read_maps(test, modules)
    drawn = tokenizer_scores.redraw(codecs, targets)
    found = tokenizer_scores.measure(modules, targets, drawn)
    train = mixture.open_split(data, "train")
    return found, tokenizer_scores.constant_scores(modules, train, targets)


def main(argv=None) -> int:
  """Compares a folder's tokenizer with ours; gives the exit code."""
  printable()
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.bench.image_tokenizers",
    description="What a released image tokenizer loses of our maps.",
  )
  parser.add_argument("folder", help="folder of Janus-Pro's VQ-16 or Emu3's")
  parser.add_argument(
    "--pixels", type=int, default=256, help="a side of its maps (256)"
  )
  parser.add_argument(
    "--scenes", type=int, default=64, help="test scenes, from 1 on (64)"
  )
  parser.add_argument("--start", default=START, help=f"package ({START})")
  asked = parser.parse_args(argv)
  try:
    if asked.scenes < 1:
      raise UserError(f"--scenes is {asked.scenes}; allowed: from 1 on")
    lines = compare(
      asked.folder,
      pixels=asked.pixels,
      scenes=asked.scenes,
      start=asked.start,
    )
  except (UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  print("\n".join(lines))
  return EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
