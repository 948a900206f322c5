"""What is measured of reading: the same texts, and the map that is meant."""

import dataclasses

import numpy as np
import pytest

from configs import base
from cooper_jax import world
from cooper_jax.data import counterfactual
from cooper_jax.data.codes import Codes
from cooper_jax.eval import reading
from cooper_jax.models import token_kinds
from cooper_jax.policy import init_state, make_policy
from tests import tiny  # noqa: F401  sets the mesh


def make(count=4):
  config = base.get_base("long", ("pretrain",))
  policy = make_policy(config)
  samples = world.generate(
    world.WorldConfig(), split="validation", start=0, count=count
  )
  rng = np.random.default_rng(0)
  model = policy.form.model
  draw = lambda: rng.integers(0, model.codes, (count, model.map_codes))  # noqa: E731
  codes = Codes(
    index={sample.id: i for i, sample in enumerate(samples)},
    maps={"depth": draw(), "segmentation": draw()},
    marked=np.zeros(count, int),
    mark=draw(),
    changed=counterfactual.CounterfactualMaps(
      draw(), np.full((count, 256), 6, np.int8)
    ),
  )
  return config, policy, samples, codes


def test_places_read_the_map_of_their_kind_and_no_other():
  config, policy, samples, codes = make()
  kinds = reading.make_tasks(config, policy, codes)
  assert set(kinds) == set(reading.READ_FROM)
  start = policy.form.vocabulary.codes_start
  first = policy.form.vocabulary.locations_start
  meant = {
    "true": codes.maps["depth"][0],
    "other": codes.maps["depth"][2],  # half the split on
    "counterfactual": codes.changed.codes[0],
  }
  rows = {
    kind: task(samples[0], np.random.default_rng(1))
    for kind, task in kinds.items()
  }
  assert (rows["none"]["read"] < 0).all()
  scored = {kind: row["text_weight"] > 0 for kind, row in rows.items()}
  for kind in ("true", "other"):
    text = rows["none"]["kind"] == token_kinds.TEXT
    np.testing.assert_array_equal(
      rows[kind]["ids"][text], rows["none"]["ids"][text]
    )
    np.testing.assert_array_equal(scored[kind], scored["none"])
  assert (rows["counterfactual"]["ids"] != rows["none"]["ids"]).any()
  for kind, codes_N in meant.items():
    at, place = np.nonzero(rows[kind]["read"][..., 0] >= 0)
    cell = rows[kind]["ids"][at] - first
    got = rows[kind]["read"][at, place, 0] - start
    assert len(got) > 5 and (got == codes_N[cell]).mean() > 0.5, kind
  assert scored["none"].sum() > 10


@pytest.mark.ci
def test_a_policy_is_measured_on_every_kind():
  config, policy, samples, codes = make(2)
  found = {}

  class Codec:
    config = dataclasses.make_dataclass("Sizes", ["cells"])(64)

  def encode(*_, **__):
    return codes

  def changed(*_, **__):
    return codes.changed

  original = reading.encode, reading.counterfactual.make
  reading.encode, reading.counterfactual.make = encode, changed
  try:
    state = init_state(policy, _optimizer(), seed=0)
    found = reading.measure(
      policy, state.params, samples, config, {"depth": Codec}, stage="sft"
    )
  finally:
    reading.encode, reading.counterfactual.make = original
  for kind in reading.READ_FROM:
    nll = found[f"reading/nll/{kind}/sft"]
    low, high = found[f"reading/nll/{kind}/sft/ci95"]
    assert low <= nll <= high
    assert (
      found[f"reading/hit/{kind}/sft/n"] == found[f"reading/nll/{kind}/sft/n"]
    )


def _optimizer():
  from cooper_jax.training import optim

  return optim.make_optimizer(optim.OptimConfig(learning_rate=1e-3), steps=1)
