"""Batches: deterministic, resumable anywhere, shared among processes."""

import json

import numpy as np
import pytest

from cooper_jax.data import mixture, pipeline
from cooper_jax.data.mixture import Mixture
from cooper_jax.errors import UserError
from cooper_jax.sample import Sample


class Numbers:
  """Samples whose one pixel says which they are; picklable."""

  def __init__(self, count, first=0, bad=()):
    self.count, self.first, self.bad = count, first, bad

  def __len__(self):
    return self.count

  def __getitem__(self, index):
    if index in self.bad:
      raise UserError(f"sample {index} is broken")
    pixel = np.full((1, 1, 3), index + self.first, np.uint8)
    return Sample(id=str(index), source="numbers", image=pixel)

  def __repr__(self):
    return f"Numbers({self.count})"


def build(sample, rng):
  return {"pixel": sample.image[0, 0, 0], "draw": rng.integers(0, 1 << 30)}


def batches(source=None, **options):
  options = {
    "build": build,
    "batch_size": 4,
    "seed": 3,
  } | options
  return pipeline.make_batches(
    Numbers(11) if source is None else source, **options
  )


def take(iterator, count):
  return [next(iterator) for _ in range(count)]


def same(left, right):
  return len(left) == len(right) and all(
    np.array_equal(a[key], b[key])
    for a, b in zip(left, right)
    for key in ("pixel", "draw")
  )


def test_epochs_visit_every_sample_once_in_a_new_order():
  with batches(batch_size=11) as stream:
    first, second = (b["pixel"].tolist() for b in take(stream, 2))
  assert sorted(first) == sorted(second) == list(range(11))
  assert first != second and first != sorted(first)


def test_the_seed_decides_order_and_draws():
  with batches() as a, batches() as b, batches(seed=4) as c:
    x, y, z = take(a, 6), take(b, 6), take(c, 6)
  assert same(x, y) and not same(x, z)


def test_draws_depend_on_the_position_alone():
  with batches(shuffle=False) as stream:
    draws = np.concatenate([b["draw"] for b in take(stream, 6)])
  assert len(set(draws.tolist())) == 24  # epoch 2 draws anew: 24 > 11 samples
  expected = [
    pipeline.example_rng(3, i).integers(0, 1 << 30) for i in range(24)
  ]
  assert draws.tolist() == expected


@pytest.mark.parametrize("taken", [0, 1, 5, 9])
def test_a_restored_stream_goes_on_with_the_very_next_batch(taken):
  with batches() as stream:
    take(stream, taken)
    state = json.loads(json.dumps(stream.state()))
    expected = take(stream, 5)
  with batches() as other:
    take(other, 2)  # wherever it stood
    other.restore(state)
    assert same(take(other, 5), expected)
    other.restore(state)
    assert same(take(other, 5), expected)


# As two processes hold them on a mesh; and as a mesh of other order may cut.
@pytest.mark.parametrize("rows", [((0, 1), (2, 3)), ((0, 3), (1, 2))])
def test_processes_share_each_batch_in_the_order_of_one(rows):
  with batches() as whole:
    expected = take(whole, 5)
  for mine in rows:
    with batches(rows=mine) as part:
      state = part.state()
      found = take(part, 5)
      part.restore(state)
      assert same(take(part, 5), found)
    for key in ("pixel", "draw"):
      for one, some in zip(expected, found):
        assert np.array_equal(one[key][list(mine)], some[key])


def test_a_share_of_one_epoch_ends_where_the_epoch_does():
  # 11 samples in batches of 4: the last batch has rows 0, 1 and 2 only.
  for mine, last in (((0, 1), [8, 9]), ((2, 3), [10])):
    with batches(epochs=1, shuffle=False, rows=mine) as stream:
      pixels = [b["pixel"].tolist() for b in stream]
    assert pixels == [[mine[0], mine[1]], [4 + mine[0], 4 + mine[1]], last]


def test_another_share_of_the_data_is_not_gone_on_with():
  with (
    batches(rows=(0, 1)) as first,
    batches(rows=(2, 3)) as second,
    pytest.raises(UserError, match="has process"),
  ):
    second.restore(first.state())


def test_one_epoch_ends_with_a_smaller_batch():
  with batches(epochs=1, shuffle=False) as stream:
    pixels = [b["pixel"].tolist() for b in stream]
  assert pixels == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


def test_examples_that_are_none_are_left_out_and_resume_stays_exact():
  def odd(sample, rng):
    return build(sample, rng) if sample.image[0, 0, 0] % 2 else None

  with batches(build=odd) as stream:
    take(stream, 3)
    state, expected = stream.state(), take(stream, 4)
  assert all((b["pixel"] % 2 == 1).all() for b in expected)
  with batches(build=odd) as other:
    other.restore(state)
    assert same(take(other, 4), expected)


def test_worker_processes_resume_exactly():
  with batches(workers=1) as stream:
    take(stream, 2)
    state, expected = json.loads(json.dumps(stream.state())), take(stream, 3)
    stream.restore(state)
    assert same(take(stream, 3), expected)


def test_a_mixture_keeps_its_shares_and_resumes():
  blend = Mixture((Numbers(10), Numbers(90, first=100)), (3.0, 1.0))
  with batches(blend) as stream:
    pixels = np.concatenate([b["pixel"] for b in take(stream, 20)])
    state, expected = stream.state(), take(stream, 3)
  # 3 of 4 from the first source, 80 samples in all
  assert (pixels < 100).sum() == 60
  # 60 of 10 samples: each six times, for every epoch visits each once
  assert np.bincount(pixels[pixels < 100]).tolist() == [6] * 10
  with batches(blend) as other:
    other.restore(state)
    assert same(take(other, 3), expected)


def test_another_datas_position_is_refused():
  with batches() as stream:
    state = stream.state()
  for options in ({"seed": 4}, {"batch_size": 8}, {"source": Numbers(12)}):
    with batches(**options) as other, pytest.raises(UserError, match="workdir"):
      other.restore(state)


def test_bad_samples_stop_the_run_or_are_left_out_up_to_a_share(capsys):
  def drain(source, **options):
    with batches(source, epochs=1, shuffle=False, **options) as stream:
      return np.concatenate([b["pixel"] for b in stream])

  few, many = Numbers(200, bad={7, 90}), Numbers(200, bad=set(range(90, 99)))
  with pytest.raises(UserError, match="sample 7 is broken"):
    drain(few)
  left = drain(few, bad_samples=0.02)
  assert len(left) == 198 and not {7, 90} & set(left.tolist())
  said = capsys.readouterr().err
  assert said == "left out: sample 7 is broken\nleft out: sample 90 is broken\n"
  with pytest.raises(UserError, match=r"90 .*94 .*bad_samples=0\.02"):
    drain(many, bad_samples=0.02)
  with pytest.raises(UserError, match=r"\[0, 1\)"):
    drain(few, bad_samples=1.5)


def test_wrong_settings_are_refused():
  with pytest.raises(UserError, match="no samples"):
    batches(Numbers(0))
  with pytest.raises(UserError, match="batch size 0"):
    batches(batch_size=0)
  with pytest.raises(UserError, match="not positive"):
    Mixture((Numbers(1), Numbers(1)), (1.0, 0.0))
  with pytest.raises(UserError, match="one weight"):
    Mixture((Numbers(1), Numbers(1)), (1.0,))
  with pytest.raises(UserError, match="no epochs"):
    batches(Mixture((Numbers(1), Numbers(1))), epochs=1)


def test_closed_batches_say_so():
  stream = batches()
  next(stream)
  stream.close()
  stream.close()
  with pytest.raises(ValueError, match="closed"):
    next(stream)


def test_examples_of_different_keys_are_refused():
  with pytest.raises(ValueError, match="examples of"):
    pipeline.stack([{"a": np.zeros(1)}, {"b": np.zeros(1)}])


def test_unknown_source_lists_what_exists():
  config = mixture.DataConfig(source="jsonnl")
  with pytest.raises(UserError, match="jsonl"):
    mixture.open_split(config, "train")
