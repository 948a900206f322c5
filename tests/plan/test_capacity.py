"""Sizes fill the sampler of a chip with as many rows as have room."""

import jax
import pytest

from configs import base, sizes
from cooper_jax.parallel import chips, mesh
from cooper_jax.plan import budget, capacity, decode
from cooper_jax.policy import abstract_params, make_policy


def built(variant):
  config = base.get_base(variant, ("grpo",))
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    policy = make_policy(config, platform="tpu")
    return config, policy, abstract_params(policy)


@pytest.mark.parametrize("name", sizes.SIZES)
def test_a_size_says_how_many_parameters_it_has(name):
  count = budget.count(built(name)[2])
  assert count / 1e9 == pytest.approx(sizes.SIZES[name].billions, rel=0.01)


def test_the_sampler_of_a_small_chip_is_filled_and_not_overfilled():
  config, _, params = built("0p6b@v5e:4x4")
  found = chips.find_slice("v5e:4x4")
  memory = found.chip.memory_gb * capacity.GB
  need = budget.budgets(config, found, params)["grpo"]
  taken = need.state + need.cache
  assert taken == need.total  # the update takes less
  assert 0.6 < taken / memory <= capacity.FILLED
  with config.unlocked():
    config.grpo.batch += 16  # a group more on each chip
  more = budget.budgets(config, found, params)["grpo"]
  assert more.cache > need.cache * 1.1


@pytest.mark.parametrize("name", ["0p6b@v5e:4x4", "7b@v6e:16x16"])
def test_a_row_more_of_the_update_takes_what_its_size_says(name):
  config, _, params = built(name)
  found = chips.find_slice(name.partition("@")[2])
  assert config.grpo.rows == 8 * config.mesh.fsdp * config.mesh.data
  most = budget.budgets(config, found, params)["grpo"]
  with config.unlocked():
    config.grpo.rows //= 2
  half = budget.budgets(config, found, params)["grpo"]
  a_row = sum(
    getattr(most, part) - getattr(half, part)
    for part in ("kept", "working", "logits")
  )
  said = sizes.SIZES[name.partition("@")[0]].update
  assert 0.8 * said < a_row / 4 / capacity.GB <= said


@pytest.mark.parametrize("slice_name", ["v5e:4x4", "v5e:8x8", "v6e:4x4"])
def test_the_floor_of_decoding_allows_five_thousand_tokens(slice_name):
  """A second and chip; one group of eight rows a chip allows 2,900 on a v5e."""
  config, policy, params = built(f"0p6b@{slice_name}")
  found = chips.find_slice(slice_name)
  step = decode.of_text(
    policy,
    params,
    batch=config.grpo.batch,
    group=config.grpo.rl.group_size,
    prompt=max(config.sampling.prompt_buckets),
    sizes=budget.axis_sizes(config, found),
  )
  assert step.tokens_a_second(found) >= 5000


def test_more_memory_holds_more_groups_up_to_what_pays():
  given = dict(row=1e9, weights=4e9, group=2, shards=1)
  rooms = {0.0: 1, 7.9e9: 3, 8e9: 4, 1e15: 18}  # 9 * 4 / 1 = 36 rows
  for room, groups in rooms.items():
    assert capacity.groups(room=room, **given) == groups


def test_a_step_has_no_more_rollouts_than_published_ones():
  given = dict(room=1e15, row=1.0, weights=1e15, group=8)
  for shards in (1, 16, 256):
    groups = capacity.groups(shards=shards, **given)
    assert groups * 8 * shards == capacity.ROLLOUTS
  assert capacity.groups(shards=4096, **given) == 1
