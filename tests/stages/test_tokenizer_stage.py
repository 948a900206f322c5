"""The tokenizer stage: runs, reports, resumes exactly, refuses clearly."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base
from cooper_jax.data import map_examples, mixture
from cooper_jax.errors import UserError
from cooper_jax.modalities import depth
from cooper_jax.parallel import mesh
from cooper_jax.sample import Sample
from cooper_jax.stages import tokenizer
from cooper_jax.tokenizers import map_tokenizer

SIZE = 16


class Rooms:
  """A floor and one box each: a source without a renderer."""

  def __init__(self, split, depth=True):
    self.split, self.depth = split, depth

  def __len__(self):
    return 24

  def __repr__(self):
    return f"Rooms({self.split})"

  def __getitem__(self, index):
    rng = np.random.default_rng([index, len(self.split)])
    depth = np.full((SIZE, SIZE), 5, np.float32) - np.arange(SIZE)[:, None] / 4
    classes = np.ones((SIZE, SIZE), np.uint8)
    row, column = rng.integers(0, SIZE - 6, 2)
    place = (slice(row, row + 6), slice(column, column + 6))
    depth[place], classes[place] = rng.uniform(0.5, 1), 4
    return Sample(
      id=str(index),
      source="rooms",
      image=np.zeros((SIZE, SIZE, 3), np.uint8),
      maps={"segmentation": classes} | ({"depth": depth} if self.depth else {}),
      instances=(classes == 4).astype(np.uint8),
    )


def settings(steps=6, **changes):
  config = base.get_base("smoke", ("tokenizer",)).copy_and_resolve_references()
  config.unlock()
  config.world = ConfigDict()
  config.data.image_size = SIZE
  config.model.map_grid = 4
  config.tokenizer.network.update(
    width=8, blocks=1, fine_width=4, fine_blocks=0
  )
  config.tokenizer.update(
    steps=steps, batch=8, log_every=2, save_every=3, image_every=0
  )
  config.update(changes)
  return config.lock()


@pytest.fixture(autouse=True)
def fixture_ground(monkeypatch):
  monkeypatch.setattr(mixture, "open_split", lambda config, split: Rooms(split))
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    yield


def parameters(config, folder):
  return jax.tree.leaves(
    {n: c.params for n, c in tokenizer.load(config, folder).items()}
  )


@pytest.mark.ci
def test_leaves_codecs_a_summary_curves_and_pictures(tmp_path, capsys):
  config = settings()
  tokenizer.run(config, tmp_path)
  summary = json.loads((tmp_path / "summary.json").read_text())
  for key in ("depth/tokenizer_abs_rel", "segmentation/tokenizer_miou"):
    name, metric = key.split("/tokenizer_")
    assert summary[key] > 0
    assert summary[f"{key}/n"] == 24
    low, high = summary[f"{key}/ci95"]
    assert low <= summary[key] <= high
    assert summary[f"{name}/{metric}_constant"] > 0
  lines = (tmp_path / "tokenizer" / "metrics.jsonl").read_text().splitlines()
  logged = {name for line in lines for name in json.loads(line)}
  for name in (
    "loss",
    "depth/perplexity",
    "validation/depth/tokenizer_abs_rel",
  ):
    assert name in logged
  assert {p.stem for p in (tmp_path / "tokenizer/pictures").iterdir()} == {
    "depth",
    "segmentation",
  }
  assert "of the codes used" in capsys.readouterr().out
  codec = tokenizer.load(config, tmp_path)["segmentation"]
  drawn, codes = map_tokenizer.redraw_maps(
    codec, np.stack([Rooms("test")[i].maps["segmentation"] for i in range(3)])
  )
  assert drawn.shape == (3, SIZE, SIZE) and codes.shape == (3, 16)


@pytest.mark.ci
def test_six_steps_equal_three_a_power_cut_and_three_more(
  tmp_path, monkeypatch
):
  config = settings()
  tokenizer.run(config, tmp_path / "whole")
  make_step = tokenizer.make_step

  def cut(*arguments):
    step, taken = make_step(*arguments), []

    def step_until_cut(state, batch):
      taken.append(1)
      if len(taken) == 5:
        raise RuntimeError("power cut")
      return step(state, batch)

    return step_until_cut

  with monkeypatch.context() as patch:
    patch.setattr(tokenizer, "make_step", cut)
    with pytest.raises(RuntimeError, match="power cut"):
      tokenizer.run(config, tmp_path / "cut")
  tokenizer.run(config, tmp_path / "cut")
  whole = parameters(config, tmp_path / "whole")
  resumed = parameters(config, tmp_path / "cut")
  for one, other in zip(whole, resumed, strict=True):
    np.testing.assert_array_equal(one, other)


def test_examples_are_mirrored_together_and_sometimes_show_one_object():
  build = map_examples.Build(("depth", "segmentation"))
  sample, rng = Rooms("train")[0], np.random.default_rng(0)
  marked = mirrored = 0
  for _ in range(200):
    example = build(sample, rng)
    classes = example["segmentation"]
    if set(np.unique(classes)) == {0, 4}:
      marked += 1
    same = np.allclose(example["depth"], sample.maps["depth"])
    mirrored += not same
    box = example["depth"] < 1.1
    np.testing.assert_array_equal(classes == 4, box)
  assert 10 < marked < 60
  assert 70 < mirrored < 130


@pytest.mark.ci
def test_missing_maps_and_missing_tokenizers_are_said_in_one_line(
  tmp_path, monkeypatch, capsys
):
  with pytest.raises(UserError, match=r"no trained tokenizer.*config.pipeline"):
    tokenizer.load(settings(), tmp_path)
  monkeypatch.setattr(
    mixture, "open_split", lambda config, split: Rooms(split, depth=False)
  )
  tokenizer.run(settings(), tmp_path)
  assert "tokenizer depth: none of the 24 training" in capsys.readouterr().out
  summary = json.loads((tmp_path / "summary.json").read_text())
  assert "segmentation/tokenizer_miou" in summary
  assert "depth/tokenizer_abs_rel" not in summary
  trained = tokenizer.load(settings(), tmp_path)
  assert tokenizer.trained_on(tmp_path, trained).keys() == {"segmentation"}


def test_unused_codes_are_warned_of(capsys):
  summary = {
    "depth/tokenizer_abs_rel": 0.1,
    "depth/tokenizer_abs_rel/ci95": [0.09, 0.11],
    "depth/abs_rel_constant": 0.4,
    "depth/tokenizer_usage": 0.017,
  }
  tokenizer.report({"depth": depth}, summary)
  said = capsys.readouterr().out
  assert "abs_rel 0.1000 (constant map 0.4000)" in said
  assert "warning: the depth tokenizer uses 1.7%" in said
