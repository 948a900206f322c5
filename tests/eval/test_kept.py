"""A packaged model's evaluation is kept as long as nothing has changed."""

import dataclasses
import gzip
import json
import os
import subprocess
import sys
import types

import numpy as np
import pytest

from configs import grpo
from cooper_jax.eval import kept, own_code, stage_scores
from cooper_jax.eval.benchmark import Benchmark
from cooper_jax.eval.stage_scores import Found, QuestionSet, Speaker
from cooper_jax.rollouts.prompts import Item
from cooper_jax.sample import Question, Sample
from cooper_jax.stages import evaluate
from cooper_jax.training import stage_settings, workdir


def item(name, answer="yes"):
  image = np.full((4, 4, 3), 7, np.uint8)
  maps = {"depth": np.full((4, 4), 2.5, np.float32)}
  question = Question("exists", "Is there a can?", answer, "yes_no")
  return Item(Sample(name, "test", image, maps=maps), question)


def asked():
  own = Benchmark("embedded", types.ModuleType("own"), [item("a")], None)
  other = Benchmark("coins", types.ModuleType("coins"), [item("b")], None)
  return QuestionSet(own, {"coins": other}, [item("c")], [item("d").sample])


def speaker():
  form = types.SimpleNamespace(model="layers=1")
  policy = types.SimpleNamespace(form=form, limits="text=8")
  codec = types.SimpleNamespace(params={"w": np.zeros(3, np.float32)})
  codecs = {"depth": codec}
  params = {"a": {"b": np.arange(4, dtype=np.float32)}}
  return Speaker("sft", policy, params, codecs, dict(codecs))


def result():
  row = {
    "question": "Is there a can?",
    "options": ["yes", "no"],
    "hit": True,
    "image": np.arange(48, dtype=np.uint8).reshape(4, 4, 3),
    "maps": {"depth": [np.full((4, 4), 0.1, np.float32), None]},
  }
  return Found(
    summary={"qa/accuracy/sft": 1 / 3, "qa/accuracy/sft/ci95": [0.1, 1e-17]},
    files={"sft.jsonl": '{"text": "\u00e9"}\n'},
    hits={"direct": [1.0, 0.0]},
    benchmarks={"coins": [1.0]},
    unseen=[0.0],
    gallery=[row],
  )


@pytest.fixture(autouse=True)
def asking(tmp_path, monkeypatch):
  """The times that the policy was asked; what is kept lies in `tmp_path`."""
  times = []

  def measure(*_):
    times.append(1)
    return result()

  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  monkeypatch.setattr(stage_scores, "measure", measure)
  monkeypatch.setattr(own_code, "has_changed", lambda: False)
  return times


def settings(**changes):
  config = grpo.get_config("smoke").copy_and_resolve_references()
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  return config


def again(config=None, questions=None, who=None):
  return kept.measure(
    config or settings(), questions or asked(), who or speaker(), package="tiny"
  )


def entries():
  return sorted(kept.folder().glob("*.json.gz"))


def test_what_is_kept_is_what_was_found(asking, capsys):
  first, said = again()
  assert said == "" and len(asking) == 1
  second, said = again()
  assert len(asking) == 1
  (path,) = entries()
  assert str(path) in said and said in capsys.readouterr().out
  assert second.summary == first.summary and second.hits == first.hits
  assert second.files == first.files and second.unseen == first.unseen
  assert second.benchmarks == first.benchmarks
  (one,), (other,) = first.gallery, second.gallery
  np.testing.assert_array_equal(other["image"], one["image"])
  assert other["image"].dtype == np.uint8
  np.testing.assert_array_equal(other["maps"]["depth"][0], np.float32(0.1))
  assert other["maps"]["depth"][1] is None
  assert other["options"] == one["options"] and other["hit"] is True


def test_grpo_and_where_a_run_lies_change_nothing(asking):
  again()
  again(settings(**{"grpo.steps": 9, "data.cache": "/x", "sft.log_every": 3}))
  assert len(asking) == 1


def _with_item(**fields):
  questions = asked()
  (one,) = questions.own.items
  changed = dataclasses.replace(
    one, question=dataclasses.replace(one.question, **fields)
  )
  own = dataclasses.replace(questions.own, items=[changed])
  return dict(questions=dataclasses.replace(questions, own=own))


def _with_pixel():
  questions = asked()
  questions.unseen[0].sample.image[0, 0, 0] += 1
  return dict(questions=questions)


def _with_map():
  questions = asked()
  questions.validation[0].maps["depth"][0, 0] += 1e-3
  return dict(questions=questions)


def _with_other_benchmark():
  questions = asked()
  questions.others["coins"].items[0] = item("b", answer="no")
  return dict(questions=questions)


def _with_params():
  who = speaker()
  who.params["a"]["b"].view(np.uint8)[0] ^= 1
  return dict(who=who)


def _with_codec():
  who = speaker()
  who.codecs["depth"].params["w"].view(np.uint8)[0] ^= 1
  return dict(who=who)


@pytest.mark.parametrize(
  "change",
  [
    _with_params,
    _with_codec,
    _with_pixel,
    _with_map,
    _with_other_benchmark,
    lambda: _with_item(text="Is there a ball?"),
    lambda: _with_item(value=1.0),
    lambda: dict(config=settings(**{"evaluate.batch": 24})),
    lambda: dict(config=settings(**{"sampling.text": 23})),
    lambda: dict(config=settings(**{"sft.shares.direct": 0.2})),
    lambda: dict(config=settings(precision="bf16")),
    lambda: dict(who=dataclasses.replace(speaker(), trained={})),
    lambda: dict(
      who=dataclasses.replace(
        speaker(),
        policy=types.SimpleNamespace(
          form=types.SimpleNamespace(model="layers=2"), limits="text=8"
        ),
      )
    ),
  ],
)
def test_whatever_answers_depend_on_has_them_asked_anew(asking, change):
  again()
  again(**change())
  assert len(asking) == 2 and len(entries()) == 2


def test_other_code_and_flags_have_it_asked_anew(asking, monkeypatch):
  again()
  monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
  again()
  monkeypatch.setattr(own_code, "digest", lambda: "other")
  again()
  assert len(asking) == 3
  # Code that was changed while it ran: nothing is read, nothing is kept.
  monkeypatch.setattr(own_code, "has_changed", lambda: True)
  again()
  assert len(asking) == 4 and len(entries()) == 3


def _flip(data):
  middle = len(data) // 2
  return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _without(name):
  def change(data):
    entry = json.loads(gzip.decompress(data))
    del entry[name]
    return gzip.compress(json.dumps(entry).encode())

  return change


def _of_other_key(data):
  entry = json.loads(gzip.decompress(data))
  entry["key"]["code"] = "other"
  return gzip.compress(json.dumps(entry).encode())


@pytest.mark.parametrize(
  "damage",
  [
    _flip,
    lambda data: data[:-9],
    lambda data: b"",
    lambda data: gzip.compress(b"[]"),
    _without("found"),
    _without("made"),
    _of_other_key,
  ],
  ids="flipped cut empty list no_found no_made other".split(),
)
def test_a_damaged_file_is_asked_anew_and_mended(asking, damage, capsys):
  again()
  (path,) = entries()
  path.write_bytes(damage(path.read_bytes()))
  found, said = again()
  assert len(asking) == 2 and said == "" and found.hits == result().hits
  assert f"{path} can't be read" in capsys.readouterr().out
  assert again()[1] and len(asking) == 2


def test_the_folder_stays_small_and_holds_nothing_half_written():
  for size in range(kept.MOST_KEPT):
    again(settings(**{"sampling.text": 30 + size}))
  for age, path in enumerate(entries()):
    os.utime(path, (age, age))
  oldest, next_oldest = entries()[:2]
  for config in (settings(**{"sampling.text": 30 + k}) for k in range(8)):
    if kept.key_of(config, asked(), speaker()) == _key(oldest):
      again(config)  # used just now, so it stays
  (kept.folder() / "making-new").write_bytes(b"half")
  (kept.folder() / "making-old").write_bytes(b"half")
  os.utime(kept.folder() / "making-old", (1, 1))
  again(settings(**{"sampling.text": 99}))
  assert len(entries()) == kept.MOST_KEPT
  assert oldest.exists() and not next_oldest.exists()
  (left,) = kept.folder().glob("making-*")
  assert left.name == "making-new"


def _key(path):
  return json.loads(gzip.decompress(path.read_bytes()))["key"]


def test_a_folder_that_cant_be_written_stops_nothing(asking, tmp_path, capsys):
  (tmp_path / "cooper_jax").write_text("a file, where the folder would be")
  assert again()[1] == "" and again()[1] == ""
  assert len(asking) == 2 and "can't be kept" in capsys.readouterr().out


def test_only_a_package_is_kept_and_only_if_wanted(asking, tmp_path):
  config, here = settings(), tmp_path / "run"
  workdir.begin(config, here, "sft")
  workdir.finish(config, here, "sft", seconds=1.0)
  for _ in range(2):  # trained here
    evaluate.score_stage(config, here, asked(), speaker())
  assert len(asking) == 2 and entries() == []
  came = {"name": "tiny"}
  workdir.finish(config, here, "sft", seconds=0.0, package=came)
  off = settings(**{"evaluate.reuse": False})
  evaluate.score_stage(off, here, asked(), speaker())
  assert len(asking) == 3 and entries() == []
  said = [
    evaluate.score_stage(config, here, asked(), speaker())[1] for _ in "ab"
  ]
  assert len(asking) == 4 and said[0] == "" and "package tiny" in said[1]
  evaluate.score_stage(off, here, asked(), speaker())
  assert len(asking) == 5  # off: what is kept is not read either
  assert stage_settings.of(off, "evaluate") == stage_settings.of(
    config, "evaluate"
  )


def test_a_changed_byte_of_the_code_gives_another_digest(tmp_path):
  names = {path.name: path for path in own_code.files()}
  copy = tmp_path / "sampler.py"
  data = names["sampler.py"].read_bytes()
  copy.write_bytes(data)
  before = own_code.of_files([copy])
  assert before == own_code.of_files([names["sampler.py"]])
  copy.write_bytes(data.replace(b"def ", b"def  ", 1))
  assert own_code.of_files([copy]) != before


def test_all_code_that_an_evaluation_loads_is_in_its_digest():
  """And what is not: rewards and losses may be worked on."""
  code = """
import sys
from cooper_jax import plugins
from cooper_jax.eval import kept, own_code, stage_scores
for kind in own_code.REACHED:
  for name in plugins.names(kind):
    plugins.find(kind, name)
files = {str(path) for path in own_code.files()}
loaded = {
  module.__file__
  for name, module in sys.modules.items()
  if name.startswith("cooper_jax.")
}
print(sorted(loaded - files))
print(any("/rl/" in name or "/report/" in name for name in files))
"""
  done = subprocess.run(
    [sys.executable, "-c", code], check=True, capture_output=True, text=True
  )
  assert done.stdout.split() == ["[]", "False"]


def test_a_record_that_comes_again_is_told_apart_from_another():
  @dataclasses.dataclass
  class Record:
    name: str
    values: np.ndarray

  def records():
    return Record("a", np.arange(3)), Record("b", np.arange(3))

  (a, b), (again, other) = records(), records()
  assert kept.digest([a, b, a]) == kept.digest([again, other, again])
  told = [[a], [a, a], [a, b], [b, a], [a, b, a], [a, b, b], [a, [b], b]]
  assert len({kept.digest(each) for each in told}) == len(told)
