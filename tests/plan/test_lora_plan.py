"""Memory of LoRA by arithmetic: rank 16 of the size 7b, and what is refused."""

import jax
import pytest

from configs import base
from cooper_jax import main
from cooper_jax.parallel import chips, mesh
from cooper_jax.plan import budget, capacity, programs
from cooper_jax.policy import abstract_params, make_policy

PIPELINE = ("tokenizer", "pretrain", "sft")


def made(**changes):
  """(config, shapes of all parameters) of 7b, one row of 2,048 a chip."""
  config = base.get_base("7b", PIPELINE).copy_and_resolve_references()
  with config.unlocked():
    config.update_from_flattened_dict(
      {"lora.rank": 16, "sft.bins": 1, "sft.bin": 2048 - 24**2, **changes}
    )
    config.sft.batch = 1
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    return config, abstract_params(make_policy(config, platform="tpu"))


def test_rank_16_of_7b_takes_what_it_should():
  config, params = made()
  found = budget.budgets(config, chips.find_slice("v6e:1x1"), params)["sft"]
  gb = capacity.GB
  # 8.05 billion of the released shapes and 0.06 of our own layers of 3584 x
  # 3584, of 2 bytes; point_from, point_to, norms and small tables have 4.
  assert found.frozen / gb == pytest.approx(16.29, abs=0.01)
  # Of each layer rank times inputs and outputs of its seven matrices:
  # 28 * 16 * (2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944)).
  assert budget.trained(config, params, "sft")[0] == 40_370_176
  # A and B, their gradients and Adam's two averages, in float32.
  assert (found.state + found.gradients) / gb == pytest.approx(0.65, abs=0.01)
  rest = found.kept + found.working + found.logits
  print(f"{found.total / gb:.2f} GB, {rest / gb:.2f} of them activations")
  assert rest / gb == pytest.approx(1.8, abs=0.4)
  assert found.total / gb == pytest.approx(18.5, abs=0.5)
  # All of it trained: 16 bytes a parameter.
  whole, _ = made(**{"lora.rank": 0})
  full = budget.budgets(whole, chips.find_slice("v6e:1x1"), params)["sft"]
  assert full.frozen == 0 and full.total / gb > 129


def test_float32_beside_it_is_twice_as_much_and_advised_against():
  config, params = made(**{"lora.base_dtype": "float32"})
  place = chips.find_slice("v6e:1x1")
  found = budget.budgets(config, place, params)["sft"]
  assert found.frozen / capacity.GB == pytest.approx(32.3, abs=0.2)
  words = budget.advice(config, place, params, "sft")
  assert words[0].startswith("config.lora.base_dtype=bfloat16 (about 16.")


@pytest.mark.slow
def test_the_plan_says_what_is_trained(capsys):
  words = ["--config=configs/sft.py:7b", "--plan", "--config.lora.rank=16"]
  assert main.main(words) == 0
  said = capsys.readouterr().out
  assert "sft: LoRA of rank 16 trains 40,370,176" in said
  assert " frozen " in said.splitlines()[3]
  (line,) = [
    each for each in said.splitlines() if each.startswith("v5p:2x2x1")
    and " sft " in each
  ]  # fmt: skip
  assert line.endswith(": fits")


def test_what_does_not_fit_is_refused_with_advice(capsys):
  words = ["--config=configs/sft.py:7b", "--config.lora.rank=16"]
  words += ["--compile_only", "--topology=v5e:1x1"]
  words += ["--config.pipeline=('sft',)"]
  assert main.main(words) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1
  assert "sft does not fit the 16 GB of a v5e: about" in error
  assert "17 of them parameters and optimiser; largest gain first: " in error
  assert "a larger slice, as v5e:4x4" in error


@pytest.mark.slow
def test_programs_hold_what_is_frozen_and_what_is_trained():
  config = base.get_base("smoke", (*PIPELINE, "grpo"))
  config = config.copy_and_resolve_references()
  config.grpo.rl.loss.kl_weight = 0.1
  sizes = {}
  for rank in (0, 2):
    config.lora.rank = rank
    with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
      for name, make in programs.of(config).items():
        if name in ("sft", "gradients", "apply"):
          made = make()
          made.trace()
          sizes[name, rank] = made.state
  # Adam's averages are of A and B; the frozen parameters are there once.
  assert sizes["sft", 2] < sizes["sft", 0] / 2
  assert sizes["apply", 2] < sizes["apply", 0] / 20
  assert sizes["sft", 2] - sizes["apply", 2] < 1.1 * sizes["gradients", 2]
