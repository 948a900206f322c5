"""Tokenizers learn as well with many classes, and a range of streets.

The rendered world, its classes among those of ADE20K in an order of their own
and depth drawn from .1 to 80 m, against its usual settings at equal steps.
"""

import dataclasses

import numpy as np
import pytest

from cooper_jax import modalities
from cooper_jax.data import mixture
from cooper_jax.modalities import class_lists
from tests.stages import test_own_data

STEPS = 1500
LOSES = {"depth/tokenizer_abs_rel": 0.01, "segmentation/tokenizer_miou": -0.02}


def settings(**more):
  """Of the run `smoke`, with the tokenizers of the default one."""
  config = test_own_data.base.get_base("smoke", test_own_data.STAGES)
  config = config.copy_and_resolve_references().unlock()
  usual = test_own_data.base.get_base("long", test_own_data.STAGES)
  config.tokenizer.update(usual.tokenizer.to_dict())
  config.tokenizer.update(
    steps=STEPS, batch=16, log_every=250, save_every=STEPS, image_every=0
  )
  config.data.update(train_scenes=1500, validation_scenes=64, test_scenes=128)
  config.update_from_flattened_dict(more)
  modalities.note(config)
  return config.lock()


def scores(config, folder):
  summary = test_own_data.run(config, folder, ("tokenizer",))
  return {name: summary[name] for name in LOSES}


def mixed():
  """Lines of ADE20K's classes and the world's in another order; what counts of
  the world's is what counts in its own list."""
  lines = {}
  for which in ("ade20k", "world"):
    known = class_lists.read(which)
    lines |= dict(zip(known.names, known.lines, strict=True))
  order = np.random.default_rng(0).permutation(len(lines))
  return [list(lines.values())[i] for i in order]


@dataclasses.dataclass(frozen=True)
class Shuffled:
  """Scenes whose labels stand at other pixels: nothing is to be learned."""

  scenes: mixture.Source

  def __len__(self):
    return len(self.scenes)

  def kind(self, index):
    return self.scenes.kind(index)

  def __getitem__(self, index):
    sample = self.scenes[index]
    labels = sample.maps["segmentation"]
    rng = np.random.default_rng(index)
    mixed = rng.permutation(labels.ravel()).reshape(labels.shape)
    maps = {**sample.maps, "segmentation": mixed}
    return dataclasses.replace(sample, maps=maps, instances=None)


@pytest.mark.slow
def test_many_classes_and_a_wide_range_cost_little(tmp_path, monkeypatch):
  path = tmp_path / "mixed.txt"
  path.write_text("\n".join(mixed()) + "\n")
  wide = {
    "maps.depth.nearest": 0.1,
    "maps.depth.farthest": 80.0,
    "maps.segmentation.classes": str(path),
  }
  usual = scores(settings(), tmp_path / "usual")
  other = scores(settings(**wide), tmp_path / "wide")
  for name, most in LOSES.items():
    lost = (other[name] - usual[name]) / np.sign(most)
    assert lost <= abs(most), (name, usual, other)
  opened = mixture.open_split
  monkeypatch.setattr(
    mixture, "open_split", lambda *given: Shuffled(opened(*given))
  )
  control = scores(settings(**wide), tmp_path / "control")
  name = "segmentation/tokenizer_miou"
  assert usual[name] - control[name] > 10 * abs(LOSES[name])
