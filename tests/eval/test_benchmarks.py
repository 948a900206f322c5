"""A benchmark is one file: read, asked, graded, scored, shown in the report."""

import types

import numpy as np
import pytest

from cooper_jax import command, plugins
from cooper_jax.errors import UserError
from cooper_jax.eval import benchmark, benchmarks, pairing, questions
from cooper_jax.report.benchmarks import section
from cooper_jax.rollouts.prompts import Item
from cooper_jax.sample import Question, Sample
from tests import metrics_page

# Two images a question, letters, two sub-categories, a grader of its own, and
# a score that counts a pair of turned questions once.
COINS = '''"""Coins: is the left one larger? Asked twice, options swapped."""

import numpy as np

from cooper_jax.eval import benchmarks, questions
from cooper_jax.rollouts.prompts import Item
from cooper_jax.sample import Question, Sample

TITLE = "Coins & more"
MODES = ("direct",)


def items(config):
  size, found = config.data.image_size, []
  for k in range(4):
    pair = [np.full((6, 9, 3), 50 * k, np.uint8), np.zeros((5, 5, 3), np.uint8)]
    sample = Sample(f"coin/{k}", "coins", benchmarks.montage(pair, size))
    for turn in (("left", "right"), ("right", "left")):
      text = f"Which is larger ? (A) {turn[0]} (B) {turn[1]}"
      family = ("old", "new")[k % 2]
      question = Question(family, text, "left", "choice", options=turn)
      found.append(Item(sample, question))
  return found


def training(config):
  del config
  return [Question("old", "Which ?", "left", "choice", options=("left", "up"))]


def grade(text, item):
  return questions.grade_of(text.replace("sinister", "left"), item)


def score(items, grades):
  hits = questions.hits(grades)
  both = hits.reshape(-1, 2).all(1)
  return {"accuracy": hits, "circular": both, "mean_of_two": hits.mean()}
'''


@pytest.fixture(name="coins")
def fixture_coins(tmp_path, monkeypatch):
  (tmp_path / "coins.py").write_text(COINS)
  path = [*benchmarks.__path__, str(tmp_path)]
  monkeypatch.setattr(benchmarks, "__path__", path)
  return "coins"


def config_of(*names):
  return types.SimpleNamespace(
    evaluate=types.SimpleNamespace(benchmarks=names),
    data=types.SimpleNamespace(image_size=16),
  )


def said(*answers):
  return [f"<answer> {answer} </answer>" for answer in answers]


def test_the_embedded_test_split_is_the_first():
  assert plugins.names("benchmarks") == ["embedded", "rephrased"]
  found = plugins.find("benchmarks", "embedded")
  assert found.KEY == "qa" and found.TITLE


def test_a_file_is_read_graded_and_scored_by_its_own_rules(coins):
  opened = benchmark.open_all(config_of(coins))[coins]
  assert len(opened.items) == 8 and opened.modes == ("direct",)
  assert opened.items[0].sample.image.shape == (16, 16, 3)
  # A letter is an answer as the text shows it: B of the turned question.
  texts = said("left", "B", "sinister", "A", "A", "left", "right", "right")
  hits = [1, 1, 1, 0, 1, 1, 0, 0]
  grades = [opened.grade(t, i) for t, i in zip(texts, opened.items)]
  assert list(questions.hits(grades)) == hits
  found = benchmark.scores(opened, grades, "sft")
  assert found["benchmarks/coins/accuracy/sft"] == 5 / 8
  assert found["benchmarks/coins/accuracy/sft/n"] == 8
  assert found["benchmarks/coins/circular/sft"] == 2 / 4
  assert found["benchmarks/coins/circular/sft/n"] == 4
  assert found["benchmarks/coins/mean_of_two/sft"] == 5 / 8
  assert "benchmarks/coins/mean_of_two/sft/n" not in found


def test_blind_constant_and_chance_stand_beside_it(coins):
  opened = benchmark.open_all(config_of(coins))[coins]
  found = benchmark.baseline_scores(opened)
  assert found["benchmarks/coins/accuracy/chance"] == 0.5
  assert found["benchmarks/coins/accuracy/old/chance"] == 0.5
  # "left" was right in training for "old", all four; of "new" it learned
  # nothing, and says the first option: right in half of the turns.
  assert found["benchmarks/coins/accuracy/constant"] == (4 + 2) / 8
  assert "benchmarks/coins/circular/blind" in found


def test_the_page_of_metrics_has_its_keys(coins):
  opened = benchmark.open_all(config_of(coins))[coins]
  grades = [opened.grade(t, i) for t, i in zip(said(*"A" * 8), opened.items)]
  found = benchmark.baseline_scores(opened)
  for name in ("sft", "direct/grpo"):
    found |= benchmark.scores(opened, grades, name)
  found |= pairing.difference(f"{opened.key}/gain", [1, 0], [0, 0])
  assert metrics_page.unexplained(found, ("summary.json",)) == []
  wrong = ["benchmarks/coins/loss", "benchmarks/coins/accuracy/blinded"]
  assert metrics_page.unexplained(wrong, ("summary.json",)) == sorted(wrong)


def test_what_a_benchmark_leaves_out_is_filled_in():
  sample = Sample("a", "b", np.zeros((4, 4, 3), np.uint8))
  asked = [Question(f, "?", "yes", "yes_no") for f in ("one", "two", "two")]
  items = [Item(sample, question) for question in asked]
  module = types.SimpleNamespace(TITLE="Plain", items=lambda config: items)
  plain = benchmark.Benchmark("plain", module, items, None)
  texts = said("yes", "no", "yes")
  grades = [plain.grade(t, i) for t, i in zip(texts, items)]
  found = benchmark.scores(plain, grades, "grpo")
  assert found["benchmarks/plain/accuracy/grpo"] == 2 / 3
  assert found["benchmarks/plain/accuracy/two/grpo"] == 1 / 2
  assert benchmark.baseline_scores(plain) == {
    "benchmarks/plain/accuracy/chance": 0.5,
    "benchmarks/plain/accuracy/one/chance": 0.5,
    "benchmarks/plain/accuracy/two/chance": 0.5,
  }


def test_a_mean_that_is_no_rate_has_a_bootstrap_interval():
  module = types.SimpleNamespace(
    score=lambda items, grades: {"mra": np.array([0.5, 0.7, np.nan, 0.9])}
  )
  asked = benchmark.Benchmark("x", module, [], None)
  found = benchmark.scores(asked, [], "sft")
  assert found["benchmarks/x/mra/sft"] == pytest.approx(0.7)
  assert found["benchmarks/x/mra/sft/n"] == 3
  low, high = found["benchmarks/x/mra/sft/ci95"]
  assert 0.5 <= low < 0.7 < high <= 0.9


def test_a_benchmark_without_a_question_is_refused(coins, tmp_path):
  (tmp_path / "empty.py").write_text(
    'TITLE = "Empty"\n\n\ndef items(config):\n  return []\n'
  )
  with pytest.raises(UserError, match='benchmark "empty" has nothing to ask'):
    benchmark.open_all(config_of(coins, "empty"))


def test_a_family_that_is_named_as_a_mode_is_refused(coins, tmp_path):
  text = COINS.replace('"old"', '"depth"')
  (tmp_path / "drawn_coins.py").write_text(text)
  with pytest.raises(UserError, match='_coins" has a family depth, which is'):
    benchmark.open_all(config_of(coins, "drawn_coins"))


def test_an_unknown_benchmark_is_named_with_those_there_are(coins):
  with pytest.raises(UserError, match=r'no benchmark "coin".*"coins"'):
    benchmark.open_all(config_of("coin"))


def test_several_images_are_laid_out_as_one():
  reds = [np.full((3, 5, 3), 10 * k, np.uint8) for k in range(1, 4)]
  page = benchmarks.montage(reds, 8)
  quarters = page[:4, :4], page[:4, 4:], page[4:, :4], page[4:, 4:]
  assert [int(q.min()) for q in quarters] == [10, 20, 30, 0]
  assert [int(q.max()) for q in quarters] == [10, 20, 30, 0]
  assert (benchmarks.montage(reds[:1], 8) == 10).all()


def test_the_report_has_a_table_of_each(coins):
  opened = benchmark.open_all(config_of(coins))[coins]
  summary = benchmark.baseline_scores(opened)
  grades = [opened.grade(t, i) for t, i in zip(said(*"A" * 8), opened.items)]
  summary |= benchmark.scores(opened, grades, "sft")
  shown = section(summary)
  assert "Coins &amp; more" in shown and "Circular" in shown
  assert "<b>" not in section({}) and section({}) == ""
  assert shown.count("<tr") == 1 + 3  # a head, and the metrics of its score
  # A benchmark whose file is gone is shown by its name.
  gone = {k.replace("coins", "dimes"): v for k, v in summary.items()}
  assert "dimes" in section(gone)


def test_rephrased_asks_the_test_split_in_words_of_its_own(tmp_path):
  config = command.load_config("configs/evaluate.py:smoke")
  with config.unlocked():
    config.data.update(cache=str(tmp_path), test_scenes=6, train_scenes=4)
    config.data.workers = 1
    config.evaluate.benchmarks = ("embedded", "rephrased")
  usual, new = benchmark.open_all(config).values()
  assert usual.key == "qa" and new.key == "benchmarks/rephrased"
  assert pairing.FREE in new.modes and "text" in new.modes
  assert len(usual.items) == len(new.items) > 10
  for one, other in zip(usual.items, new.items):
    assert one.sample.id == other.sample.id
    assert one.question.answer == other.question.answer
    assert one.question.text != other.question.text


def test_gains_of_a_benchmark_in_every_mode_are_explained(coins):
  hits = {"adaptive": [1, 1], "text": [0, 1]}
  found = pairing.by_mode("benchmarks/coins", hits, hits)
  assert found["benchmarks/coins/gain/text"] == 0
  assert found["benchmarks/coins/beyond/text"] == 0.5
  assert "benchmarks/coins/beyond/adaptive" not in found
  assert metrics_page.unexplained(found, ("summary.json",)) == []
