"""Downloaded data sets give right metres and classes, or one clear line."""

import dataclasses
import json
import pickle
import re

import h5py
import numpy as np
import pytest
from PIL import Image

from cooper_jax import plugins, sample
from cooper_jax.data import data_sets, folders, mixture, show
from cooper_jax.errors import UserError
from cooper_jax.modalities import class_lists
from tests.conformance import samples
from tests.data import layouts

NAMES = sorted(layouts.WRITERS)


def written(name, folder):
  """(truth by id, source of all splits at 16 pixels)."""
  truth = layouts.WRITERS[name](folder)
  return truth, show.opened(show.config_of(name, str(folder), size=16), "all")


def check_map(which, target, truth, lists):
  if which == "depth":
    valid = truth.metres > 0
    assert ((target > 0) == valid).all()
    off = np.abs(target - truth.metres)[valid]
    assert off.max() <= truth.quantum / 2 * 1.01 + 1e-6
    return
  named = np.append(np.array(lists.names, object), "")
  shown = np.where(target == lists.ignore, len(lists), target)
  assert (named[shown] == truth.classes).all()


@pytest.mark.parametrize("name", NAMES)
def test_metres_and_labels_are_those_that_were_written(name, tmp_path):
  truth, source = written(name, tmp_path)
  maps = getattr(plugins.find("sources", name), "MAPS", {})
  classes = maps.get("segmentation", {}).get("classes", "world")
  lists = class_lists.read(classes)
  assert sorted(one.id for one in source.listed) == sorted(truth)
  for index, one in enumerate(source.listed):
    each, (image, native) = truth[one.id], source.native(index)
    assert set(native) == set(one.maps) and image.mode == "RGB"
    assert set(one.maps) == {
      *(["depth"] if each.metres is not None else []),
      *(["segmentation"] if each.classes is not None else []),
    }
    for which, target in native.items():
      check_map(which, target, each, lists)
    if each.camera:
      np.testing.assert_allclose(one.camera, each.camera)


@pytest.mark.parametrize("name", NAMES)
def test_the_cache_keeps_what_training_reads(name, tmp_path):
  _, source = written(name, tmp_path)
  first = pickle.loads(pickle.dumps(source))[0]
  again = sample.from_bytes(sample.to_bytes(first))
  assert first.image.shape == (16, 16, 3) and first.maps
  for which, target in first.maps.items():
    assert target.shape == (16, 16)
    np.testing.assert_array_equal(again.maps[which], target)
  if source.listed[0].camera:
    np.testing.assert_array_equal(again.camera, first.camera)


@pytest.mark.parametrize("name", NAMES)
def test_every_split_has_samples_and_no_sequence_is_in_two(name, tmp_path):
  truth, _ = written(name, tmp_path)
  config = show.config_of(name, str(tmp_path), size=16)
  found = {n: mixture.open_split(config, n) for n in data_sets.splits.NAMES}
  ids = [one.id for each in found.values() for one in each.listed]
  if name != "tum":  # two samples are too few for three splits
    assert sorted(ids) == sorted(truth)
    groups = [{o.group or o.id for o in each.listed} for each in found.values()]
    assert len(set().union(*groups)) == sum(map(len, groups))
  assert len(mixture.survey(config)) == 4


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_folder_says_what_to_get_and_how_it_lies(name, tmp_path):
  module = plugins.find("sources", name)
  for root, said in (
    ("", rf"{name}\.root names none"),
    (tmp_path / "gone", r"gone is no folder"),
    (tmp_path, r"has no samples"),
  ):
    config = show.config_of(name, str(root))
    with pytest.raises(UserError, match=said) as caught:
      module.source(config, "train")
    assert module.DATA.download in str(caught.value)
    assert module.DATA.layout in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_file_is_other_data(name, tmp_path):
  before = repr(written(name, tmp_path / "one")[1])
  assert repr(written(name, tmp_path / "two")[1]) == before
  source = written(name, tmp_path / "three")[1]
  path = source.root / next(iter(source.listed[0].maps.values())).path
  path.write_bytes(path.read_bytes()[:-9] + b"another..")
  assert repr(source) != before


def first_map(name, folder, which):
  _, source = written(name, folder)
  return source, source.root / source.listed[0].maps[which].path


@pytest.mark.parametrize(
  ("name", "said"),
  [("kitti", "depth"), ("ade20k", "segmentation"), ("hypersim", "depth"),
   ("diode", "depth"), ("vkitti", "segmentation")],
)  # fmt: skip
def test_a_truncated_map_is_one_line(name, said, tmp_path):
  source, path = first_map(name, tmp_path, said)
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(UserError, match=f"{name}: .*{said} .*{path.name}") as e:
    source[0]
  assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", ["kitti", "sunrgbd", "scannet", "tum"])
@pytest.mark.parametrize("kind", ["RGB", "L", "P"])
def test_depth_of_eight_bits_or_colour_is_refused(name, kind, tmp_path):
  source, path = first_map(name, tmp_path, "depth")
  grey = np.full((layouts.HEIGHT, layouts.WIDTH), 9, np.uint8)
  Image.fromarray(grey).convert(kind).save(path)
  with pytest.raises(UserError, match=f"mode {kind}"):
    source[0]


def test_depth_without_a_reading_is_refused(tmp_path):
  source, path = first_map("kitti", tmp_path, "depth")
  layouts.words(path, np.zeros((layouts.HEIGHT, layouts.WIDTH)))
  with pytest.raises(UserError, match="no reading"):
    source[0]


def test_what_is_not_a_distance_is_no_reading(tmp_path):
  source, path = first_map("diode", tmp_path, "depth")
  metres = np.load(path)
  metres[0, :4, 0] = np.nan, np.inf, -1, 0
  np.save(path, metres)
  found = source.native(0)[1]["depth"]
  assert (found[0, :4] == 0).all() and (found[0, 4:] > 0).all()


def test_a_map_of_another_aspect_is_refused(tmp_path):
  source, path = first_map("hypersim", tmp_path, "depth")
  with h5py.File(path, "w") as file:
    file["dataset"] = np.ones((4, 16), np.float16)
  with pytest.raises(UserError, match="another aspect"):
    source[0]
  with h5py.File(path, "w") as file:
    file["other"] = np.ones((6, 8), np.float16)
  with pytest.raises(UserError, match="has no 'dataset', only 'other'"):
    source[0]


@pytest.mark.parametrize(
  ("array", "said"),
  [
    (np.ones((6, 8, 1), np.int16), r"int16\[6, 8, 1\]"),
    (np.ones((6, 8), np.float32), r"float32\[6, 8\]"),
  ],
)
def test_classes_are_whole_numbers_of_two_axes(array, said, tmp_path):
  source, path = first_map("hypersim", tmp_path, "segmentation")
  with h5py.File(path, "w") as file:
    file["dataset"] = array
  with pytest.raises(UserError, match=f"{said}; it should be whole numbers"):
    source[0]


def test_labels_of_eight_bits_need_no_table(tmp_path):
  source, path = first_map("scannet", tmp_path, "segmentation")
  (tmp_path / "scannetv2-labels.combined.tsv").unlink()
  lists = class_lists.read("nyu40")
  found = source.native(3)[1]["segmentation"]
  assert [lists.names[i] for i in found[1:4, 0]] == [
    "other furniture", "table", "wall",
  ]  # fmt: skip
  Image.fromarray(np.full((6, 8), 41, np.uint8)).save(path)
  with pytest.raises(UserError, match=r"class id 41, .* end at 40"):
    source.native(0)


def test_a_label_outside_the_list_and_a_colour_without_a_name(tmp_path):
  source, path = first_map("ade20k", tmp_path / "a", "segmentation")
  Image.fromarray(np.full((6, 8), 151, np.uint8)).save(path)
  with pytest.raises(UserError, match=r"class id 151, .* end at 150 \(flag\)"):
    source[0]
  source, path = first_map("vkitti", tmp_path / "v", "segmentation")
  Image.fromarray(np.full((6, 8, 3), 5, np.uint8)).save(path)
  with pytest.raises(UserError, match=r"colour \(5, 5, 5\) at 48 pixels"):
    source[0]
  source, path = first_map("scannet", tmp_path / "s", "segmentation")
  layouts.words(path, np.full((6, 8), 22))
  with pytest.raises(UserError, match=r"labels that .* does not list"):
    source[0]


def test_classes_go_by_name_into_the_list_of_a_run(tmp_path):
  layouts.ade20k(tmp_path / "data")
  names = class_lists.read("ade20k").lines
  (tmp_path / "mine.txt").write_text("\n".join(reversed(names)))
  own = {"segmentation": {"classes": str(tmp_path / "mine.txt")}}
  config = show.config_of("ade20k", str(tmp_path / "data"), maps=own)
  found = show.opened(config, "all").native(0)[1]["segmentation"]
  assert found[0, 0] == 150 - 3 and found[2, 0] == 150 - 1  # sky, wall
  config = dataclasses.replace(config, maps={})
  with pytest.raises(UserError, match=r"classes=world has no other"):
    mixture.survey(config)


def test_the_full_ade20k_needs_the_table_of_the_toolkit(tmp_path):
  truth = layouts.ade20k_full(tmp_path)
  with pytest.raises(UserError, match=r"3,688 classes.*ade20k\.table="):
    show.opened(show.config_of("ade20k", str(tmp_path)), "all")
  table = {"table": str(tmp_path / "mapFromADE.txt")}
  config = show.config_of("ade20k", str(tmp_path), fields=table)
  source = show.opened(config, "all")
  (one,) = source.listed
  lists = class_lists.read("ade20k")
  check_map(
    "segmentation", source.native(0)[1]["segmentation"], truth[one.id], lists
  )


def test_rows_of_scenes_that_are_not_there_are_counted(tmp_path):
  layouts.hypersim(tmp_path)
  table = tmp_path / "metadata_images_split_scene_v1.csv"
  more = "".join(f"ai_001_001,cam_00,{i},True,,train\n" for i in range(1, 31))
  table.write_text(table.read_text() + more)
  config = show.config_of("hypersim", str(tmp_path))
  with pytest.raises(UserError) as caught:
    mixture.open_split(config, "train")
  assert "ai_001_001/cam_00/0001" in str(caught.value)
  assert "and 10 more (30 of 31 samples are bad" in str(caught.value)
  some = dataclasses.replace(config, bad_samples=0.98)
  assert len(mixture.open_split(some, "train")) == 1
  table.write_text(table.read_text() + "ai_777_001,cam_00,0,True,,train\n")
  more = ["ai_001_001,cam_00,x,True,,train", "ai_001_001,cam_00,0,True,,part"]
  more += ["ai_001_001,cam_00,0", "ai_001_001"]
  table.write_text(table.read_text() + "\n".join(more))
  other = show.config_of("hypersim", f"{tmp_path}/ai_002_001/..")
  source = show.opened(other, "all")
  said = ["csv:36: scene ai_777_001 is not in", "csv:37: frame_id is 'x'"]
  said += ["csv:38: split_partition_name is 'part'", "csv:39: split", "csv:40"]
  for back, each in enumerate(reversed(said), 1):
    with pytest.raises(UserError, match=each):
      source[len(source) - back]
  assert source[0].maps
  table.write_text(table.read_text().replace("frame_id", "frame"))
  with pytest.raises(UserError, match="has no column 'frame_id'"):
    show.opened(show.config_of("hypersim", f"{tmp_path}/ai_001_001/.."), "all")


@pytest.mark.parametrize("path", ["../../etc/passwd", "a/../../../b"])
def test_a_path_that_leaves_the_root_is_not_opened(path, tmp_path):
  layouts.tum(tmp_path)
  (tmp_path / "rgbd_dataset_freiburg1_desk/depth.txt").write_text(
    f"1.0 {path}\n1.03 {path}\n"
  )
  config = show.config_of("tum", str(tmp_path), size=16)
  source = show.opened(config, "all")
  with pytest.raises(UserError, match=r"tum: .* is not below"):
    source[1]
  with pytest.raises(UserError, match=r"is not below .*1 of 1 samples are bad"):
    mixture.open_split(config, "train")
  with pytest.raises(UserError, match="is not below"):
    folders.inside(tmp_path, "/etc/passwd", "an index")


def test_tone_mapping_puts_the_bright_tenth_at_eight_tenths():
  from cooper_jax.data.sources import hypersim

  grey = np.repeat(np.linspace(0, 2, 101)[None, :, None], 3, -1)
  shown = hypersim.tone_map(grey, np.ones(grey.shape[:2], bool))
  # The 90th percentile of 0 to 2 is 1.8; .8 of 255 is 204.
  assert shown[0, 90].tolist() == [204] * 3 and shown[0, -1, 0] < 255
  assert not hypersim.tone_map(grey * 1e-6, grey[..., 0] > 0).any()
  broken = grey.copy()
  broken[0, 3, 1] = np.nan
  assert hypersim.tone_map(broken, np.ones((1, 101), bool))[0, 90, 0] > 200
  none = hypersim.tone_map(grey, np.zeros(grey.shape[:2], bool))
  assert none[0, 50, 0] == 255  # nothing valid: the colours as they are


def test_the_command_on_real_frames_tells_right_from_wrong(tmp_path, capsys):
  layouts.kitti(tmp_path / "kitti")
  layouts.ade20k(tmp_path / "ade20k")
  config = show.config_of("kitti", str(tmp_path / "kitti"))
  source = show.opened(config, "all")
  depth = config.modalities["depth"]
  key, found = depth.describe(source.native(0)[1]["depth"])
  path = f"kitti/{source.listed[0].maps['depth'].path}"
  right = {path: {"source": "kitti", key: found, "quantum": 1 / 256}}
  expected = tmp_path / "expected.json"
  expected.write_text(json.dumps(right))
  assert samples.main([str(tmp_path)]) == 0
  off = {**found, "mean": found["mean"] + 0.005}
  expected.write_text(json.dumps({path: {**right[path], key: off}}))
  assert samples.main([str(tmp_path)]) == 1
  pixels = {"source": "ade20k", "classes": {"sky": 16, "wall": 16}}
  expected.write_text(
    json.dumps({"ade20k/annotations/training/ADE_train_00000001.png": pixels})
  )
  assert samples.main([str(tmp_path)]) == 1
  expected.write_text(json.dumps({"kitti/gone.png": right[path]}))
  assert samples.main([str(tmp_path)]) == 1
  assert "is none of its 4 samples" in capsys.readouterr().out


def test_show_prints_native_metres_and_pixels_by_class(tmp_path, capsys):
  truth = layouts.vkitti(tmp_path)
  root = ["vkitti", f"--root={tmp_path}"]
  assert show.main([*root, "--json", "--size=0"]) == 0
  lines = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
  assert [each["id"] for each in lines] == sorted(truth)
  for each in lines:
    valid = truth[each["id"]].metres
    valid = valid[valid > 0]
    assert each["image"] == [6, 8] and each["depth"]["valid"] == valid.size
    assert each["depth"]["mean"] == pytest.approx(valid.mean(), abs=0.01)
    assert each["classes"] == {"Terrain": 31, "Sky": 8, "Car": 9}
  page = tmp_path / "page.html"
  assert show.main([*root, "-n", "2", f"--out={page}"]) == 0
  text = page.read_text()
  assert text.count("<section>") == 2 and "Terrain" in text
  assert len(re.findall(r'src="data:image/png;base64,', text)) == 6
  assert "linear-gradient" in text and not re.search(r"https?://", text)


def test_show_says_what_it_can_not_read(tmp_path, capsys):
  source, path = first_map("kitti", tmp_path, "depth")
  path.unlink()
  (source.root / source.listed[1].image).unlink()
  found = show.main(["kitti", f"--root={tmp_path}", "--json", "--size=0"])
  said = capsys.readouterr()
  lines = [json.loads(each) for each in said.out.splitlines()]
  assert found == 2 and said.err.count("error: kitti: ") == 2
  assert [each["image"] for each in lines] == [None, [6, 8], [6, 8]]
