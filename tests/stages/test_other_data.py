"""Data of streets goes through every stage: its range, classes and shapes."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from cooper_jax import modalities, package
from cooper_jax.data import mixture, pipeline
from cooper_jax.data.codes import encode
from cooper_jax.data.map_examples import Build
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.inference import loading
from cooper_jax.parallel.mesh import make_mesh
from cooper_jax.report import gallery, kept
from cooper_jax.stages import tokenizer
from cooper_jax.training import workdir
from tests.stages import test_own_data

STREET = "nothing [ignore]\nroad [room]\nsky [room]\ncar\nvan\n"


def write(folder, images=6):
  """A file a split: pictures of any shape, sparse depth up to 70 m, five
  classes; every third without a question, every fourth without depth."""
  rng = np.random.default_rng(0)
  folder.mkdir()
  (folder / "street.txt").write_text(STREET)
  for split in ("train", "validation", "test"):
    lines = []
    for number in range(images):
      name = f"{split}-{number}"
      height, width = rng.integers(18, 60, 2).tolist()
      pixels = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
      Image.fromarray(pixels).save(folder / f"{name}.png")
      metres = rng.uniform(4, 70, (height, width))
      metres[rng.random((height, width)) < 0.8] = 0  # a fifth, as of KITTI
      Image.fromarray((metres * 256).astype(np.uint16)).save(
        folder / f"{name}-depth.png"
      )
      classes = rng.integers(0, 5, (height, width)).astype(np.uint8)
      Image.fromarray(classes).save(folder / f"{name}-classes.png")
      line = {"image": f"{name}.png", "segmentation": f"{name}-classes.png"}
      if number % 4 != 3:
        line |= {"depth": f"{name}-depth.png", "depth_scale": 256}
      if number % 3:
        line |= {
          "question": "Is there a car ?",
          "answer": ("no", "yes")[number % 2],
        }
      lines.append(json.dumps(line) + "\n")
    (folder / f"{split}.jsonl").write_text("".join(lines))
  return f"{folder}/{{split}}.jsonl"


def settings(folder, **changes):
  street = {
    "data.fit": "pad",
    "maps.depth.nearest": 1.0,
    "maps.depth.farthest": 80.0,
    "maps.depth.least_valid": 0.05,
    "maps.segmentation.classes": f"{folder}/street.txt",
  }
  config = test_own_data.settings(
    f"{folder}/{{split}}.jsonl", **(street | changes)
  )
  modalities.note(config)
  return config


@pytest.mark.ci
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_data_of_streets_is_trained_on_and_shown(tmp_path):
  write(tmp_path / "own")
  config = settings(tmp_path / "own")
  summary = test_own_data.run(config, tmp_path / "run")
  over = {k: v for k, v in summary.items() if k.startswith("tokenizer/over/")}
  assert over == {
    "tokenizer/over/depth/nearest": 1.0,
    "tokenizer/over/depth/farthest": 80.0,
    "tokenizer/over/segmentation/classes": 5,
    "tokenizer/over/segmentation/classes_counted": 4,
    "tokenizer/over/segmentation/class_0_counted": 0,
  }
  assert summary["depth/tokenizer_abs_rel"] < 10
  assert {"segmentation/tokenizer_iou/car"} <= summary.keys()
  # The gallery names the classes, as it is written again from what is kept.
  rows = kept.load(tmp_path / "run" / "report")["rows"]
  page = gallery.gallery(rows)
  assert "car</span>" in page and "floor" not in page
  assert {row["set_up"]["depth"]["farthest"] for row in rows} == {80.0}
  # Another range in the same folder is refused, both shown.
  other = settings(tmp_path / "own", **{"maps.depth.farthest": 70.0})
  with pytest.raises(UserError, match=r"farthest is 80.0 there and 70.0 here"):
    workdir.prepare(other, tmp_path / "run")
  # The list goes with the model, not with its file.
  (tmp_path / "own" / "street.txt").unlink()
  mesh = make_mesh(devices=jax.devices()[:1])
  with jax.set_mesh(mesh):
    package.pack(tmp_path / "run", tmp_path / "packed")
  model = loading.load(tmp_path / "packed")
  module = model.codecs["segmentation"].modality
  assert module.legend([np.array([3])])[0][1] == "car"
  photo = tmp_path / "own" / "test-0.png"
  drawn = model.draw(photo, "depth")
  with Image.open(photo) as picture:
    assert drawn.shape == (max(picture.size),) * 2  # padded
  shown = drawn[drawn > 0]
  assert not shown.size or (shown.min() >= 0.99 and shown.max() <= 80.1)
  elsewhere = settings_of_world()
  with pytest.raises(UserError, match=r"farthest is 80.0 there and 20.0 here"):
    package.check(elsewhere, tmp_path / "packed")


def settings_of_world():
  config = test_own_data.settings("unused", source="world")
  return config


@pytest.mark.ci
def test_changed_maps_are_encoded_anew_and_not_gone_on_with(tmp_path):
  write(tmp_path / "own")
  config = settings(tmp_path / "own")
  modules = tokenizer.find_modules(config)
  configs = tokenizer.make_configs(config, modules)
  with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
    params = tokenizer.init_params(configs, jax.random.key(0))
    codecs = tokenizer.codecs(configs, modules, params)

    def opened():
      return mixture.open_split(DataConfig.from_config(config), "train")

    def batches():
      return pipeline.make_batches(
        opened(), build=Build(("segmentation",)), batch_size=2, seed=0
      )

    first = encode(opened(), codecs, tmp_path / "codes")
    (file,) = (tmp_path / "codes").iterdir()
    made = file.stat().st_mtime_ns
    encode(opened(), codecs, tmp_path / "codes")
    assert file.stat().st_mtime_ns == made  # the same data: as it was
    with batches() as before:
      next(before)
      state = before.state()
    with batches() as again:
      again.restore(state)
    changed = tmp_path / "own" / "train-0-classes.png"
    with Image.open(changed) as picture:
      Image.fromarray(4 - np.asarray(picture)).save(changed)
    second = encode(opened(), codecs, tmp_path / "codes")
    place = second.index["train-1"]  # line 1 is image 0
    assert (
      first.maps["segmentation"][place] != second.maps["segmentation"][place]
    ).any()
    np.testing.assert_array_equal(first.maps["depth"], second.maps["depth"])
    with (
      batches() as other,
      pytest.raises(UserError, match="data position has"),
    ):
      other.restore(state)
