"""A question too long for a prompt or a row is refused before any stage."""

import importlib
import json
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from configs import base
from cooper_jax import main, plugins
from cooper_jax.data import mixture, traces
from cooper_jax.data.sources import DataConfig, world
from cooper_jax.errors import UserError
from cooper_jax.eval.benchmarks import embedded
from cooper_jax.policy import make_policy
from cooper_jax.rollouts import lengths
from cooper_jax.sequences import segments
from cooper_jax.world import WorldConfig, generate
from cooper_jax.world.questions import families, rephrasing
from tests import tiny  # noqa: F401  sets the mesh

ALL = ("sft", "grpo", "evaluate")
LINE = {"image": "a.png", "question": "Which is closer ?", "answer": "red ball"}


def own(folder, *lines, split="train", **changes):
  """Config for data of one's own; its pictures are never opened.

  The lines are those of a split, after a short one that every split has.
  """
  path = folder / "own-{split}.jsonl"
  for name in ("train", "validation", "test"):
    made = [LINE, *(LINE | x for x in lines if name == split)]
    text = "".join(json.dumps(x) + "\n" for x in made)
    (folder / f"own-{name}.jsonl").write_text(text)
  config = base.get_base("smoke", ("tokenizer", "pretrain", *ALL))
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.data.source = "jsonl"
    config.data.settings.jsonl.path = str(path)
    for name, value in changes.items():
      config[name].update(value)
  return config


def words(count):
  """A question of so many tokens, by words that are one token each."""
  return " ".join(["red"] * count)


@pytest.mark.parametrize("stages", [("grpo",), ("evaluate",), ("sft",), ALL])
def test_a_question_that_fits_passes_and_pictures_are_not_read(
  tmp_path, stages
):
  made = own(tmp_path, {"image": "no.png"})
  lengths.check(made, stages)


# The smoke config has prompts of 160: 64 of the image, 96 for the question and
# its <user>; one token more is refused.
@pytest.mark.parametrize(
  ("split", "stage", "count", "refused"),
  [
    ("train", "grpo", 95, False),
    ("train", "grpo", 96, True),
    ("test", "evaluate", 95, False),
    ("test", "evaluate", 96, True),
    ("test", "grpo", 4000, False),  # not asked there
    ("train", "pretrain", 4000, False),
  ],
)
def test_prompts_hold_a_question_to_the_last_token(
  tmp_path, split, stage, count, refused
):
  line = {"image": "b.png", "question": words(count)}
  config = own(tmp_path, line, split=split)
  if not refused:
    lengths.check(config, [stage])
    return
  with pytest.raises(UserError) as error:
    lengths.check(config, [stage])
  said = str(error.value)
  assert said.startswith(f"{tmp_path}/own-{split}.jsonl:2: ")
  assert "97 tokens" in said and "leaves 96" in said and "\n" not in said
  assert "config.sampling.prompt_buckets=(160, 192)" in said
  with config.unlocked():  # what is advised works
    config.sampling.prompt_buckets = (160, 192)
  lengths.check(config, [stage])


def test_options_that_the_question_does_not_name_count(tmp_path):
  options = [words(60), words(30), "red ball"]
  line = {"image": "b.png", "question": words(10), "options": options}
  made = own(tmp_path, line)
  with pytest.raises(UserError, match=r"largest of config\.sampling"):
    lengths.check(made, ["grpo"])


def test_families_that_grpo_does_not_ask_may_be_long(tmp_path):
  lines = {"family": "short"}, {"family": "tall", "question": words(200)}
  made = own(tmp_path, *lines, grpo={"families": ("short",)})
  lengths.check(made, ["grpo"])
  with pytest.raises(UserError, match="takes 201 tokens"):
    lengths.check(own(tmp_path, *lines), ["grpo"])


@pytest.mark.parametrize(
  ("line", "sft", "advised"),
  [
    # A bin has 224: request, <answer> red ball </answer> <eos>.
    ({"question": words(300)}, {}, "bin"),
    ({"reasoning": words(300)}, {}, "bin"),
    # Two maps take 148; without them it would fit.
    ({"reasoning": words(80), "depth": "d.png", "segmentation": "s.png"}, {},
     "bin"),
    ({"reasoning": words(150)}, {"texts": 100}, "texts"),
  ],
)  # fmt: skip
def test_a_trace_that_no_row_holds_is_refused(tmp_path, line, sft, advised):
  config = own(tmp_path, line | {"image": "b.png"}, sft=sft)
  said = rf"own-train.jsonl:2: .*config\.sft\.{advised}"
  with pytest.raises(UserError, match=said) as error:
    lengths.check(config, ["sft"])
  value = int(str(error.value).rpartition("=")[2])
  with config.unlocked():  # what is advised works
    config.sft.update({advised: value, "texts": max(value, 320)})
  lengths.check(config, ["sft"])


def test_a_trace_without_maps_has_the_room_that_maps_would_take(tmp_path):
  made = own(tmp_path, {"image": "b.png", "reasoning": words(80)})
  lengths.check(made, ["sft"])


@pytest.mark.parametrize(
  "changes",
  [
    {"data": {"image_size": 128}},
    {"sampling": {"prompt_buckets": (64,)}},
    {"sft": {"bin": 160}},
  ],
)
def test_the_world_is_refused_where_its_longest_does_not_fit(changes):
  config = base.get_base("smoke", ALL).copy_and_resolve_references()
  with config.unlocked():
    for name, value in changes.items():
      config[name].update(value)
  with pytest.raises(UserError, match=r"config\.s"):
    lengths.check(config, ALL)


def pictures(folder):
  """Those of the lines; where some samples may be bad, each is decoded."""
  for name in ("a", "b", "c"):
    Image.new("RGB", (16, 16)).save(folder / f"{name}.png")


LONG = {"image": "b.png", "question": words(200), "reasoning": words(300)}


@pytest.mark.parametrize(
  ("split", "stage"),
  [("train", "grpo"), ("train", "sft"), ("test", "evaluate"),
   ("validation", "grpo")],
)  # fmt: skip
def test_too_long_questions_are_left_out_up_to_a_share(
  tmp_path, capsys, split, stage
):
  pictures(tmp_path)
  config = own(tmp_path, LONG, {"image": "c.png"}, split=split)
  config.grpo.validate_every = 2
  config.data.bad_samples = 0.34
  lengths.check(config, [stage])
  said = capsys.readouterr().err
  assert said.startswith(f"left out: {tmp_path}/own-{split}.jsonl:2: ")
  assert said.count("\n") == 1
  config.data.bad_samples = 0.32
  with pytest.raises(UserError) as error:
    lengths.check(config, [stage])
  assert f"own-{split}.jsonl:2: " in str(error.value)
  assert "1 of 3 questions are bad; config.data.bad_samples=0.32" in str(
    error.value
  )


@pytest.mark.parametrize("name", ["validate_every", "flag_questions"])
def test_the_validation_split_counts_where_it_is_asked(tmp_path, name):
  config = own(tmp_path, LONG, split="validation")
  config.grpo.update(validate_every=0, flag_questions=0)
  lengths.check(config, ["grpo"])
  config.grpo[name] = 2
  with pytest.raises(UserError, match=r"own-validation\.jsonl:2: "):
    lengths.check(config, ["grpo"])


def test_no_stage_asks_what_was_left_out(tmp_path):
  pictures(tmp_path)
  lines = [
    {"image": "a.png", "question": f"is {words(n)} near ?"}
    for n in (200, 5, 200, 9)
  ]
  config = own(tmp_path, *lines, split="test")
  every = embedded.items(config)
  config.data.bad_samples = 0.5
  left = embedded.items(config)
  short = [item for item in every if len(item.question.text) < 100]
  assert len(every) == 5
  assert {i.question.text for i in left} == {i.question.text for i in short}
  assert len(left) == 3
  # Seen by who counts the questions alone, too.
  source = mixture.open_tolerant(DataConfig.from_config(config), "test")
  fitting = lengths.fitting(config, source)
  for index, sample in enumerate(fitting):
    assert fitting.questions(index) == sample.questions
  config.data.bad_samples = 0.0
  assert lengths.fitting(config, source) is source


VARIANTS = ("tiny", "long", "scratch", "smoke", "0p6b", "7b", "7b_mot")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_config_has_room_for_the_world(variant):
  module = importlib.import_module("configs.evaluate")
  config = module.get_config(variant)
  lengths.check(config, ALL)


def longest_of(policy, question):
  """Tokens of the request, and of all with both maps in it."""
  response = policy.markup.response(
    traces.compose(question, ("depth", "segmentation")),
    lambda *_: segments.Map(0, np.zeros(64, int)),
  )
  request = policy.markup.request(question.text)
  document = segments.Document((request, *response))
  return len(request.ids), *segments.measure(document, policy.form)[:2]


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_no_question_of_the_world_is_longer_than_it_says(split):
  policy = make_policy(base.get_base("long", ("sft",)))
  made = generate(WorldConfig(), split=split, start=0, count=10)
  found = [longest_of(policy, q) for s in made for q in s.questions]
  said = [
    longest_of(policy, question) for question, _, _ in world.asked(None, split)
  ]
  assert (np.max(found, axis=0) <= np.max(said, axis=0)).all()
  # And little longer, or it would refuse what fits.
  assert (np.max(found, axis=0) >= np.max(said, axis=0) - 8).all()


def test_no_wording_of_the_world_is_longer_than_it_says():
  policy = make_policy(base.get_base("long", ("sft",)))
  fill = dict(
    a="red box", b="red can", c="red ball", t="1.0", side="in front of"
  )
  texts = [
    text.format(**fill)
    for family in families.names()
    for text in families.find(family).TEMPLATES
  ]
  most = max(len(policy.markup.request(text).ids) for text in texts)
  said = [q.text for q, _, _ in world.asked(None, "train")]
  assert most == max(len(policy.markup.request(text).ids) for text in said)


SOURCE = '''
"""A source that does not say what it asks: it is read sample by sample."""
import numpy as np
from cooper_jax.sample import Question, Sample

def source(config, split):
  image = np.zeros((8, 8, 3), np.uint8)
  return [
    Sample(f"s{i}", "toy", image, questions=(Question(
      "x", "red " * (5 + 100 * (i == 3)), "yes", "yes_no", reasoning="red"),))
    for i in range(5)
  ]
'''


def test_a_source_that_does_not_say_is_read(tmp_path, monkeypatch):
  (tmp_path / "toy_source.py").write_text(SOURCE)
  package = plugins._package("sources")
  monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
  monkeypatch.delitem(sys.modules, "cooper_jax.data.sources.toy_source", False)
  made = own(tmp_path, data={"source": "world,toy_source"})
  with pytest.raises(UserError, match=r"toy_source sample s3: .*106 tokens"):
    lengths.check(made, ["grpo"])


def test_a_run_refuses_before_it_trains(tmp_path, capsys):
  Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
  path = tmp_path / "own.jsonl"
  path.write_text(json.dumps(LINE | {"question": "is it red " * 2000}) + "\n")
  root = pathlib.Path(__file__).parents[2]
  work = tmp_path / "work"
  asked = [
    f"--config={root / 'configs' / 'grpo.py'}:smoke", f"--workdir={work}",
    "--config.data.source=jsonl", f"--config.data.settings.jsonl.path={path}",
    "--config.pretrain.batch=8", "--config.sft.batch=8",
    "--compile_cache=off",
  ]  # fmt: skip
  assert main.main(asked) == 2
  note, said = capsys.readouterr().err.splitlines()
  assert "too few images" in note and len(said) < 600
  assert f"{path}:1: " in said and "6001 tokens" in said
  assert "config.sampling.prompt_buckets (160) leaves 96" in said
  assert not (work / "tokenizer").exists()


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_questions_are_looked_at_in_the_words_of_the_stage(stage, monkeypatch):
  (sample,) = generate(WorldConfig(), split="train", start=0, count=1)
  every = [lengths.Asked(q, "here", ()) for q in sample.questions]
  monkeypatch.setattr(lengths, "of_split", lambda data, split: iter(every))
  seen = []
  for name in ("_prompt_problem", "_trace_problem"):
    look = lambda config, policy, asked, where="": seen.append(asked)  # noqa: E731
    monkeypatch.setattr(lengths, name, look)
  config = base.get_base("smoke", ("tokenizer", "pretrain", "sft", "grpo"))
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config[stage].phrasings = "heldout"
  lengths.check(config, [stage])
  texts = [getattr(each, "question", each) for each in seen]
  texts = [getattr(each, "text", each) for each in texts]
  texts = [text for text in texts if not text.startswith("Draw")]  # a map
  held = rephrasing.rephrased(sample.questions)
  assert held and texts == [question.text for question in held]
  assert not {*texts} & {question.text for question in sample.questions}
