"""Hits, chance and accuracy."""

import math

import pytest

from cooper_jax.grading.metrics import choice


def test_option_texts_agree_but_for_case_and_spaces():
  assert choice.same("Red  ball.", "red ball")
  assert not choice.same("red", "red ball")
  assert not choice.same(None, "red ball")


def test_chance_is_the_mean_of_guessing():
  got = choice.chance(
    ["choice", "yes_no", "number"], [("a", "b", "c", "d"), (), ()]
  )
  assert got == pytest.approx((0.25 + 0.5 + 0) / 3)


def test_accuracy_has_its_interval():
  got = choice.accuracy([True, True, False, True])
  assert got["value"] == 0.75 and got["n"] == 4
  low, high = got["ci95"]
  assert low < 0.75 < high
  empty = choice.accuracy([])
  assert math.isnan(empty["value"]) and empty["ci95"] == [0.0, 1.0]
