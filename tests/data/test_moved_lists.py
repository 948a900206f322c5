"""A class list is known by its names, wherever its file lies."""

import json

import numpy as np
import pytest

from cooper_jax.data import build, data_sets, line_maps, mixture, shards, show
from cooper_jax.errors import UserError
from tests.data.test_parquet import image, png, table

NAMES = ("nothing", "ball", "wall", "box")


def write(folder, source):
  """Six pictures and their classes; gives the root."""
  ids = np.arange(48).reshape(6, 8).astype(np.uint8) % 4
  files = [(png(image(i)), png(np.roll(ids, i))) for i in range(6)]
  if source == "parquet":
    rows = [{"image": one, "segmentation": two} for one, two in files]
    table(folder / "t/train.parquet", rows[:2])
    table(folder / "t/validation.parquet", rows[2:4])
    table(folder / "t/test.parquet", rows[4:])
    return folder / "t"
  lines = []
  for i, pair in enumerate(files):
    names = f"{i}.png", f"{i}_ids.png"
    for name, held in zip(names, pair, strict=True):
      (folder / name).write_bytes(held)
    lines.append(dict(zip(("image", "segmentation"), names, strict=True)))
  (folder / "own.jsonl").write_text("\n".join(map(json.dumps, lines)))
  return folder / "own.jsonl"


@pytest.mark.parametrize("source", ["jsonl", "parquet"])
def test_a_moved_class_list_is_the_same_build(source, tmp_path, monkeypatch):
  root, said, out = write(tmp_path, source), [], tmp_path / "out"

  def built(path, names=NAMES):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(names))
    run = path.with_name("run.txt")
    run.write_text("\n".join(NAMES))
    for cached in (data_sets._listed, line_maps._class_list):
      cached.cache_clear()
    maps = {"segmentation": {"classes": str(run)}}
    fields = {"class_list": str(path)}
    config = show.config_of(source, str(root), size=8, fields=fields, maps=maps)
    build.build(config, out, workers=1, say=said.append)
    return repr(mixture.open_split(config, "train"))

  first = built(tmp_path / "a.txt")
  assert built(tmp_path / "elsewhere" / "b.txt") == first
  assert said == [f"{out} is built already"]
  other = (NAMES[1], NAMES[0], *NAMES[2:])
  with pytest.raises(UserError, match="holds another data set"):
    built(tmp_path / "a.txt", other)
  # One that was built before has the path itself.
  manifest = json.loads((out / shards.MANIFEST).read_text())
  manifest["settings"]["class_list"] = str(tmp_path / "a.txt")
  shards.write_json(out / shards.MANIFEST, manifest)
  built(tmp_path / "elsewhere" / "b.txt")
  assert said == [f"{out} is built already"] * 2


def test_a_packaged_list_is_known_by_its_name():
  told = line_maps.told_apart
  assert told("class_list", "nyu40") == "nyu40" and told("class_list", "") == ""
  assert told("class_list", "/a.txt") == told("class_list", "b.txt")
  assert told("columns", "image=rgb") == "image=rgb"
