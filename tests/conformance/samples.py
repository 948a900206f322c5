"""Real frames of data sets, read by the sources: metres and classes are right.

python -m tests.conformance.samples FOLDER

FOLDER holds data sets in their own layouts and `expected.json`: by the path of
a map's file its source and what a right reader gives at its own size, which is
{"source": "kitti", "depth": {"shape", "valid", "min", "median", "mean", "max"},
"quantum": metres} or {"source": "ade20k", "classes": {name: pixels}}. Prints a
line a file; ends with 1 where a number is off by more than the quantum (pixels:
at all) or a file is not read. The frames are not ours and not in the project,
so no test runs this.
"""

import json
import re
import sys
import tempfile
from pathlib import Path

from cooper_jax import plugins
from cooper_jax.data import show
from cooper_jax.errors import UserError

FLOAT = 1e-6  # metres that rounding to six decimals may cost


def read(folder: Path, path: str, said: str):
  """(map, modality) of a file, by the first source that lists it."""
  names = [w for w in re.findall(r"\w+", said) if w in plugins.names("sources")]
  why = []
  for name in names:
    try:
      if name == "jsonl":
        return _of_lines(folder, path, said)
      return _of_folder(folder, path, name)
    except UserError as error:
      why.append(f"{name}: {error}")
  raise UserError("; ".join(why) or f"no source is named in {said!r}")


def _of_folder(folder: Path, path: str, name: str):
  top, _, below = path.partition("/")
  config = show.config_of(name, str(folder / top))
  source = show.opened(config, "all")
  for index, one in enumerate(source.listed):
    for which, each in one.maps.items():
      if each.path == below:
        if (source.root / one.image).is_file():
          return source.native(index)[1][which], config.modalities[which]
        return source.map_alone(index, which), config.modalities[which]
  raise UserError(f"{below} is none of its {len(source)} samples")


def _of_lines(folder: Path, path: str, said: str):
  """Through a JSONL file of one line, with the scale that is said."""
  scale = float(re.search(r"depth_scale (\d+)", said)[1])
  image = _picture_of(folder / path)
  line = {"image": str(image), "depth": str(folder / path)}
  with tempfile.TemporaryDirectory() as made:
    file = Path(made) / "one.jsonl"
    file.write_text(json.dumps({**line, "depth_scale": scale}))
    config = show.config_of("jsonl", str(file))
    source = show.opened(config, "all")
    return source.native(0)[1]["depth"], config.modalities["depth"]


def _picture_of(depth: Path) -> Path:
  """The picture of a depth file: another word in its path, any suffix."""
  for word in ("color", "rgb", "image"):
    for parent in (depth.parent, depth.parent.parent / word):
      stem = depth.stem.replace("depth", word)
      for found in sorted(parent.glob(f"{stem}.*")):
        if found != depth:
          return found
  raise UserError(f"{depth} has no picture beside it")


def faults(target, module, expected: dict) -> list[str]:
  """What differs from what is expected, a line each."""
  found = []
  key, read_as = module.describe(target)
  if key not in expected:
    return [f"has {key}, expected is {sorted(expected)}"]
  wanted = dict(expected[key])
  shape = wanted.pop("shape", list(target.shape))
  if list(target.shape) != shape:
    found.append(f"shape {list(target.shape)}, expected {shape}")
  if "quantum" not in expected:
    if read_as != wanted:
      found.append(f"{key} {read_as}, expected {wanted}")
    return found
  for name, value in wanted.items():
    near = 0 if name == "valid" else expected["quantum"] + FLOAT
    if not abs(read_as.get(name, float("inf")) - value) <= near:
      found.append(f"{name} {read_as.get(name)}, expected {value}")
  return found


def main(argv=None) -> int:
  """Prints a line a file; gives the exit code."""
  (folder,) = argv if argv is not None else sys.argv[1:]
  folder, wrong = Path(folder).expanduser(), 0
  expected = json.loads((folder / "expected.json").read_text("utf-8"))
  for path, each in expected.items():
    try:
      found = faults(*read(folder, path, each["source"]), each)
    except UserError as error:
      found = [f"not read: {error}"]
    wrong += bool(found)
    print(f"{'; '.join(found) or 'ok'}  {path}", flush=True)
  print(f"{len(expected) - wrong} of {len(expected)} files are right")
  return 1 if wrong or not expected else 0


if __name__ == "__main__":
  sys.exit(main())
