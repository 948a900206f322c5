"""A drawn map has its price, whatever it shows and whatever is answered."""

import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.rl import scoring
from cooper_jax.rl.rewards import map_price
from cooper_jax.rollouts.response import DrawnMap, Responses

MAP = DrawnMap("depth", np.zeros(4, int), np.ones((4, 4)))
VIEW = Responses.from_texts(
  ["<answer> yes </answer>"] * 3, maps=[(), (MAP,), (MAP, MAP)]
)


@pytest.mark.parametrize(
  ("settings", "paid"),
  [
    ({}, [0, -1, -2]),
    ({"free": 1}, [0, 0, -1]),
    ({"free": 9}, [0, 0, 0]),
  ],
)
def test_each_map_past_the_free_ones_costs_one(settings, paid):
  got = map_price.reward(VIEW, {}, map_price.Config(**settings))
  assert got.dtype == np.float32 and not np.signbit(got[0])
  np.testing.assert_array_equal(got, np.array(paid, np.float32))


def test_the_price_is_its_weight():
  scorer = scoring.Scorer({"answer": 1.0, "map_price": 0.2})
  columns = {
    "answer": ["yes"] * 3,
    "answer_type": ["yes_no"] * 3,
    "options": [()] * 3,
    "unit": [""] * 3,
    "value": [None] * 3,
  }
  np.testing.assert_allclose(scorer(VIEW, columns).total, [1.0, 0.8, 0.6])


def test_fewer_than_no_free_maps_are_refused():
  with pytest.raises(UserError, match="free is -1"):
    map_price.Config(free=-1)
