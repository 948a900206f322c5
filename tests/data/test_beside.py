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


NO_TEXT = b"\xff\xfe\xfa 12"
INTRINSICS = "raw/Training/41069020/lowres_wide_intrinsics/41069020_305.377"


@pytest.mark.parametrize(
  ("name", "path", "held", "said"),
  [
    ("sunrgbd", "kv1/NYUdata/NYU0001/intrinsics.txt", b"x", "to float"),
    ("sunrgbd", "kv1/NYUdata/NYU0001/intrinsics.txt", b"1 2", "2 numbers, not"),
    ("arkitscenes", f"{INTRINSICS}.pincam", b"a b", "to float"),
    ("scannet", "scene0000_00/intrinsic/intrinsic_color.txt", b"", "0 numbers"),
    ("scannet", "scannetv2_val.txt", NO_TEXT, "utf-8"),
    ("kitti", "2011_09_26/calib_cam_to_cam.txt", b"P_rect_02: 7", "index out"),
    ("kitti", "test_annotations.json", b"[]", '"files": '),
    ("kitti", "test_annotations.json", b'{"files": [{"cam_in": 1}]}', "depth"),
    ("nyu", "splits.mat", b"MATLAB", "can't be read"),
    ("nyu", "splits.mat", bytes(200), "can't be read"),
    ("tum", "rgbd_dataset_freiburg1_desk/rgb.txt", NO_TEXT, "utf-8"),
    ("hypersim", "metadata_images_split_scene_v1.csv", NO_TEXT, "utf-8"),
    ("hypersim", "metadata_camera_parameters.csv", NO_TEXT, "utf-8"),
    ("scannet", "scannetv2-labels.combined.tsv", NO_TEXT, "utf-8"),
  ],
)  # fmt: skip
def test_a_broken_index_is_one_line_with_its_path(
  name, path, held, said, tmp_path
):
  layouts.WRITERS[name](tmp_path)
  (tmp_path / path).write_bytes(held)
  with pytest.raises(UserError) as caught:
    source = show.opened(show.config_of(name, str(tmp_path), size=16), "all")
    source[0]
  assert f"{tmp_path / path}" in str(caught.value)
  assert said in str(caught.value) and "\n" not in str(caught.value)


def test_broken_intrinsics_spoil_only_their_own_samples(tmp_path):
  layouts.sunrgbd(tmp_path)
  (tmp_path / "kv1/NYUdata/NYU0001/intrinsics.txt").write_text("x")
  config = show.config_of("sunrgbd", str(tmp_path), size=16)
  source = show.opened(config, "all")
  with pytest.raises(UserError, match="to float"):
    source[0]
  assert source[1].maps and source[2].maps
  said = data_sets._lost(tmp_path, source.listed[0], "sunrgbd")
  assert "intrinsics.txt can't be read" in said


def test_what_a_source_does_not_say_of_its_index_is_one_line(tmp_path):
  """As where a file of `data/sources/` takes a number for a path."""
  wrong = data_sets.DataSet(
    "own", "a set", "a.txt", lambda root, own: [root / own]
  )
  with pytest.raises(UserError, match=f"own: an index .* in {tmp_path} can't"):
    data_sets._listed(wrong, tmp_path, 7)


@pytest.mark.parametrize(
  ("name", "written", "said"),
  [
    ("arkitscenes", "confidence=x", "invalid literal"),
    ("arkitscenes", "confidence=7", "allowed: 0, 1, 2"),
    ("hypersim", "partial=yes", "partial is True or False"),
  ],
)
def test_show_refuses_a_setting_in_one_line(name, written, said, capsys):
  assert show.main([name, f"--set={written}", "--root=."]) == 2
  assert said in capsys.readouterr().err
