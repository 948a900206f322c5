"""The bench: every work runs, and its line says what it was and took."""

import json
import sys
import time

import jax
import pytest

from configs import base
from cooper_jax.bench import __main__, reading, step_wait, subjects, training
from cooper_jax.data import pipeline
from cooper_jax.models.config import BinLayout
from cooper_jax.parallel import mesh
from cooper_jax.sequences import packing

SMALL = ["--prompts=2", "--group=2", "--prompt_len=16", "--repeats=2", "--json"]
LITTLE = (1, 64, 1, 1, 96, 4200, False)  # layers, width, heads, ..: DECODERS


@pytest.fixture
def little(monkeypatch):
  """The bench's own works on a decoder that compiles at once."""
  monkeypatch.setitem(subjects.DECODERS, "S", LITTLE)


def run(capsys, *arguments):
  assert __main__.main([*SMALL, *arguments]) == 0
  (line,) = capsys.readouterr().out.splitlines()
  return json.loads(line)


def test_the_smallest_shape_has_five_million_parameters():
  policy = subjects.make_policy("S")
  with jax.set_mesh(mesh.make_mesh()):
    params = jax.eval_shape(lambda: subjects.make_params(policy))
  # 4 layers of 256 wide, 704 inside, 8,192 words and some specials.
  assert 5.0e6 < sum(subjects.matrices(params, policy)) < 5.1e6


@pytest.mark.ci
@pytest.mark.parametrize("what", ["generate", "sft", "grpo"])
def test_a_work_is_timed_and_held_against_the_floor(what, little, capsys):
  found = run(capsys, f"--what={what}", "--new=12")
  assert found["what"] == what and found["shape"] == "S"
  assert found["repeats"] == 2
  assert 0 < found["cpu_min_s"] <= found["cpu_s"]
  assert found["wall_s"] > 0 and found["first_s"] > 0
  # Four square matrices, three of 64 by 96, the head and its specials.
  assert 303_616 < found["parameters"] < 315_000
  tokens = {"generate": 48, "sft": 32, "grpo": 48}[what]
  assert 0.8 * tokens <= found["tokens"] <= tokens
  assert found["floor_s"] > 0 and found["of_floor"] > 0
  assert found["core_gflops"] > 0 and found["core_gb_s"] > 0
  assert found["peak_memory_mib"] > 100


def test_rows_are_packed_as_the_stages_pack_them_or_free(little):
  """A trunk of an eighth and two bins, or one text from end to end."""
  words = ["--what=sft", "--prompts=1", "--prompt_len=64"]
  policy = subjects.make_policy("S")
  found = {}
  for rows in ("packed", "free"):
    asked = __main__.parse([*words, f"--rows={rows}"])
    (document,), shape, keys = training.rows_of_text(asked, policy)
    packing.pack([document], form=policy.form, shape=shape, rows=1)  # fits
    found[rows] = shape, len(document.branches), keys
  shape, branches, keys = found["packed"]
  assert (shape.bins, shape.length) == (BinLayout(8, 28), 64) and branches == 2
  # 8 of the trunk see 4 on average, 56 the trunk and half of 28.
  assert keys == (8 * 4 + 56 * (8 + 14)) / 64
  assert found["free"][0].bins is None and found["free"][2] == 32
  assert __main__.parse(words).rows == "packed"
  assert __main__.parse([*words, "--beside"]).rows == "free"


@pytest.mark.ci
def test_a_prompt_that_is_shared_gives_the_same_gradient(little, capsys):
  found = run(capsys, "--what=prefix", "--new=16", "--group=4")
  assert found["largest_difference"] < 1e-5
  assert found["faster"] > 0


@pytest.mark.slow
def test_maps_are_timed_in_every_mode(capsys):
  found = run(capsys, "--what=maps", "--prompt_len=80")
  assert set(found["maps"]) == {"token", "row", "all"}
  assert found["map_codes"] == 64
  assert found["maps"]["token"]["faster"] == 1
  # A row of 8 codes in a step, or 64: fewer steps take less time.
  assert found["maps"]["row"]["faster"] > 1.2


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["--what=train"], "invalid choice"),
    (["--shape=XL"], "invalid choice"),
    (["--repeats=0"], "must be positive"),
    (["--new=3"], "--new 12 or more"),
    (["--what=sft", "--beside=tunix"], "--beside=tunix has no sft"),
    (["--what=maps", "--beside"], "--beside=torch has no maps"),
    (["--what=sft", "--beside", "--rows=packed"], "has no packed rows"),
    (["--what=device", "--minutes=0"], "must be positive"),
  ],
)
def test_wrong_arguments_are_named(arguments, said, capsys):
  with pytest.raises(SystemExit) as stopped:
    __main__.main(arguments)
  assert stopped.value.code == 2
  assert said in capsys.readouterr().err


def test_more_threads_than_cores_are_refused(capsys):
  assert __main__.main(["--threads=4096"]) == 2
  assert capsys.readouterr().err.startswith("error: --threads is 4096")


def test_works_are_timed_in_turn_until_the_limit():
  """First all compile; a round is whole, and one there is always."""
  order = []
  works = [
    subjects.Work(
      lambda number, name=name: order.append((name, number)),
      lambda timing, name=name: {"name": name, "calls": timing["repeats"]},
    )
    for name in "ab"
  ]
  one, other = subjects.in_turn(works, 2)
  calls = [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
  assert order == calls
  assert (one["name"], one["calls"], other["calls"]) == ("a", 2, 2)
  order.clear()
  subjects.in_turn(works, 2, limit=1e-9)
  assert order == calls[:4]


@pytest.mark.ci
@pytest.mark.parametrize("in_turn", [True, False])
def test_another_library_is_timed_beside(in_turn, little, monkeypatch, capsys):
  """Its figures stand beside ours, with the ratio of CPU seconds."""
  asked_of = []

  def generate(asked, threads):
    asked_of.append((asked.new, asked.precision, threads))
    if in_turn:
      return subjects.Work(lambda _: None, lambda _: {"cpu_s": 1e3, "by": "it"})
    return lambda: {"by": "it", "cpu_s": 1e3, "wall_s": 2e3}

  monkeypatch.setattr(__main__.torch_peers, "generate", generate)
  words = ["--prompts=1", "--group=2", "--new=12", "--repeats=1", "--json"]
  assert __main__.main([*words, "--beside"]) == 0
  line = json.loads(capsys.readouterr().out)
  assert asked_of == [(12, "f32", line["threads"])]
  assert line["beside"]["by"] == "it"
  assert line["cpu_ratio"] == pytest.approx(1e3 / line["cpu_s"], rel=2e-3)
  wall = line["beside"]["wall_s"] / line["wall_s"]
  assert line["wall_ratio"] == pytest.approx(wall, rel=2e-3)


@pytest.mark.ci
def test_people_are_told_cpu_seconds_first(little, capsys):
  words = ["--prompts=1", "--prompt_len=16", "--repeats=1", "--what=sft"]
  assert __main__.main(words) == 0
  said = capsys.readouterr().err.splitlines()
  assert said[2].endswith("packed rows, f32, " + said[2].split(", ")[-1])
  assert "CPU s" in said[3] and said[3].index("CPU s") < said[3].index("wall")
  assert said[4].startswith("floor / ours")


@pytest.mark.parametrize(
  ("name", "said"),
  [
    ("torch", "error: --beside needs torch: pip install torch"),
    ("tunix", "error: --beside=tunix needs tunix: pip install google-tunix"),
  ],
)
def test_a_library_that_is_not_there_is_one_line(
  name, said, little, monkeypatch, capsys
):
  monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
  words = ["--prompts=1", "--group=2", "--new=12", "--repeats=1"]
  assert __main__.main([*words, f"--beside={name}"]) == 2
  printed = capsys.readouterr()
  assert printed.out == ""
  assert said in printed.err


@pytest.mark.ci
def test_reading_is_told_for_both_sizes(monkeypatch, capsys):
  told = {"share": 0.01, "step_s": 0.5, "goal": step_wait.WAIT_GOAL}
  monkeypatch.setattr(step_wait, "of_packaged", lambda: told)
  monkeypatch.setattr(reading, "READ_SIZES", {16: (32, 9), 8: (32, 7)})
  found = run(capsys, "--what=data")
  assert found["sizes"].keys() == {"16 px", "8 px"}
  for part in found["sizes"].values():
    rate = 2000 / part["cpu_ms_an_example"]
    assert abs(part["examples_a_second_of_2_cores"] / rate - 1) < 0.01
  assert found["sizes"]["16 px"]["goal"] == 9
  assert found["wait"] == told
  (said,) = (line for line in __main__.told(found) if "for its batch" in line)
  assert said.startswith("wait     1.0% of a step of 0.5 s")


@pytest.mark.parametrize(
  ("wait", "work", "share"), [(0.03, 0.01, 0.75), (0.0, 0.02, 0.0)]
)
def test_the_wait_of_a_step_is_its_share_of_the_step(wait, work, share):
  ahead, read = pipeline.PREFETCH, []

  def batches():
    while True:
      read.append(1)
      time.sleep(0 if len(read) <= ahead else wait)  # some are made ahead
      yield {}

  def step(state, batch):
    time.sleep(work)
    return state + 1, {"loss": state}

  found = step_wait.waited(batches(), step, 0, steps=4)
  assert len(read) == 1 + ahead + 4
  assert found["step_s"] >= wait + work
  assert abs(found["share"] - share) < 0.2


@pytest.mark.slow
def test_steps_of_a_small_model_are_taken_on_a_built_set():
  config = base.get_base("smoke", ("pretrain",)).copy_and_resolve_references()
  with config.unlocked():
    config.model.update(d_model=32, layers=1, ffn=48, head_dim=8)
    config.model.vision.update(width=16, ffn=16)
    config.data.workers, config.pretrain.batch = 1, 2
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    found = step_wait.measure(config, scenes=4, steps=2)
  assert 0 <= found["share"] < 1 and found["wait_s"] <= found["step_s"]
