"""A question is read by its template and written in another, without loss."""

import collections
import dataclasses

from cooper_jax import world
from cooper_jax.sample import Question
from cooper_jax.world.questions import families
from cooper_jax.world.questions.rephrasing import HELDOUT_PHRASING, rephrase

SAMPLES = world.generate(world.WorldConfig(), split="train", start=0, count=80)


def test_every_question_goes_to_every_phrasing_and_back():
  seen = collections.Counter()
  for sample in SAMPLES:
    for question in sample.questions:
      seen[question.family, question.template] += 1
      for template in range(families.PHRASINGS):
        other = rephrase(question, template)
        assert other.template == template
        own = families.find(question.family).TEMPLATES[template]
        start = own.partition("{")[0]
        assert other.text.startswith(start) and "{" not in other.text
        assert rephrase(other, question.template) == question
  # All families, in each of the usual phrasings.
  assert len(seen) == len(families.names()) * (families.PHRASINGS - 1)


def test_held_out_words_are_those_of_the_held_out_split():
  held = world.generate(world.WorldConfig(), split="heldout", start=0, count=20)
  found = [
    q for s in held for q in s.questions if q.template == HELDOUT_PHRASING
  ]
  assert len(found) > 20
  for question in found:
    assert rephrase(question) == question


def test_a_side_is_told_from_the_name_before_it():
  question = Question(
    "front_behind",
    "Is the red ball in front of the blue box ?",
    "yes",
    "yes_no",
  )
  said = rephrase(question).text
  assert said == "Does the red ball stand in front of the blue box ?"


def test_what_is_no_question_of_the_world_has_no_other_words():
  own = Question("own_yes_no", "Is it red ?", "yes", "yes_no")
  assert rephrase(own) is None
  asked = dataclasses.replace(own, family="closer")
  assert rephrase(asked) is None
