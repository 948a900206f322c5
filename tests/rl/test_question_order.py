"""Questions without replacement and by difficulty, the same after a stop."""

import collections
import dataclasses

import numpy as np
import pytest

from configs import base
from cooper_jax.data import mixture, selection
from cooper_jax.errors import UserError
from cooper_jax.rl import question_order
from cooper_jax.rl.questions import Questions, QuestionStream
from cooper_jax.sample import Question, Sample
from cooper_jax.settings import checks, reinforcing
from cooper_jax.training.manifest import from_json, to_json
from tests.rl import toy

SAMPLES = [
  Sample(
    str(i),
    "toy",
    np.zeros((8, 8, 3), np.uint8),
    questions=tuple(
      Question(family, f"{i} {family}", "yes", "yes_no", ("yes", "no"))
      for family in families
    ),
  )
  for i, families in enumerate((("easy", "hard"), (), ("easy",), ("odd",)) * 5)
]
ALL = sorted(q.text for s in SAMPLES for q in s.questions)  # 20


def stream(order, batch=4, **fields):
  made = question_order.ORDERS[order]
  return made(SAMPLES, batch=batch, seed=3, **fields)


def texts(questions):
  return [item.question.text for item in questions.items]


def test_the_default_asks_what_it_always_asked():
  assert question_order.ORDERS["random"] is QuestionStream
  assert base.defaults().grpo.order == "random"


def test_sources_are_asked_by_their_weights():
  many = [dataclasses.replace(SAMPLES[0], source="many")] * 99
  one = [dataclasses.replace(SAMPLES[0], source="one")]
  for weights, share in (((), 0.5), ((1.0, 3.0), 0.75)):
    both = mixture.Mixture((many, one), weights)
    # Behind what a stage selects, too.
    both = selection.Asking(both, selection.Selection().asked)
    asked = QuestionStream(both, batch=400, seed=3).draw(0).items
    found = np.mean([item.sample.source == "one" for item in asked])
    assert abs(found - share) < 0.1  # 4 standard deviations


def test_in_an_epoch_every_question_comes_once():
  asked = stream("epochs", batch=3)
  steps = [texts(next(asked)) for _ in range(14)]
  every = [text for step in steps for text in step]
  assert sorted(every[:20]) == sorted(every[20:40]) == ALL
  assert every[:20] != every[20:40]  # each epoch in an order of its own
  assert texts(asked.draw(5)) == steps[5]  # whichever was drawn before
  other = [text for i in range(7) for text in texts(asked.draw(i, turn=1))]
  assert sorted(other[:20]) == ALL and other[:20] != every[:20]
  again = stream("epochs", batch=3)
  again.restore({"step": 9})
  assert texts(next(again)) == steps[9]


def test_only_the_families_that_are_named_are_listed():
  asked = stream("epochs", batch=5, families=("odd",))
  assert set(texts(next(asked))) == {f"{i} odd" for i in range(3, 20, 4)}
  with pytest.raises(UserError, match="families names none"):
    stream("difficulty", families=("none",))


@pytest.mark.parametrize("order", question_order.ORDERS)
def test_in_place_of_a_bad_sample_another_is_asked(order):
  class Listed(list):
    def questions(self, index):  # told without the pictures
      return SAMPLES[index].questions

  left_out = {0, 4, 7}
  samples = Listed(None if i in left_out else s for i, s in enumerate(SAMPLES))
  asked = question_order.ORDERS[order](samples, batch=5, seed=3)
  good = {q.text for i, s in enumerate(SAMPLES) if i not in left_out
          for q in s.questions}  # fmt: skip
  seen = set()
  for _ in range(40):
    questions = next(asked)
    assert len(questions.items) == 5
    seen |= set(texts(questions))
    if order == "difficulty":
      told = [asked.source.questions(i)[j].text
              for i, j in asked.places[asked._drawn[0][1]]]  # fmt: skip
      assert told == texts(questions)  # of those that are asked it is told
  assert seen == good


def ask(asked, steps):
  """Asks; of `easy` all answers are right, of `hard` none, of `odd` half."""
  share = {"easy": 1.0, "hard": 0.0, "odd": 0.5}
  found = []
  for _ in range(steps):
    questions = next(asked)
    found.append(texts(questions))
    asked.observe(
      questions, [share[item.question.family] for item in questions.items]
    )
  return found


def test_what_is_sure_or_hopeless_is_seldom_asked():
  asked = stream("difficulty", batch=2)
  late = [text for step in ask(asked, 300)[100:] for text in step]
  count = collections.Counter(text.split()[1] for text in late)
  # 5 questions of odd with weight .1 + 1, 15 of others with .1 or a little
  # more: 5.5 of 7 and fewer.
  assert count["odd"] > 0.6 * len(late) and min(count.values()) > 0
  chance = dict(zip(map(tuple, asked.places), asked.chance()))
  assert chance[0, 0] > 0.9 and chance[0, 1] < 0.1  # easy, hard
  assert chance[3, 0] == pytest.approx(0.5)


def test_a_question_that_was_not_asked_is_as_its_family():
  asked = stream("difficulty", batch=1)
  assert set(asked.chance()) == {0.5}
  easy = asked.family_of == 0
  number = int(np.flatnonzero(easy)[0])
  asked._drawn[0] = 0, np.array([number])
  told = asked.observe(Questions(0, [None]), [1.0])
  assert told == {"questions/expected": 0.5, "questions/again": 0.0}
  # The family: (1 + .5) / (1 + 1); the question: (1 + that) / (1 + 1).
  chance = asked.chance()
  assert set(np.delete(chance[easy], 0)) == {0.75}
  assert chance[number] == 0.875 and set(chance[~easy]) == {0.5}
  asked.observe(Questions(0, [None]), [np.nan])  # nothing was said of it
  assert asked.chance()[number] == 0.875


def test_after_a_stop_the_same_questions_come():
  whole, halfway = stream("difficulty"), stream("difficulty")
  straight = ask(whole, 12)
  ask(halfway, 5)
  saved = from_json(to_json(halfway.state()))
  again = stream("difficulty")
  ask(again, 2)  # forgotten
  again.restore(saved)
  assert ask(again, 7) == straight[5:]
  np.testing.assert_array_equal(again.chance(), whole.chance())
  fresh = stream("difficulty")
  fresh.restore({**saved, "known": [], "right": [], "groups": []})
  assert ask(fresh, 7) != straight[5:]  # so the estimates matter


@pytest.mark.ci
def test_a_step_tells_the_stream_how_its_groups_did():
  config = toy.CONFIG.copy_and_resolve_references()
  samples = [
    dataclasses.replace(item.sample, questions=(item.question,))
    for item in toy.ITEMS[:2]
  ]
  asked = question_order.DifficultyStream(samples, batch=2, seed=0)

  def half(view, columns):
    del columns
    hits = np.where(np.arange(len(view)) % 2, 1.0, np.nan)
    hits[: len(hits) // 2] = 0.0
    scores = toy.scored(hits)
    names = ("answer", "depth", "exploration", "format", "segmentation")
    return scores._replace(rewards=dict.fromkeys(names, scores.total))

  step = toy.make_step(config, stream=asked, scorer=half)
  _, metrics = step(toy.fresh(), next(asked))
  assert metrics["questions/expected"] == 0.5
  # The first group was wrong throughout, the second right where known.
  first, second = asked._drawn[0][1]
  assert asked.right[first] == 0 and asked.right[second] == 1
  assert list(asked.groups) == [1, 1]


@pytest.mark.parametrize(
  ("settings", "said"),
  [
    ({"order": "epoch"}, r'order is "epoch"; .*"epochs"'),
    ({"order": "difficulty", "rl.pipeline": True}, "rl.pipeline samples"),
    ({"order": "difficulty", "rl.rewards.answer": None}, "answer is None"),
    (
      {
        "order": "difficulty",
        "rl.settings.answer.graded": True,
        "rl.settings.answer.graded_by": "rank",
      },
      "graded_by=rank pays half",
    ),
  ],
)
def test_an_order_that_can_not_be_is_refused(settings, said):
  config = base.get_base("smoke", ("sft", "grpo"))
  for name, value in settings.items():
    config.update_from_flattened_dict({f"grpo.{name}": value})
  with pytest.raises(UserError, match=said):
    checks.validate(config)


@pytest.mark.parametrize("order", ["epochs", "difficulty"])
@pytest.mark.parametrize("shares", [(1.0, 2.0), (2.0, 2.0)])
def test_shares_of_sources_are_refused_where_an_order_knows_none(order, shares):
  config = base.get_base("smoke", ("sft", "grpo"))
  with config.unlocked():
    config.data.weights = shares
    config.grpo.order = order
  with pytest.raises(UserError, match=f"order={order} takes questions of any"):
    reinforcing.check(config)
  config.data.weights = ()
  reinforcing.check(config)
