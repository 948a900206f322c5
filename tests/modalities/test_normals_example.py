"""The new modality of docs/extend.md is all that a modality is, in one file."""

import json
import pathlib
import re
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import base
from cooper_jax import modalities, plugins
from cooper_jax.data import map_files, modes, traces
from cooper_jax.data.entries import JsonlSource, read_entries, scan
from cooper_jax.errors import UserError
from cooper_jax.eval import questions, stage_scores
from cooper_jax.policy import make_policy
from cooper_jax.report import answer_page, gallery, gallery_image
from cooper_jax.rollouts import prompts
from cooper_jax.rollouts.response import DrawnMap, Responses
from cooper_jax.sample import Question, Sample
from tests.report import fake_run

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "extend.md"
NAMES = ("depth", "segmentation", "normals")


@pytest.fixture(name="normals")
def fixture_normals(tmp_path, monkeypatch):
  """The example as a file of the folder of modalities."""
  text = re.search(
    r'```python\n("""Surface normals.*?)```', PAGE.read_text(), re.DOTALL
  )
  assert len([line for line in text[1].splitlines() if line.strip()]) <= 40
  folder = tmp_path / "more"
  folder.mkdir()
  (folder / "normals.py").write_text(text[1])
  found = [*modalities.__path__, str(folder)]
  monkeypatch.setattr(modalities, "__path__", found)
  yield plugins.find("modalities", "normals")
  del sys.modules["cooper_jax.modalities.normals"]
  del modalities.normals


def up(size=8):
  """Floor below (up), a wall facing the camera above."""
  target = np.zeros((size, size, 3), np.float32)
  target[: size // 2] = (0, 0, -1)
  target[size // 2 :] = (0, -1, 0)
  return target


def test_it_offers_the_whole_contract_and_its_own_slot(normals):
  parts = (*modalities.REQUIRED, *modalities.OPTIONAL)
  assert all(hasattr(normals, part) for part in parts)
  assert modalities.names() == NAMES
  assert normals.REQUEST == "Normals" and normals.NOUN == "normals"


def test_it_scores_angles(normals):
  target = up()
  sample = Sample("a", "test", target, maps={"normals": target})
  assert normals.read(sample) is target
  total, weight = normals.loss(3.0 * jnp.asarray(target)[None], target[None])
  assert float(total / weight) == pytest.approx(0.0, abs=1e-5)
  # A quarter of the pixels is 90 degrees off.
  wrong = target.copy()
  wrong[:2] = (0, -1, 0)
  stats = normals.statistics(wrong[None], target[None])
  assert normals.metrics(stats)["degrees"] == pytest.approx(22.5)
  assert normals.quality(wrong, target) == pytest.approx(0.5)
  assert normals.quality(target, target) == pytest.approx(1.0)
  assert normals.quality(np.ones_like(target) / 3**0.5, target) == 0.0


def test_it_ignores_unknown_pixels(normals):
  target = up()
  target[:2] = 0
  drawn = up()
  drawn[:2] = (1, 0, 0)
  stats = normals.statistics(drawn[None], target[None])
  assert normals.metrics(stats)["degrees"] == pytest.approx(0.0, abs=1e-3)


def test_it_is_a_mode_that_traces_draw_and_policies_are_held_to(normals):
  del normals
  taken = ("direct", "text", *NAMES, "both", "adaptive")
  assert modes.every() == taken
  question = Question("closer", "?", "yes", "yes_no", reasoning="it is so")
  trace = traces.compose(question, ("normals",))
  assert trace.startswith("<think> show the slopes </think> <normals> <think>")
  config = base.get_base("smoke", ("sft",))
  # Locked: only keys that are there can be set.
  config.sft.shares.normals = 0.3
  config.pretrain.modality_weights.normals *= 2
  config.modalities = NAMES
  policy = make_policy(config)
  held = prompts.modes_of(policy, config.sft.shares)
  assert "normals" in held and "segmentation" not in held  # of share 0
  mode = prompts.mode_of("normals", policy)
  call = prompts.call("normals", policy)
  assert mode.script == (call,) and len(call) > 8  # letters: no known word
  assert (mode.forced(policy.limits)[0] == call).all()


def test_two_calls_that_begin_alike_are_refused(normals):
  normals.CALL = "find the slopes"  # as segmentation's does
  config = base.get_base("smoke", ("sft",))
  config.modalities = NAMES
  with pytest.raises(UserError, match="begins with the same token"):
    make_policy(config)


def test_its_quality_is_a_reward_of_its_name(normals):
  del normals
  module = plugins.find("rewards", "normals")
  drawn = DrawnMap("normals", np.zeros(4, int), up())
  view = Responses.from_texts(["x", "y"], maps=[(drawn,), ()])
  rewards = module.reward(view, {"normals": (up(), up())}, module.Config())
  np.testing.assert_allclose(rewards, [1.0, np.nan])
  assert base.defaults().grpo.rl.settings.normals.modality == "normals"


def own(folder, **line):
  """A JSONL file of one line about a picture 8 wide and 6 high."""
  Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(folder / "a.png")
  np.save(folder / "a.npy", up(8)[1:7])
  fields = {"image": "a.png", "question": "Is it flat ?", "answer": "no"}
  path = folder / "own.jsonl"
  path.write_text(json.dumps(fields | line))
  return path


def test_it_is_read_from_own_data(normals, tmp_path):
  del normals
  path = own(tmp_path, normals="a.npy", reasoning="<normals> it is not")
  source = JsonlSource(path, read_entries(path), 16)
  read = source[0].maps["normals"]
  assert read.shape == (16, 16, 3) and read.dtype == np.float32
  assert (read[:8] == (0, 0, -1)).all() and (read[8:] == (0, -1, 0)).all()
  assert source[0].questions[0].needs == ("normals",)
  np.save(tmp_path / "a.npy", up()[..., 0])
  with pytest.raises(UserError, match=r"own.jsonl:1: normals .* write an arr"):
    map_files.check("normals", tmp_path / "a.npy", f"{path}:1")
  (problem,) = scan(own(tmp_path, normal="a.npy"))[1]
  assert "unknown key 'normal'" in problem and '"normals"' in problem


def test_without_the_file_its_key_is_refused(tmp_path):
  (problem,) = scan(own(tmp_path, normals="a.npy"))[1]
  assert "unknown key 'normals'" in problem


def test_its_maps_are_shown(normals):
  row = fake_run.row(1)
  row["maps"]["normals"] = (up(64), None)
  page = gallery.gallery([row])
  assert "<figcaption>true normals" in page
  assert "<figcaption>drawn normals" not in page
  assert '<i class="tag map">normals</i>' in gallery.trace("<normals>")[0]
  plain = gallery_image.gallery_picture([fake_run.row(1)])
  assert gallery_image.gallery_picture([row]).shape[1] > plain.shape[1]
  photo = np.zeros((64, 64, 3), np.uint8)
  shown, bare = (
    answer_page.page(photo, maps, [], "?", [], over=False)
    for maps in ([(normals, up(64))], [])
  )
  assert shown.shape[1] > bare.shape[1]


def test_evaluation_shows_the_maps_in_use(normals):
  del normals
  sample = Sample("a", "test", up(), maps={"normals": up()})
  question = Question("closer", "?", "yes", "yes_no")
  item = prompts.Item(sample, question)
  drawn = DrawnMap("normals", np.zeros(4, int), up())
  view = Responses.from_texts(["<answer> yes </answer>"], maps=[(drawn,)])
  found = {"adaptive": questions.graded(view, [item])}
  modules = {name: plugins.find("modalities", name) for name in NAMES}
  (row,) = stage_scores.show([item], found, 1, modules)
  assert row["maps"]["depth"] == (None, None)
  assert all(each is not None for each in row["maps"]["normals"])
