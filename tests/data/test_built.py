"""A built folder that is damaged, of others or half done: one line each."""

import json
import shutil

import numpy as np
import pytest

from cooper_jax.data import build, shards, show, splits
from cooper_jax.errors import UserError
from cooper_jax.sample import Sample
from tests.data import layouts
from tests.data.test_build import config_of, made


def first_shard(manifest):
  return manifest["splits"]["train"]["shards"][0]


def beside(manifest):
  """Shards of another folder: a manifest may come from others."""
  for split in manifest["splits"].values():
    for shard in split["shards"]:
      shard["name"] = f"../whole/{shard['name']}"


SPOILT = {
  "beside": beside,
  "other split": lambda m: m["splits"].update(more=m["splits"].pop("test")),
  "no split": lambda m: m.update(splits={}),
  "list": lambda m: m.update(splits=[1]),
  "no shards": lambda m: m["splits"]["train"].pop("shards"),
  "no name": lambda m: first_shard(m).pop("name"),
  "count": lambda m: first_shard(m).update(count=9),
  "text": lambda m: first_shard(m).update(count="3"),
  "kinds": lambda m: first_shard(m).update(kinds=[0, 5, 0]),
  "no facts": lambda m: first_shard(m).pop(shards.RECORDS),
  "no maps": lambda m: m.pop("maps"),
  "no source": lambda m: m.pop("source"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  folder = tmp_path_factory.mktemp("built")
  made("ade20k", folder, workers=1)
  shutil.move(folder / "out", folder / "whole")
  return folder


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_manifest_of_another_form_is_damaged(spoil, whole, capsys):
  out = whole / "spoilt"
  shutil.rmtree(out, ignore_errors=True)
  shutil.copytree(whole / "whole", out)
  manifest = json.loads((out / shards.MANIFEST).read_text())
  spoil(manifest)
  (out / shards.MANIFEST).write_text(json.dumps(manifest))
  arguments = ["ade20k", f"--root={whole / 'raw'}", f"--out={out}", "--size=16"]
  assert build.main([*arguments, "--workers=1"]) == 2
  assert show.main(["built", f"--root={out}", "--json"]) == 2
  for said in capsys.readouterr().err.splitlines():
    assert f"{shards.MANIFEST} is damaged" in said


@pytest.mark.parametrize(
  "change",
  [
    {"shard_samples": 0},
    {"shard_samples": None},
    {"splits": {"train": {}}},
    {"splits": [1]},
  ],
  ids=str,
)
def test_a_plan_of_another_form_is_damaged(change, whole):
  out = whole / "planned"
  out.mkdir(exist_ok=True)
  plan = json.loads((whole / "whole" / shards.MANIFEST).read_text())
  plan |= {"shard_samples": 2} | change
  (out / shards.PLAN).write_text(json.dumps(plan))
  with pytest.raises(UserError, match=r"plan\.json is damaged"):
    build.build(config_of("ade20k", whole / "raw"), out, workers=1)


def test_a_build_killed_at_its_first_or_last_file_goes_on(tmp_path):
  layouts.WRITERS["ade20k"](tmp_path / "raw")
  config, out = config_of("ade20k", tmp_path / "raw"), tmp_path / "out"
  out.mkdir()
  (out / f"{shards.PLAN}.partial").write_text('{"splits"')
  build.build(config, out, workers=1, say=print)
  there = {path.name for path in out.iterdir()}
  # Its manifest is written, and what it needed until then is left.
  (out / shards.PLAN).write_text("{}")
  (out / "train-00000-of-00001.json").write_text("{}")
  build.build(config, out, workers=1, say=print)
  assert {path.name for path in out.iterdir()} == there


def test_a_set_that_lost_a_shard_is_not_built_already(whole):
  out = whole / "less"
  shutil.copytree(whole / "whole", out)
  (out / "test-00000-of-00001.array_record").unlink()
  with pytest.raises(UserError, match=r"test-00000-of-00001.*can't be read"):
    build.build(config_of("ade20k", whole / "raw"), out, workers=1)


def test_what_can_not_be_opened_leaves_no_folder(tmp_path):
  arguments = ["ade20k", f"--root={tmp_path / 'gone'}"]
  assert build.main([*arguments, f"--out={tmp_path / 'out'}"]) == 2
  assert not (tmp_path / "out").exists()


class Labelled:
  """Samples of noise, of one size packed; one has another label."""

  def __init__(self, label):
    self.label = label

  def __len__(self):
    return 40

  def __getitem__(self, index):
    rng = np.random.default_rng(index)
    labels = np.full((64, 64), self.label if index == 20 else 3, np.uint8)
    image = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    return Sample(str(index), "toy", image, maps={"segmentation": labels})


def test_other_samples_of_equal_sizes_are_another_source(tmp_path):
  names = []
  for label in (3, 4):
    folder = tmp_path / str(label)
    folder.mkdir()
    job = shards.ShardJob("train", 0, 1, 0, 40)
    facts = shards.write(folder, Labelled(label), job)
    manifest = {"source": "toy", "splits": {"train": {"shards": [facts]}}}
    names.append(repr(shards.BuiltSource(folder, "train", manifest)))
  # Their sizes and ends are the same: what tells them lies between.
  (one, other) = (
    shards.look(tmp_path / label / f"{job.name}{shards.RECORDS}")
    for label in "34"
  )
  assert one == other
  assert names[0] != names[1]


@pytest.mark.parametrize("given", [["-n", "-1"], ["--size=-1"]], ids=str)
def test_show_refuses_numbers_below_nothing(given, whole, capsys):
  with pytest.raises(SystemExit) as ended:
    show.main(["built", f"--root={whole / 'whole'}", *given])
  assert ended.value.code == 2
  assert "are 0 or more" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["own.jsonl", "{split}.jsonl"])
def test_bad_lines_of_own_data_are_told(name, tmp_path, capsys):
  lines = []
  for number in range(12):
    lines.append(
      {"image": f"{number}.png", "question": "Red ?", "answer": "yes"}
    )
    if number != 3:
      layouts.picture(tmp_path / f"{number}.png", number)
  for split in splits.NAMES:
    (tmp_path / name.format(split=split)).write_text(
      "\n".join(map(json.dumps, lines))
    )
  arguments = ["jsonl", f"--root={tmp_path / name}", "--size=16"]
  arguments += [f"--out={tmp_path / 'out'}", "--workers=1"]
  assert build.main([*arguments, "--bad_samples=0.2"]) == 0
  said = capsys.readouterr().out
  split = name != "own.jsonl"
  assert said.count("1 left out") == said.count(":4: image") == 1 + 2 * split
