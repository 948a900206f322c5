"""Own data without maps, or with some, goes through every stage to a report."""

import json
import math

import jax
import numpy as np
import pytest
from PIL import Image

from configs import base
from cooper_jax import package, plugins
from cooper_jax.parallel.mesh import make_mesh
from cooper_jax.rollouts import self_maps
from cooper_jax.runtime import compilation
from cooper_jax.stages import tokenizer
from cooper_jax.training import json_files, telemetry, workdir
from tests import metrics_page

STAGES = ("tokenizer", "pretrain", "sft", "grpo", "evaluate")
SPLITS = ("train", "validation", "test")
# Pictures of three aspects, each in a shape of its own.
SIDES = ((20, 30), (30, 20), (24, 24))  # rows, columns
SHAPES = {
  "data.fit": "squash:16x24,24x16",
  "model.vision.stem": "linear",
  "model.vision.position": "averaged",
}


def write(folder, maps=lambda number: (), images=8, sides=SIDES[:1], **more):
  """A file a split; maps(number) names the maps that an image comes with.

  sides: the sizes that images take by turns.
  """
  folder.mkdir()
  number = 0
  for split in SPLITS:
    lines = []
    for _ in range(images):
      number += 1
      size = sides[number % len(sides)]
      Image.fromarray(np.full((*size, 3), 9 * number, np.uint8)).save(
        folder / f"{number}.png"
      )
      line = {"image": f"{number}.png", "question": "Is there a red ball ?"}
      line |= {"answer": ("no", "yes")[number % 2]} | more
      for name in maps(number):
        kind, value = (
          (np.uint16, 1500) if name == "depth" else (np.uint8, number % 5)
        )
        Image.fromarray(np.full(size, value, kind)).save(
          folder / f"{number}-{name}.png"
        )
        line[name] = f"{number}-{name}.png"
      lines.append(json.dumps(line) + "\n")
    (folder / f"{split}.jsonl").write_text("".join(lines))
  return f"{folder}/{{split}}.jsonl"


def settings(jsonl, source="jsonl", **changes):
  config = base.get_base("smoke", STAGES).copy_and_resolve_references()
  config.unlock()
  config.data.update(source=source, image_size=16, workers=1)
  config.data.settings.jsonl.path = jsonl
  config.model.update(d_model=16, layers=1, ffn=16, head_dim=8, map_grid=4)
  config.model.vision.update(width=16, ffn=16)
  config.tokenizer.network.update(
    width=8, blocks=1, fine_width=4, fine_blocks=0
  )
  config.sampling.update(text=12, maps=1)
  config.grpo.rl.group_size = 2
  for stage in STAGES[:-1]:
    config[stage].update(steps=2, batch=2, log_every=1, save_every=2)
  config.evaluate.update(questions=8, batch=4, heldout_questions=0)
  config.update_from_flattened_dict(changes)
  return config.lock()


def run(config, folder, stages=STAGES):
  workdir.prepare(config, folder)
  mesh = make_mesh(devices=jax.devices()[:1])
  package.install(config, folder, mesh)
  with jax.set_mesh(mesh), compilation.effort(quick=True):
    for stage in stages:
      plugins.find("stages", stage).run(config, folder)
      workdir.finish(config, folder, stage, seconds=1.0)
  return json_files.read_json(folder / "summary.json")


@pytest.mark.ci
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_data_without_maps_goes_from_nothing_to_a_report(tmp_path, capsys):
  config = settings(write(tmp_path / "own"))
  summary = run(config, tmp_path / "run")
  assert metrics_page.unexplained(summary, ("summary.json",)) == []
  said = capsys.readouterr().out
  for name in ("depth", "segmentation"):
    assert f"tokenizer {name}: none of the 8 training samples has" in said
    assert summary[f"{tokenizer.TRAINED}/{name}"] == 0
  for stage in ("pretrain", "sft"):
    lines = telemetry.read_metrics(tmp_path / f"run/{stage}/metrics.jsonl")
    assert len(lines) == 2 and all(line["grad_norm"] > 0 for line in lines)
  # Nothing is told of maps that were not trained, and nothing is no number.
  assert not [k for k in summary if k.startswith(("depth/", "segmentation/"))]
  modes = {k.split("/")[2] for k in summary if k.startswith("qa/mode/")}
  assert modes == {"direct", "text", "adaptive"}
  wrong = [
    k for k, v in summary.items() if isinstance(v, float) and math.isnan(v)
  ]
  assert not wrong
  page = (tmp_path / "run/report/index.html").read_text("utf-8")
  assert "rendered world" not in page and "of the same data" in page


def test_a_tokenizer_stage_without_maps_may_be_interrupted(tmp_path):
  config = settings(write(tmp_path / "own"))
  for _ in range(2):  # the same command again
    run(config, tmp_path / "run", stages=("tokenizer",))


@pytest.mark.ci
@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
  "stages, maps, shapes",
  [
    (1, lambda number: ("depth",), {}),
    (5, lambda number: ("depth",) if number % 2 else ("segmentation",), SHAPES),
    (3, lambda number: ("depth", "segmentation") if number == 3 else (), {}),
  ],
  ids=["depth_only", "never_both_in_shapes", "one_image"],
)
def test_data_with_some_maps_trains_those_that_it_has(
  tmp_path, stages, maps, shapes
):
  own = write(
    tmp_path / "own", maps, sides=SIDES if shapes else SIDES[:1],
    reasoning="red ball <at .4 .5>",
  )  # fmt: skip
  config = settings(own, **shapes)
  summary = run(config, tmp_path / "run", STAGES[:stages])
  trained = {
    name: sum(name in maps(number) for number in range(1, 9))
    for name in ("depth", "segmentation")
  }
  for name, count in trained.items():
    assert summary[f"{tokenizer.TRAINED}/{name}"] == count
    measured = any(name in maps(number) for number in range(17, 25))
    assert (f"{name}/tokenizer_usage" in summary) == measured
  lines = telemetry.read_metrics(tmp_path / "run/tokenizer/metrics.jsonl")
  losses = {name for line in lines for name in line} & trained.keys()
  assert losses == {name for name, count in trained.items() if count}


@pytest.mark.ci
def test_the_world_beside_data_without_maps_trains_its_own(tmp_path):
  config = settings(
    write(tmp_path / "own"), source="world,jsonl",
    **{"data.cache": str(tmp_path / "cache"), "data.train_scenes": 8,
       "data.validation_scenes": 4, "data.test_scenes": 4},
  )  # fmt: skip
  summary = run(config, tmp_path / "run", STAGES[:1])
  assert summary[f"{tokenizer.TRAINED}/depth"] == 8
  assert summary["depth/abs_rel_constant"] > 0


@pytest.mark.ci
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_package_is_trained_anew_on_data_without_maps(
  packed, tmp_path, monkeypatch
):
  monkeypatch.setattr(self_maps, "draw", None)  # none would be read
  config = settings(
    write(tmp_path / "own"), init_from=str(packed), init_as="pretrain",
    **{"sft.self_map_scenes": 4, "sft.counterfactual": 0.5},
    **{"sft.lengths_need_map": "depth"},
  )  # fmt: skip
  summary = run(config, tmp_path / "run", STAGES[2:])
  assert 0 <= summary["qa/accuracy/depth/grpo"] <= 1  # it was trained to draw
  assert not [k for k in summary if k.startswith("depth/")]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
  """A package of a run whose data had both maps."""
  folder = tmp_path_factory.mktemp("packed")
  both = write(folder / "own", lambda number: ("depth", "segmentation"))
  run(settings(both), folder / "run", STAGES[:3])
  with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
    package.pack(folder / "run", folder / "packed")
  return folder / "packed"
