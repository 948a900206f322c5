"""A source is one file, with settings of its own; its files are told apart."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from configs import base
from cooper_jax.data import fingerprints, mixture, sources
from cooper_jax.data.sources import DataConfig, jsonl
from cooper_jax.errors import UserError
from cooper_jax.settings import checks
from cooper_jax.training import stage_settings

GREY = '''"""Source "grey": plain images, as many as are wanted."""

import dataclasses

import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.sample import Sample


@dataclasses.dataclass(frozen=True)
class Config:
  images: int = 3
  level: int = 9

  def __post_init__(self):
    if not 0 <= self.level < 256:
      raise UserError(f"level is {self.level}; allowed: 0 to 255")


def check(config):
  if config.own("grey").images == 13:
    raise UserError("13 is no number of images")


def source(config, split):
  own = config.own("grey")
  image = np.full((config.image_size,) * 2 + (3,), own.level, np.uint8)
  return [Sample(f"{split}/{i}", "grey", image) for i in range(own.images)]
'''


@pytest.fixture(name="grey")
def fixture_grey(tmp_path, monkeypatch):
  (tmp_path / "grey.py").write_text(GREY)
  path = [*sources.__path__, str(tmp_path)]
  monkeypatch.setattr(sources, "__path__", path)
  monkeypatch.delitem(sys.modules, f"{sources.__name__}.grey", raising=False)


def config_of(source="grey", **changes):
  config = base.get_base("smoke", ("tokenizer",))
  with config.unlocked():
    config.data.source = source
  config.update_from_flattened_dict(changes)
  return config


def test_its_settings_stand_in_the_config_and_reach_it(grey):
  config = config_of(**{"data.settings.grey.images": 5})
  assert config.data.settings.grey.level == 9
  checks.validate(config)
  opened = mixture.open_split(DataConfig.from_config(config), "test")
  assert len(opened) == 5 and (opened[0].image == 9).all()
  assert len(mixture.open_split(DataConfig(source="grey"), "test")) == 3


@pytest.mark.parametrize(
  ("source", "setting", "value", "said"),
  [
    ("grey", "level", 300, r"config.data.settings.grey: level is 300; allowed"),
    ("grey", "images", 13, "13 is no number of images"),
    ("world", "images", 4, r"grey\.images is 4 and config\.data\.source=world"),
  ],
)
def test_what_is_wrong_with_them_is_said_at_start_up(
  grey, source, setting, value, said
):
  config = config_of(source, **{f"data.settings.grey.{setting}": value})
  with pytest.raises(UserError, match=said):
    checks.validate(config)


def test_settings_of_a_source_that_is_not_read_bind_nothing(grey):
  read = stage_settings.of(config_of(), "tokenizer")
  assert read["data.settings.grey.images"] == 3
  assert "data.settings.jsonl.path" not in read
  unread = stage_settings.of(config_of("world"), "tokenizer")
  assert not [name for name in unread if "grey" in name]


def test_no_source_has_a_setting_outside_of_its_file():
  assert not {"jsonl", "path"} & set(DataConfig.__dataclass_fields__)
  assert "path" in base.get_base("smoke", ("sft",)).data.settings.jsonl


def own_data(folder, metres):
  folder.mkdir()
  Image.fromarray(np.full((9, 9, 3), 7, np.uint8)).save(folder / "a.png")
  np.save(folder / "a.npy", np.full((9, 9), metres, np.float32))
  line = {"image": "a.png", "question": "?", "answer": "x", "depth": "a.npy"}
  (folder / "train.jsonl").write_text(json.dumps(line))
  own = {"jsonl": jsonl.Config(path=f"{folder}/{{split}}.jsonl")}
  config = DataConfig(source="jsonl", settings=own, image_size=8)
  return repr(mixture.open_split(config, "train"))


def test_a_source_is_named_by_what_its_files_hold(tmp_path):
  one, five = (own_data(tmp_path / str(m), m) for m in (1.0, 5.0))
  assert one.startswith("JsonlSource(train.jsonl, 1, ") and one != five
  # A copy, made at another time, is the same data.
  copied = tmp_path / "copied"
  shutil.copytree(tmp_path / "1.0", copied)
  os.utime(copied / "a.npy", (1, 1))
  own = {"jsonl": jsonl.Config(path=f"{copied}/{{split}}.jsonl")}
  config = DataConfig(source="jsonl", settings=own, image_size=8)
  assert repr(mixture.open_split(config, "train")) == one


def test_a_source_is_named_by_its_lines_too(tmp_path):
  Image.fromarray(np.full((9, 9, 3), 7, np.uint8)).save(tmp_path / "a.png")
  depth = np.full((9, 9), 3000, np.uint16)
  Image.fromarray(depth).save(tmp_path / "d.png")
  line = {"image": "a.png", "question": "?", "answer": "x", "depth": "d.png"}
  path = tmp_path / "train.jsonl"
  own = {"jsonl": jsonl.Config(path=f"{tmp_path}/{{split}}.jsonl")}
  config = DataConfig(source="jsonl", settings=own, image_size=8)

  def named(text):
    path.write_text(text)
    return repr(mixture.open_split(config, "train"))

  changes = [
    {},
    {"depth_scale": 1500},
    {"answer": "y"},
    {"question": "? "},
    {"reasoning": "near"},
    {"camera": [9, 9, 4, 4]},
    {"id": "i"},
  ]
  found = [named(json.dumps(line | more)) for more in changes]
  assert len(set(found)) == len(changes)
  assert named(json.dumps(line)) == found[0]
  given = {"id": "train-1"}  # what it is called without one
  assert named("\n" + json.dumps(line | given)) == found[0]


def test_large_files_of_plain_numbers_are_not_read_whole(tmp_path, monkeypatch):
  file = tmp_path / "a.npy"
  monkeypatch.setattr(fingerprints, "ALL_BYTES", 9000)
  monkeypatch.setattr(fingerprints, "END_BYTES", 3000)

  def named(changed, time):
    numbers = np.zeros(10_000, np.uint8)
    numbers[changed] = 1
    file.write_bytes(numbers.tobytes())
    os.utime(file, ns=(time, time))
    return fingerprints.of_files(["a"], [file])

  assert named(5000, 1) == named(5001, 1)  # the middle is not read,
  assert named(5000, 1) != named(5000, 2)  # but a write changes the time
  assert len({named(place, 1) for place in (5000, 2999, 7000, 9999)}) == 4


def test_a_change_anywhere_in_a_picture_shows_at_its_end(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
  found = []
  for level in (0, 1):
    pixels[20, 20] = level
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found.append(fingerprints.of_files(["a"], [tmp_path / "a.png"]))
  assert found[0] != found[1]
  lost = fingerprints.of_files(["b"], [tmp_path / "b.png"])
  assert lost not in found and len(lost) == 12
