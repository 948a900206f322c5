"""What `config.precision` means on a platform, and that it is said."""

import pytest

from configs import base
from cooper_jax.errors import UserError
from cooper_jax.policy import make_policy
from cooper_jax.runtime import bf16
from cooper_jax.training import precision, workdir
from tests import tiny  # noqa: F401  sets the mesh

F32, BF16, MIXED = (
  precision.Dtypes("float32", "float32"),
  precision.Dtypes("bfloat16", "bfloat16"),
  precision.Dtypes("float32", "bfloat16"),
)


@pytest.fixture(autouse=True)
def _unsaid():
  precision._say.cache_clear()


def not_timed():
  raise AssertionError("nothing is to be timed here")


@pytest.mark.parametrize(
  ("name", "platform", "expected"),
  [
    ("auto", "cpu", F32),
    ("f32", "cpu", F32),
    ("auto", "tpu", BF16),
    ("f32", "tpu", F32),
    ("bf16", "gpu", BF16),
  ],
)
def test_a_precision_is_the_platforms(monkeypatch, name, platform, expected):
  monkeypatch.setattr(bf16, "speedup", not_timed)
  assert precision.dtypes(name, platform) == expected


def test_bf16_on_a_cpu_is_of_products_and_where_they_are_faster(
  monkeypatch, capsys
):
  monkeypatch.setattr(bf16, "speedup", lambda: 5.0)
  assert precision.dtypes("bf16", "cpu") == MIXED
  assert capsys.readouterr().err == ""
  monkeypatch.setattr(bf16, "speedup", lambda: 0.4)
  for _ in range(3):
    assert precision.dtypes("bf16", "cpu") == F32
  assert capsys.readouterr().err == (
    "precision=bf16: this CPU multiplies bf16 no faster than f32 (x0.4);"
    " staying at f32\n"
  )


def test_a_precision_that_is_none_is_refused():
  with pytest.raises(UserError, match="allowed: auto, f32, bf16"):
    precision.dtypes("fp16")


def test_what_is_measured_is_a_ratio_of_this_machine(monkeypatch):
  """Of a clock on which a call takes three ticks in f32, and one in bf16."""
  bf16.speedup.cache_clear()
  ticks = iter(range(1000))
  kinds = iter((3, 1) * bf16.ROUNDS)
  clock = {"now": 0}

  def process_time():
    if next(ticks) % 2:
      clock["now"] += next(kinds)
    return clock["now"]

  monkeypatch.setattr(bf16.time, "process_time", process_time)
  try:
    assert bf16.speedup() == pytest.approx(3)
  finally:
    bf16.speedup.cache_clear()


def test_a_policy_is_planned_for_another_platform(monkeypatch):
  monkeypatch.setattr(bf16, "speedup", not_timed)
  config = base.get_base("smoke", ("sft",))
  config.precision = "bf16"
  model = make_policy(config, platform="tpu").form.model
  assert (model.dtype, model.operands) == BF16 and not model.unroll


def test_a_run_that_moves_to_another_rounding_goes_on_and_says_so(
  monkeypatch, tmp_path, capsys
):
  config = base.get_base("smoke", ("tokenizer", "sft"))
  config.precision = "bf16"
  monkeypatch.setattr(bf16, "speedup", lambda: 5.0)
  folder = workdir.prepare(config, tmp_path)
  workdir.begin(config, folder, "sft")
  workdir.begin(config, folder, "sft")
  assert "goes on" not in capsys.readouterr().err
  monkeypatch.setattr(bf16, "speedup", lambda: 0.4)
  workdir.check(config, folder)
  workdir.begin(config, folder, "sft")
  said = capsys.readouterr().err
  assert "sft       begun in f32 with bf16 products, goes on in f32" in said
  made = workdir.record(folder, "sft")["by"]
  assert [each["dtypes"] for each in made] == ["f32 with bf16 products", "f32"]
