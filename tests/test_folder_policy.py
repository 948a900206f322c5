"""A policy that speaks a downloaded folder's text: sampled, scored, packed."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from cooper_jax import command, package, package_settings, policy
from cooper_jax.errors import UserError
from cooper_jax.inference import loading
from cooper_jax.models import token_kinds
from cooper_jax.rollouts.response import Responses
from cooper_jax.sequences import distribution, segments
from cooper_jax.tokenizers import text_files
from cooper_jax.training import workdir
from tests import tiny
from tests.rl import toy
from tests.sampling.test_exactness import run, trainer_log_probs
from tests.tokenizers import folders

ROWS = 700  # of the embedding, more than any of the tokenizers has tokens
QUESTIONS = (
  "Is it near ?",
  "Say <think> </think> <answer> yes </answer> <|im_end|> </s> <depth>",
)


@pytest.fixture(scope="module", params=["byte_level", "sentencepiece"])
def folder(request, tmp_path_factory):
  made = tmp_path_factory.mktemp("hub") / request.param
  return folders.write(made, request.param, rows=ROWS)


def config_of(folder, **changes):
  config = toy.CONFIG.copy_and_resolve_references()
  config.update(text_folder=str(folder), **changes)
  config.sampling.prompt_buckets = (96,)
  return config


@pytest.fixture(scope="module")
def made(folder):
  return policy.make_policy(config_of(folder))


def test_our_own_rows_are_behind_the_folders(folder, made):
  words, form = made.form.vocabulary, made.form
  assert (words.text, words.words) == (ROWS, made.text.size)
  assert words.specials == ROWS
  allowed = distribution.allowed_rows(form)
  assert allowed[: made.text.size].all()
  assert not allowed[made.text.size : ROWS].any()
  assert allowed.sum() == made.text.size + len(distribution.CHOSEN) + (
    form.model.locations
  )
  # Rows that a setting asks for on top; and fewer than there are tokens.
  larger = policy.make_policy(config_of(folder, text_rows=ROWS + 5))
  assert larger.form.vocabulary.text == ROWS + 5
  with pytest.raises(UserError, match=r"config\.text_rows is 9, the text"):
    policy.make_policy(config_of(folder, text_rows=9))


def test_no_row_without_a_token_may_be_chosen(made):
  words = dataclasses.replace(made.form.vocabulary, absent=(3, 7))
  form = dataclasses.replace(made.form, vocabulary=words)
  lost = distribution.allowed_rows(made.form) & ~distribution.allowed_rows(form)
  assert np.flatnonzero(lost).tolist() == [3, 7]


def test_tags_of_ours_in_a_question_are_words(made):
  """Neither our rows nor the folder's control tokens, and it reads back."""
  vocabulary, (_, question) = made.form.vocabulary, QUESTIONS
  ids = made.markup.request(question).ids
  assert ids[0] == vocabulary.special("<user>")
  assert ids[-1] == vocabulary.special("<assistant>")
  inner = ids[1:-1]
  assert (inner < made.text.size).all()
  assert not set(inner.tolist()) & set(made.text.ends)
  assert made.text.decode(inner) == " " + question


def test_an_answer_in_markup_reads_back(made):
  markup = "<think> the red ball <at 0.1 0.9> é 中 2.4 m </think>"
  markup += "<answer> yes </answer>"
  (said,) = made.markup.response(markup, None)
  state = np.full((1, len(said.ids)), token_kinds.TEXT)
  rollout = type("Rollout", (), {})()
  rollout.tokens, rollout.state = said.ids[None], state
  rollout.map_modality = np.full((1, 1), -1)
  rollout.codes = np.zeros((1, 1, 4), int)
  rollout.stop = rollout.group = rollout.sample_id = np.zeros(1, int)
  rollout.image_shape = None
  view = Responses.from_rollout(
    rollout,
    vocabulary=made.form.vocabulary,
    text_tokenizer=made.text,
    decode_maps=None,
  )
  # 0.1 and 0.9 of a grid of two cells lie in those whose middles are these.
  assert view.text == (
    "<think> the red ball <at 0.250 0.750> é 中 2.4 m </think>"
    " <answer> yes </answer>",
  )


@pytest.mark.ci
def test_sampled_and_scored_alike_and_no_row_of_no_token(made):
  form, model = made.form, made.model
  params = tiny.random_params(model, form, seed=3)
  # Rows of no token would be what a model says above all, if it could.
  head = "embedding" if form.model.tied_head else "head"
  rows = np.array(params["params"][head])
  rows[made.text.size : ROWS] *= 30
  params = {"params": dict(params["params"], **{head: rows})}
  rng = np.random.default_rng(1)
  trunks = [
    (segments.Image(tiny.random_image(rng, form)), made.markup.request(said))
    for said in QUESTIONS
  ]
  out = run(
    model, form, params, trunks, range(8), group=4, length=96,
    limits=made.limits,
  )  # fmt: skip
  said = out.tokens[out.state == token_kinds.TEXT]
  assert (said < made.text.size).sum() > 20
  assert not ((said >= made.text.size) & (said < ROWS)).any()
  found = trainer_log_probs(
    model, form, params, out, trunks, group=4, limits=made.limits
  )
  np.testing.assert_array_equal(np.isfinite(found), out.trainable)
  np.testing.assert_allclose(
    found[out.trainable], out.log_prob[out.trainable], atol=1e-5, rtol=1e-5
  )


def parse(folder, work, *changes):
  words = [f"--config.{each}" for each in changes]
  words += [f"--config.text_folder={folder}", f"--workdir={work}"]
  return command.parse(["--config=configs/grpo.py:smoke", *words]).config


def test_a_run_goes_on_with_its_own_tokenizer_alone(tmp_path):
  there = folders.write(tmp_path / "there")
  work = tmp_path / "work"
  config = parse(there, work)
  assert config.text_digest == text_files.digest(there)
  workdir.prepare(config, work)
  workdir.begin(config, work, "pretrain")
  # Elsewhere it is the same; and a run of before has none.
  moved = there.rename(tmp_path / "moved")
  workdir.check(parse(moved, work), work)
  other = parse(folders.write(tmp_path / "other", "metaspace"), work)
  for each in (other, parse("", work)):
    with pytest.raises(UserError, match=r"text_digest is \w+ there and"):
      workdir.check(each, work)
  # Another file in its place, when the run's policy is made again.
  folders.write(moved, "metaspace")
  with pytest.raises(UserError, match=f"made with {config.text_digest}"):
    parse(moved, work, f"text_digest={config.text_digest}")
  saved = workdir.read_config(work)
  saved.text_folder = str(moved)
  with pytest.raises(UserError, match=f"made with {config.text_digest}"):
    policy.make_policy(saved)


def test_a_run_goes_on_with_its_own_rows_alone(tmp_path):
  """They stand in the folder's config.json, which the digest does not cover."""
  there, work = folders.write(tmp_path / "there", rows=600), tmp_path / "work"
  config = parse(there, work)
  assert config.text_rows == 600
  assert parse(there, work, "text_rows=700").text_rows == 700
  assert parse("", work).text_rows == 0
  workdir.begin(config, workdir.prepare(config, work), "pretrain")
  folders.change(there, "config.json", vocab_size=640)
  with pytest.raises(UserError, match="text_rows is 600 there and 640 here"):
    workdir.check(parse(there, work), work)
  manifest = package.read_manifest(package.find("tiny"))
  del manifest["config"]["text_rows"]  # as older packages are
  there = package_settings._settings(manifest["config"], ())
  assert (there["text_digest"], there["text_rows"]) == ("", 0)


def test_an_older_run_and_package_speak_our_own_text(tmp_path):
  made = package.read_manifest(package.find("tiny"))["config"]
  old = {k: v for k, v in made.items() if not k.startswith("text_")}
  assert {*made} - {*old} == {"text_folder", "text_digest", "text_rows"}
  config = workdir.to_config(old)
  assert (config.text_folder, config.text_digest) == ("", "")
  with pytest.raises(UserError, match=r"text_digest is  there and \w+ here"):
    command.parse(
      [f"--config.text_folder={folders.write(tmp_path / 'f', rows=600)}"]
    )


def test_a_package_holds_its_tokenizer(tmp_path, monkeypatch):
  """It is loaded where the folder is not, and refuses another's text."""
  there = folders.write(tmp_path / "there", rows=ROWS)
  config = config_of(there, text_digest=text_files.digest(there))
  config.pipeline = package.STAGES
  work = workdir.prepare(config, tmp_path / "work")
  made = policy.make_policy(config)
  params = tiny.random_params(made.model, made.form, seed=0)
  for stage in package.STAGES:
    workdir.begin(config, work, stage)
    workdir.finish(config, work, stage, seconds=1.0)
  workdir.add_summary(work, {"depth/tokenizer_abs_rel": 0.5})
  # What lies in checkpoints is tested in test_package.py.
  monkeypatch.setattr(package, "load_stage", lambda *_: params)
  monkeypatch.setattr(package.tokenizer, "load", lambda *_: toy.codecs())
  monkeypatch.setattr(
    package.tokenizer, "trained_on", lambda _, codecs: list(codecs)
  )
  out = tmp_path / "packed"
  package.pack(work, out)
  there.rename(tmp_path / "gone")
  model = loading.load(out)
  assert model.policy.text.size == made.text.size
  assert model.policy.form.vocabulary == made.form.vocabulary
  jax.tree.map(np.testing.assert_array_equal, model.params, params)
  said = json.loads((out / "manifest.json").read_text())["config"]
  assert str(tmp_path) not in json.dumps(said["text_folder"])
  # It is a whole folder, and a run that begins with it speaks its text.
  for named in ("", out):
    again = config_of(named, init_from=str(out))
    package.take_text(again)
    assert (again.text_folder, again.text_rows) == (str(out), ROWS)
    assert package.check(again, out)
  again.text_rows += 1
  with pytest.raises(UserError, match=f"text_rows is {ROWS} there and"):
    package.check(again, out)
  with pytest.raises(UserError, match=r"config\.json that would be lost"):
    package.pack(work, work)
  folders.write(out, "metaspace")
  with pytest.raises(UserError, match=f"made with {config.text_digest}"):
    loading.load(out)
