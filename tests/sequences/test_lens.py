"""The lens in a prompt: told of a sample's own camera, and only where asked."""

import dataclasses
import json
import re

import numpy as np
import pytest
from PIL import Image

from configs import base
from cooper_jax import package, world
from cooper_jax.bench import step_wait
from cooper_jax.data import mixture, tasks, traces
from cooper_jax.data.entries import JsonlSource, read_entries
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.inference import images
from cooper_jax.models import token_kinds
from cooper_jax.policy import make_policy
from cooper_jax.rollouts import lengths, prompts
from cooper_jax.sample import Sample
from cooper_jax.sequences import lens, segments
from cooper_jax.settings import selection
from tests import tiny  # noqa: F401  sets the mesh
from tests.data.test_tasks import POLICY, SAMPLES, task, words

TELLING = dataclasses.replace(POLICY.markup, tell_lens=True)
# A focal length of 50 pixels: 50/60 of the width, 50/40 of the height.
CAMERA, SIDES = [50, 50, 30, 20], (60, 40)
TOLD = {
  "squash": "camera 0.82 1.3 :",
  "crop": "camera 1.3 :",  # of the 40 x 40 in the middle
  "pad": "camera 0.82 :",  # of 60 x 60
  "crop:24x32": "camera 0.91 1.3 :",  # of 53.3 x 40, no square for the model
}


def write(folder, camera=CAMERA):
  """A JSONL file of one wide picture, with its camera if there is one."""
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (*SIDES[::-1], 3)).astype(np.uint8)
  Image.fromarray(pixels).save(folder / "a.png")
  line = {"image": "a.png", "question": "How wide is it ?", "answer": "2 m"}
  line |= {"camera": camera} if camera else {}
  path = folder / "own.jsonl"
  path.write_text(json.dumps(line) + "\n")
  return path


@pytest.mark.parametrize("fit", TOLD)
def test_the_lens_is_that_of_the_fitted_picture(tmp_path, fit):
  path = write(tmp_path)
  (sample,) = JsonlSource(path, read_entries(path), 32, fit=fit)
  assert lens.told(sample.camera, 32) == TOLD[fit]
  whole = Sample(
    id="a",
    source="own",
    image=np.asarray(Image.open(tmp_path / "a.png")),
    camera=np.array([[50, 0, 30], [0, 50, 20], [0, 0, 1.0]], np.float32),
  )
  for one in (whole, sample):  # fitted when it is asked about, and before
    asked = images.read(one, 32, fit=fit)
    np.testing.assert_allclose(asked.camera, sample.camera)


def test_a_picture_of_unknown_camera_tells_nothing(tmp_path):
  path = write(tmp_path, camera=None)
  (sample,) = JsonlSource(path, read_entries(path), 32)
  assert lens.told(sample.camera, 32) == ""
  ids = POLICY.markup.request("How wide is it ?").ids
  np.testing.assert_array_equal(
    TELLING.request("How wide is it ?", sample).ids, ids
  )
  assert images.read(sample, 32).camera is None


def test_every_number_of_a_lens_is_one_token():
  for focal in 0.5 / np.tan(np.radians(np.linspace(2, 156, 200) / 2)):
    camera = np.diag([64 * focal, 64 * focal, 1])
    told = lens.told(camera, 64)
    assert len(POLICY.text.encode(" " + told)) == 3
    # Numbers are up to 15 % apart (1.3, 1.5): at most half of that off.
    number = float(lens.LENS.fullmatch(told)[1])
    assert abs(np.log(number / focal)) <= np.log(1.5 / 1.3) / 2
  longest = POLICY.text.encode(" " + lens.LONGEST_LENS)
  for far in (1e-3, 1e3):
    camera = np.diag([64 * far, 128 * far, 1])
    told = lens.told(camera, 64)
    assert len(POLICY.text.encode(" " + told)) <= len(longest)


def telling(made, tell=True):
  return dataclasses.replace(
    made, markup=dataclasses.replace(made.markup, tell_lens=tell)
  )


def rows(tell, samples=SAMPLES):
  """Rows of pretraining and of SFT, and the prompts of all questions."""
  pretrain = task(
    tasks.MapTask,
    titles=(("depth", "Depth map"), ("segmentation", "Segmentation map")),
    single_object=0.3,
  )
  sft = task(
    tasks.ReasoningTask, shares=(("text", 0.5), ("both", 0.5)), corrupted=0.1
  )
  asking = dataclasses.replace(
    POLICY, markup=dataclasses.replace(POLICY.markup, tell_lens=tell)
  )
  made = [
    telling(each, tell)(sample, np.random.default_rng(i))
    for i, sample in enumerate(samples)
    for each in (pretrain, sft)
  ]
  trunks = [
    prompts.trunk_of(prompts.Item(sample, question), asking)[1].ids
    for sample in samples
    for question in sample.questions
  ]
  return made, trunks


def test_nothing_is_told_unless_it_is_asked_for():
  bare = [dataclasses.replace(each, camera=None) for each in SAMPLES]
  for one, other in zip(rows(False), rows(True, bare), strict=True):
    for a, b in zip(one, other, strict=True):
      if isinstance(a, dict):
        assert all(np.array_equal(a[name], b[name]) for name in a)
      else:
        np.testing.assert_array_equal(a, b)


def test_each_request_of_a_row_and_each_prompt_begins_with_the_lens():
  made, trunks = rows(True)
  user = POLICY.form.vocabulary.special("<user>")
  for i, row in enumerate(made):
    ids = np.where(row["kind"] == token_kinds.TEXT, row["ids"], -1)
    begins = np.flatnonzero(ids == user)
    assert begins.size > 2
    told = POLICY.text.encode(" " + lens.told(SAMPLES[i // 2].camera, 64))
    for start in begins + 1:
      assert ids[start : start + len(told)].tolist() == told
  told = [lens.told(s.camera, 64) for s in SAMPLES for _ in s.questions]
  assert len({*told}) > 1
  for ids, begins in zip(trunks, told, strict=True):
    assert " ".join(words(ids)).startswith(f"<user> {begins}")
  drawn = TELLING.request("Draw the depth map .", SAMPLES[0])
  assert lens.LENS.search(" ".join(words(drawn.ids)))


def test_a_prompt_has_room_for_the_longest_lens():
  config = base.get_base("smoke", ("tokenizer", "pretrain", "sft", "grpo"))
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.sampling.prompt_buckets = (96,)
  text = "red " * 28  # with <user>, 29 tokens of the 32 beside the image
  assert not lengths._prompt_problem(config, make_policy(config), text)
  config.data.tell_lens = True
  policy = make_policy(config)
  line = lengths._prompt_problem(config, policy, text, "here")
  assert re.match("here: .* largest .* leaves 32 beside", line)
  for sample in SAMPLES:
    question = sample.questions[0]
    branch = (
      policy.markup.request(question.text, sample),
      *policy.markup.response(traces.compose(question, None), None),
    )
    asked = lengths.Asked(dataclasses.replace(question, reasoning=""), "", ())
    length, _ = lengths.longest(config, policy, asked)
    own = segments.measure(segments.Document(branch), policy.form)[0]
    assert own < length


def test_the_plan_says_that_a_source_has_no_camera(tmp_path):
  config = base.get_base("smoke", ("tokenizer", "pretrain"))
  config = config.copy_and_resolve_references()
  config.data.source = "jsonl"
  config.data.tell_lens = True
  config.data.settings.jsonl.path = str(write(tmp_path))
  assert not selection.check_data(config)
  write(tmp_path, camera=None)
  (line,) = selection.check_data(config)
  assert "no image of jsonl has a camera" in line
  config.data.tell_lens = False
  assert not selection.check_data(config)


class Unread:
  """A source of its own: its samples have to be read."""

  def __init__(self, *cameras):
    self.cameras_of = cameras

  def __len__(self):
    return len(self.cameras_of)

  def __getitem__(self, index):
    if isinstance(self.cameras_of[index], str):
      raise UserError("bad")
    return Sample(
      id=str(index),
      source="own",
      image=np.zeros((4, 4, 3), np.uint8),
      camera=self.cameras_of[index],
    )


def test_no_picture_is_read_to_know_that_none_has_a_camera(tmp_path):
  config = base.get_base("smoke", ("tokenizer", "pretrain"))
  config = config.copy_and_resolve_references()
  config.data.source = "jsonl"
  config.data.tell_lens = True
  config.data.settings.jsonl.path = str(write(tmp_path, camera=None))
  data = DataConfig.from_config(config)
  opened = mixture.open_split(data, "train")
  (tmp_path / "a.png").unlink()
  assert not mixture.has_cameras(opened)
  assert not mixture.has_cameras(mixture.tolerant(opened, 0.5))
  assert not mixture.has_cameras(mixture.Mixture((opened, opened)))


def test_any_camera_of_any_source_counts():
  one, none = Unread(None, np.eye(3, dtype=np.float32)), Unread(None, None)
  assert mixture.has_cameras(one) and not mixture.has_cameras(none)
  assert mixture.has_cameras(mixture.Mixture((none, one)))
  bad = mixture.tolerant(Unread(None, "bad", None), 0.5)
  assert not mixture.has_cameras(bad)


def test_a_built_set_says_whether_it_has_cameras(tmp_path):
  for name, asked in (("one", Unread(np.eye(3, dtype=np.float32), None)),
                      ("none", Unread(None, None))):  # fmt: skip
    folder = tmp_path / name
    folder.mkdir()
    built = step_wait.built(folder, asked)
    assert mixture.has_cameras(built) == (name == "one")
    for facts in built._shards:  # as it was built before
      assert facts.pop("cameras") in (True, False)
    assert mixture.has_cameras(built) == (name == "one")


def test_a_package_that_was_told_the_lens_is_not_asked_without():
  config = base.get_base("tiny", ("grpo", "evaluate"))
  config = config.copy_and_resolve_references()
  folder = package.find("tiny")
  package.check(config, folder)
  config.data.tell_lens = False
  with pytest.raises(UserError, match="tell_lens is True there and False"):
    package.check(config, folder)


def test_a_scene_in_memory_keeps_its_camera(tmp_path):
  from cooper_jax.world import cache

  config = world.WorldConfig(image_size=16, shaded=False)
  path = cache.build(config, split="train", count=2, root=tmp_path, workers=1)
  source = cache.CachedSource(path)
  memory = cache.MemorySource(cache.load_arrays(source), "world")
  for i in range(2):
    assert lens.told(memory[i].camera, 16) == lens.told(source[i].camera, 16)
    assert re.fullmatch(r"camera [\d.]+ :", lens.told(memory[i].camera, 16))
