"""Data sets in their authors' layouts go through every stage to a report."""

import json
import os
import subprocess
import sys

import pytest

from configs import cooper
from cooper_jax import modalities
from cooper_jax.data import map_examples, mixture, pipeline
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.modalities import class_lists
from cooper_jax.report import gallery, kept
from cooper_jax.settings import checks
from cooper_jax.stages import tokenizer
from cooper_jax.training import json_files
from tests import compiling
from tests.data import layouts, test_cooper_train_set
from tests.stages import test_own_data

NAMES = ("hypersim", "vkitti", "ade20k")
SHARES = tuple(cooper.SHARES.values())
REACH = 80.0  # metres
# In one process, which imports once: 75 s of processor time, in four 139.
ONE_AFTER_THE_OTHER = """
import json, sys
from cooper_jax import main
for words in json.loads(sys.argv[1]):
  if code := main.main(words):
    sys.exit(code)
"""


def write(folder):
  """The three data sets."""
  for name in NAMES:
    layouts.WRITERS[name](folder / name)


def settings(folder, **more):
  roots = {f"data.settings.{n}.root": str(folder / n) for n in NAMES}
  return {
    "data.source": ",".join(NAMES),
    "data.weights": SHARES,
    "data.fit": "crop",
    "maps.depth.farthest": REACH,
    "maps.segmentation.classes": "cooper",
    **roots,
    **more,
  }


def test_a_mixture_of_layouts_has_one_range_and_one_class_list(tmp_path):
  write(tmp_path)
  config = test_own_data.settings("", **settings(tmp_path))
  modalities.note(config)
  data = DataConfig.from_config(config)
  source = mixture.open_split(data, "train")
  assert source.weights == SHARES
  # One training scene of Hypersim, two of Virtual KITTI, three of ADE20K.
  modules = tokenizer.find_modules(config)
  places = map_examples.places(source, modules)
  assert [len(places[n]) for n in ("depth", "segmentation")] == [3, 6]
  build = map_examples.Build(
    tuple(modules), source, places, {n: m.absent() for n, m in modules.items()}
  )
  with pipeline.make_batches(
    source, build=build, batch_size=20, seed=0
  ) as batches:
    batch = next(batches)
  assert batch["depth"].shape == batch["segmentation"].shape == (20, 16, 16)
  assert batch["depth"].max() > 20
  names = modules["segmentation"].describe(batch["segmentation"])[1]
  assert {"wall", "floor", "sky", "Sky", "Car"} <= set(names)


def flags(folder, run, config, given):
  tiny = {
    "data.image_size": 16, "model.d_model": 16, "model.layers": 1,
    "model.ffn": 16, "model.head_dim": 8, "model.map_grid": 4,
    "model.vision.width": 16, "model.vision.ffn": 16,
    "tokenizer.network.width": 8, "tokenizer.network.blocks": 1,
    "tokenizer.network.fine_width": 4, "tokenizer.network.fine_blocks": 0,
    "sampling.text": 12, "sampling.maps": 1, "grpo.rl.group_size": 2,
    "evaluate.questions": 8, "evaluate.batch": 4,
    "evaluate.heldout_questions": 0,
  }  # fmt: skip
  for stage in test_own_data.STAGES[:-1]:
    tiny |= {f"{stage}.{n}": 2 for n in ("steps", "batch", "save_every")}
    tiny[f"{stage}.log_every"] = 1
  said = [f"--config.{key}={value}" for key, value in (tiny | given).items()]
  words = [f"--config={config}", f"--workdir={folder / run}", *said]
  return [*words, "--compile_cache=off"]


@pytest.mark.slow
def test_the_command_goes_from_layouts_to_coopers_own_set(tmp_path):
  """Tokenizers and maps of three data sets, then COOPER's traces and questions:
  each stage reads its own data, in one folder."""
  write(tmp_path)
  own = tmp_path / "cooper"
  folder = test_cooper_train_set.FOLDER
  traces = [{"interleaved_reason": test_cooper_train_set.trace()}] * 12
  test_cooper_train_set.written(own, f"{folder}/Interleaved_SFT.jsonl", *traces)
  asked = [
    {"question": f"Are there {i} balls?", "answer": ("no", "yes")[i % 2],
     "image": f"{i}.png", "data_id": i, "flag": "positive"}
    for i in range(12)
  ]  # fmt: skip
  test_cooper_train_set.written(own, f"{folder}/RL_data.jsonl", *asked)
  for i in range(12):
    layouts.picture(own / folder / "images" / f"{i}.png", i)
  after = settings(
    tmp_path,
    **{
      "data.source": "cooper_train_set",
      "data.settings.cooper_train_set.root": str(own),
      "data.weights": (),
    },
  )
  after = {k: v for k, v in after.items() if not k.endswith(".root")
            or "cooper" in k}  # fmt: skip

  asks = {"data.settings.cooper_train_set.part": "rl"}
  commands = [
    flags(tmp_path, "run", f"configs/{config}.py:smoke", given)
    for config, given in (
      ("cooper", settings(tmp_path)),
      ("sft", after | {"pipeline": ("sft",)}),
      ("grpo", after | asks | {"pipeline": ("grpo",)}),
      # Traces have maps of depth: what is asked of their pictures is shown.
      ("grpo", after | {"pipeline": ("evaluate",)}),
    )
  ]
  alone = os.environ | {"XLA_FLAGS": compiling.QUICK}  # of one device
  words = [sys.executable, "-c", ONE_AFTER_THE_OTHER, json.dumps(commands)]
  subprocess.run(words, env=alone, check=True)
  summary = json_files.read_json(tmp_path / "run" / "summary.json")
  assert summary["tokenizer/over/depth/farthest"] == REACH
  assert "segmentation/tokenizer_iou/sky" in summary
  rows = kept.load(tmp_path / "run" / "report")["rows"]
  assert rows and {r["set_up"]["depth"]["farthest"] for r in rows} == {REACH}
  page = gallery.gallery(rows)
  assert "balls are near" in page and "floor" not in page


def test_the_class_list_of_the_mixture_has_the_names_of_its_data_sets():
  known = set(class_lists.read("cooper").names)
  each = [set(class_lists.read(n).names) for n in ("nyu40", "vkitti", "ade20k")]
  assert known == set().union(*each)
  config = cooper.get_config("smoke")
  assert config.data.source.split(",") == list(NAMES)
  with pytest.raises(UserError, match=r"hypersim\.root names none"):
    checks.validate(config)
