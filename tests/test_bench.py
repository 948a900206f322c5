"""The bench: every work runs, and its line says what it was and took."""

import json
import sys

import jax
import pytest

from cooper_jax.bench import __main__, subjects
from cooper_jax.parallel import mesh

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


@pytest.mark.parametrize("what", ["generate", "sft", "grpo"])
def test_a_work_is_timed_and_held_against_the_floor(what, little, capsys):
  found = run(capsys, f"--what={what}", "--new=12")
  assert found["what"] == what and found["shape"] == "S"
  assert found["seconds"]["n"] == 2
  assert 0 < found["seconds"]["min"] <= found["seconds"]["median"]
  # Four square matrices, three of 64 by 96, the head and its specials.
  assert 303_616 < found["parameters"] < 315_000
  tokens = {"generate": 48, "sft": 32, "grpo": 48}[what]
  assert 0.8 * tokens <= found["tokens"] <= tokens
  assert found["floor_s"] > 0 and found["of_floor"] > 0
  assert found["gemm_gflops"] > 0 and found["bandwidth_gb_s"] > 0
  assert found["peak_memory_mib"] > 100


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


def test_another_library_is_timed_beside(little, monkeypatch, capsys):
  """Its figures stand beside ours, with the ratio of the two."""
  theirs = {"by": "it", "seconds": {"median": 1e3}, "cpu_seconds": 2e3}
  asked_of = []

  def generate(asked, threads):
    asked_of.append((asked.new, threads))
    return theirs

  monkeypatch.setattr(__main__.torch_peers, "generate", generate)
  words = ["--prompts=1", "--group=2", "--new=12", "--repeats=1", "--json"]
  assert __main__.main([*words, "--beside"]) == 0
  line = json.loads(capsys.readouterr().out)
  assert asked_of == [(12, line["threads"])] and line["beside"] == theirs
  ratio = 1e3 / line["seconds"]["median"]
  assert line["faster"] == pytest.approx(ratio, rel=2e-3)


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
