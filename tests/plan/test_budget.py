"""Memory by arithmetic: what it says, and what it advises."""

import functools

import jax
import pytest

from configs import base
from cooper_jax import main
from cooper_jax.parallel import chips, mesh, shard
from cooper_jax.plan import budget, capacity
from cooper_jax.policy import abstract_params, make_policy

PIPELINE = ("tokenizer", "pretrain", "sft", "grpo")
# Of the released models, without embedding and head (Hugging Face).
DECODERS = {"0p6b": 440_467_456, "7b": 6_525_621_760}


def made(variant):
  config = base.get_base(variant, PIPELINE)
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    return config, abstract_params(make_policy(config))


@functools.cache
def seven():
  return made("7b")


@pytest.mark.parametrize("name", DECODERS)
def test_sizes_have_the_parameters_of_the_released_models(name):
  params = made(name)[1]["params"]
  assert budget.count(params["decoder"]) == DECODERS[name]
  rows = params["embedding"].shape[0]
  assert rows >= 151_936 and rows % 8 == 0  # tensor cuts the table


def test_a_mixture_of_transformers_has_every_block_twice():
  params = made("7b_mot")[1]["params"]["decoder"]
  named = jax.tree_util.tree_leaves_with_path(params)
  halves = [
    sum(x.size for path, x in named if half in shard.path_name(path).split("/"))
    for half in ("main", "code")
  ]
  assert halves[0] == halves[1] == budget.count(params) / 2


def test_state_falls_as_one_over_the_chips():
  config, params = seven()
  sizes = [
    budget.budgets(config, chips.find_slice(f"v6e:{n}"), params)["sft"].state
    for n in ("4x4", "8x8", "16x16")
  ]
  assert sizes[0] == pytest.approx(4 * sizes[1])
  assert sizes[0] == pytest.approx(16 * sizes[2])
  # AdamW in float32: 12 bytes a parameter.
  assert sizes[0] == pytest.approx(12 * budget.count(params) / 16)


def test_logits_that_are_kept_take_their_room():
  config, params = seven()
  found = {}
  for limit in (0, 10**6):
    changed = config.copy_and_resolve_references()
    changed.model.kept_logits_mib = limit
    kind = chips.find_slice("v6e:4x4")
    found[limit] = budget.budgets(changed, kind, params)["sft"].logits
  assert found[10**6] > 1.5 * found[0] > 0


def test_what_does_not_fit_is_advised_largest_gain_first():
  config, params = seven()
  small = chips.find_slice("v5e:2x2")
  need = budget.budgets(config, small, params)["grpo"].total
  assert need > small.chip.memory_gb * capacity.GB
  words = budget.advice(config, small, params, "grpo")
  gains = [float(w.split("about ")[1].split(" GB")[0]) for w in words]
  assert gains == sorted(gains, reverse=True) and len(gains) >= 1
  with config.unlocked():
    config.model.remat = "none"
  words = budget.advice(config, small, params, "sft")
  config.model.remat = "full"
  assert any(word.startswith("config.model.remat=full") for word in words)


def test_a_knob_is_turned_as_far_as_it_must():
  config, params = seven()
  place = chips.find_slice("v6e:8x8")
  with config.unlocked():
    config.sft.batch = 64 * 16  # of which one or two a chip have room

  def need(pieces):
    config.sft.optim.micro_batches = pieces
    share = budget.budgets(config, place, params)["sft"].total
    return share / (place.chip.memory_gb * capacity.GB)

  (word,) = [
    each for each in budget.advice(config, place, params, "sft")
    if "micro_batches" in each
  ]  # fmt: skip
  pieces = int(word.split("micro_batches=")[1].split()[0])
  assert 1 < pieces <= 16
  assert need(pieces) < capacity.FILLED < need(pieces // 2)


def test_the_plan_goes_through_every_slice(capsys):
  assert main.main(["--config=configs/grpo.py:0p6b", "--plan"]) == 0
  said = capsys.readouterr().out
  for name in chips.LISTED:
    assert f"\n{name} " in said
  large = [line for line in said.splitlines() if line.startswith("v5p:4x4x4")]
  assert len(large) == 3 and all(line.endswith(": fits") for line in large)
  # Of reinforcement, what a chip draws at most; of other stages nothing.
  drawn = [line.split(" of ")[0].split()[-2] for line in large]
  assert float(drawn[2].replace(",", "")) > 1000
  assert all("," not in each for each in drawn[:2])


def test_seven_billion_do_not_fit_four_small_chips(capsys):
  """Without a compiler: parameters and optimiser alone are too many."""
  words = [
    "--compile_only",
    "--topology=v5e:2x2",
    "--config.pipeline=('grpo',)",
  ]
  assert main.main(["--config=configs/grpo.py:7b", *words]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1
  assert "grpo does not fit the 16 GB of a v5e: about" in error
  assert "24 of them parameters and optimiser; largest gain first: " in error
  assert "config.grpo.rows=" in error and "a larger slice, as v5e:" in error


@pytest.mark.parametrize(
  ("words", "said"),
  [
    (["--compile_only"], "needs --topology"),
    (["--topology=v6e:4x4"], "goes with --compile_only"),
    (["--compile_only", "--topology=v9:4x4"], 'no topology "v9:4x4"'),
    (["--compile_only=maybe", "--topology=v6e:4x4"], "--compile_only=maybe"),
    (["--compile_only", "--topology=h100:8"], "only TPUs can be compiled"),
    (
      ["--compile_only", "--topology=v6e:4x4", "--config.mesh.tensor=4"],
      "tensor=4 does not divide config.model.kv_heads=2; the most is 2",
    ),
    (
      [
        "--compile_only",
        "--topology=v6e:16x16",
        "--config.mesh.data=1",
        "--config.mesh.fsdp=256",
      ],
      "fsdp=256 does not divide config.model.d_model=64; the most is 64",
    ),
    (
      ["--compile_only", "--topology=v6e:4x4", "--config.mesh.data=3"],
      "which 16 devices can't fill",
    ),
  ],
)
def test_bad_input_is_one_line(words, said, capsys):
  assert main.main(["--config=configs/sft.py:smoke", *words]) == 2
  error = capsys.readouterr().err
  assert said in error and error.count("\n") == 1
