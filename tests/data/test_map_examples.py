"""Which samples have which maps, and examples where some have none."""

import json

import numpy as np
import pytest
from PIL import Image

from cooper_jax import modalities, plugins
from cooper_jax.data import map_examples, mixture
from cooper_jax.errors import UserError
from cooper_jax.sample import Sample
from tests import own_data

MODULES = {n: plugins.find("modalities", n) for n in ("depth", "segmentation")}
SIZE = 8


class Some:
  """Samples that have depth, classes, both or neither; every read is noted."""

  def __init__(self, has, bad=()):
    self.has, self.bad, self.reads = has, bad, []

  def __len__(self):
    return len(self.has)

  def __getitem__(self, index):
    self.reads.append(index)
    if index in self.bad:
      raise UserError(f"sample {index} is cut")
    flat = np.full((SIZE, SIZE), 1 + index)
    maps = {}
    if "d" in self.has[index]:
      maps["depth"] = flat.astype(np.float32)
    if "s" in self.has[index]:
      maps["segmentation"] = flat.astype(np.uint8)
    return Sample(
      id=str(index),
      source="some",
      image=np.zeros((SIZE, SIZE, 3), np.uint8),
      maps=maps,
    )


class Telling(Some):
  """The same, and says which are alike."""

  def kind(self, index):
    return self.has[index]


HAS = ("", "d", "s", "ds", "d", "")


@pytest.mark.parametrize("kind", [Some, Telling])
def test_places_are_those_that_have_the_map(kind):
  found = map_examples.places(kind(HAS), MODULES)
  assert found["depth"].tolist() == [1, 3, 4]
  assert found["segmentation"].tolist() == [2, 3]


def test_of_a_source_that_says_what_is_alike_one_of_each_is_read():
  source = Telling(HAS)
  map_examples.places(source, MODULES)
  assert source.reads == [0, 1, 2, 3]
  both = mixture.Mixture((source, Telling(("ds",) * 50)))
  found = map_examples.places(both, MODULES)
  assert found["depth"].tolist() == [1, 3, 4, *range(6, 56)]
  assert len(both.sources[1].reads) == 1


def test_a_bad_sample_does_not_hide_what_the_others_have():
  found = map_examples.places(Telling(("d", "d", ""), bad={0}), MODULES)
  assert found["depth"].tolist() == [0, 1]
  with pytest.raises(UserError, match="sample 2 is cut"):
    map_examples.places(Telling(("d", "d", ""), bad={2}), MODULES)


def test_maps_are_read_of_those_that_have_them_and_none_is_left_out():
  found = map_examples.read_maps(Telling(HAS), MODULES)
  assert found["depth"].targets[:, 0, 0].tolist() == [2, 4, 5]
  assert found["segmentation"].targets[:, 0, 0].tolist() == [3, 4]
  assert found["depth"].objects.shape == (3, SIZE, SIZE)
  first = map_examples.read_maps(Telling(HAS), MODULES, count=1)
  assert first["depth"].targets[:, 0, 0].tolist() == [2]
  assert map_examples.read_maps(Telling(("", "")), MODULES) == {}


def test_an_example_takes_a_map_that_it_lacks_from_one_that_has_it():
  source = Telling(("d", "s", "s"))  # no sample has both
  places = map_examples.places(source, MODULES)
  build = map_examples.Build(tuple(MODULES), source, places)
  rng = np.random.default_rng(0)
  examples = [build(source[i % 3], rng) for i in range(60)]
  assert {e["depth"].flat[0] for e in examples} == {1}
  # of sample 0 both others, of samples 1 and 2 their own
  classes = [int(e["segmentation"].max()) for e in examples]
  assert set(classes[0::3]) == {2, 3}
  assert set(classes[1::3]) == {2} and set(classes[2::3]) == {3}


def test_one_object_alone_stands_before_what_its_list_calls_nothing(
  monkeypatch,
):
  monkeypatch.setattr(modalities.found()["segmentation"], "MARKS", 1.0)
  classes = np.full((SIZE, SIZE), 3, np.uint8)
  instances = np.eye(SIZE, dtype=np.uint8)
  one = Sample(
    id="a",
    source="x",
    image=np.zeros((SIZE, SIZE, 3), np.uint8),
    maps={"segmentation": classes},
    instances=instances,
  )
  build = map_examples.Build(("segmentation",), absent={"segmentation": 2})
  drawn = build(one, np.random.default_rng(0))["segmentation"]
  assert sorted(np.unique(drawn)) == [2, 3] and (drawn == 3).sum() == SIZE


def test_own_lines_say_which_maps_they_have(tmp_path):
  Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
  depth = np.full((4, 4), 2500, np.uint16)
  Image.fromarray(depth).save(tmp_path / "d.png")
  lines = [
    {"image": "a.png", "question": "Is it ?", "answer": "yes", "id": f"{i}"}
    | ({"depth": "d.png"} if i % 2 else {})
    for i in range(6)
  ]
  for i, line in enumerate(lines):  # one image a sample
    line["image"] = f"{i}.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / f"{i}.png")
  own = tmp_path / "train.jsonl"
  own.write_text("".join(json.dumps(line) + "\n" for line in lines))
  config = own_data.reading(tmp_path / "{split}.jsonl", image_size=SIZE)
  source = mixture.open_split(config, "train")
  found = map_examples.places(source, MODULES)
  assert found["depth"].tolist() == [1, 3, 5]
  assert not len(found["segmentation"])
