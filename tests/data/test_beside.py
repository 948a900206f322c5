"""What a source of a folder is named by, and what it says of broken files."""

import pytest

from cooper_jax.data import data_sets, show
from cooper_jax.errors import UserError
from tests.data import layouts


@pytest.mark.parametrize(
  ("name", "index", "fields"),
  [
    ("arkitscenes", 0, {"confidence": 1}),
    ("diode", 0, {}),
    ("hypersim", 0, {}),
    ("nyu", -1, {}),
    ("scannet", 0, {}),
    ("vkitti", 0, {}),
  ],
)
def test_a_file_beside_is_missed_and_is_of_the_data(
  name, index, fields, tmp_path
):
  def source(folder, files):
    config = show.config_of(name, str(folder), size=16, fields=files)
    return show.opened(config, "all")

  found = {}
  for folder, change in (("one", b""), ("two", b" ")):
    layouts.WRITERS[name](tmp_path / folder)
    found[folder] = source(tmp_path / folder, fields)
    paths = found[folder].listed[index].beside
    assert paths
    for path in paths:
      file = found[folder].root / path
      file.write_bytes(file.read_bytes() + change)
  assert repr(found["one"]) != repr(found["two"])
  for path in paths:
    file = tmp_path / "one" / path
    held = file.read_bytes()
    file.unlink()
    said = data_sets._lost(tmp_path / "one", found["one"].listed[index], name)
    assert said == f"{name}: {path} does not exist"
    file.write_bytes(held)


def test_settings_and_tables_are_of_the_data_and_the_root_is_not(tmp_path):
  def named(name, folder, **fields):
    config = show.config_of(name, str(folder), size=16, fields=fields)
    return repr(show.opened(config, "all"))

  for folder in ("one", "two"):
    layouts.arkitscenes(tmp_path / folder)
    layouts.diode(tmp_path / folder)
  one, two = (named("diode", tmp_path / f) for f in ("one", "two"))
  assert one == two
  levels = [
    named("arkitscenes", tmp_path / "one", confidence=c) for c in (1, 2)
  ]
  assert len(set(levels)) == 2
  layouts.ade20k_full(tmp_path / "full")
  table = tmp_path / "full/mapFromADE.txt"
  before = named("ade20k", tmp_path / "full", table=str(table))
  table.write_text(table.read_text().replace("150 874", "149 874"))
  assert named("ade20k", tmp_path / "full", table=str(table)) != before
  with pytest.raises(UserError, match=r"ade20k.table=.* can't be read"):
    named("ade20k", tmp_path / "full", table=f"{table}.gone")


def test_a_root_may_begin_with_a_tilde(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  layouts.kitti(tmp_path / "~")
  source = show.opened(show.config_of("kitti", "./~", size=16), "all")
  assert source.root == tmp_path / "~" and source[0].maps["depth"].any()
