"""Words of the field in the code: our own old ones do not come back."""

import ast
import dataclasses
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ("cooper_jax", "configs", "launch", "notebooks", "tests")
KINDS = (".py", ".sh", ".ipynb")
MANIFEST = ROOT / "cooper_jax/assets/tiny/manifest.json"
EVERYWHERE = ""
CODE = r"(cooper_jax|configs|notebooks)/"
# Where arrays and parameters are divided over devices.
SHARDING = (
  r"cooper_jax/(parallel|plan|policy|package|rl/update|models/kernels"
  r"|models/cache|training/checkpoint|training/manifest"
  r"|rollouts/validation_pictures)|configs/sizes"
)


@dataclasses.dataclass(frozen=True)
class Word:
  """An old word: what says it now, where it counts, where it may stand."""

  old: str  # a pattern
  now: str
  where: str = EVERYWHERE  # of a path's beginning
  # (path, line, reason): patterns of the places where it is the field's.
  allowed: tuple[tuple[str, str, str], ...] = ()


def word(text: str) -> str:
  """A pattern of whole words; an underscore ends one, as a space does."""
  return rf"(?i:(?<![a-z0-9])(?:{text})(?![a-z0-9]))"


WORDS = {
  "lesson": Word(word("lessons?"), "task, MapTask, ReasoningTask"),
  "teach": Word(
    word("teach|teaches|teaching|taught|untaught"), "trained, in the loss"
  ),
  "Writer": Word(
    r"\bWriter\b|policy\.writer|\bwriter\.\w+s\(",
    "MarkupEncoder",
    allowed=(
      (r".*", r"writer\.(scalars|images)\(", "TensorBoard's: writes metrics"),
    ),
  ),
  "asking": Word(r"\basking\.\w|import asking|RolloutView", "Responses"),
  "runner": Word(word("runner"), "generate"),
  "edit": Word(
    r"\bedits\b|\bEdits\b|\bedited\b|\bretell|\bretold|(\.|def )edit\(",
    "counterfactual maps, rewrite_trace",
  ),
  "own_map": Word(word("own_maps?|own_share"), "self-generated maps"),
  "faulty": Word(word("faulty"), "corrupted or swapped map"),
  "measured": Word(
    r"(sft|config|settings)\.measured|\bunmeasured", "lengths_need_map"
  ),
  "given": Word(
    r"class Given\b|\bGiven\(|(pretrain|settings)\.given\b|model\.read\b",
    "ContextMap, map_context, map_lookup",
  ),
  "counts": Word(
    r"(pretrain|sft|settings)\.(counts|marks)\b",
    "extra_counting, single_object",
  ),
  "peers": Word(r"import peers\b|parallel\.peers|(?<!_)peers\.py", "watchdog"),
  "rehearsal": Word(word(r"rehears\w+"), "plan; of the launcher: dry run"),
  "memory": Word(r"import memory\b|runtime\.memory\b", "malloc"),
  "habits": Word(word("habits?"), "behaviour"),
  "wide": Word(r"\bwide\(|refuse_nothing", "as_float, check_any_scored"),
  "Carry": Word(r"\bCarry\b", "SamplerState"),
  "Rolled": Word(
    r"(class|->|:) (Rolled|Seen|Sampled)\b|\b(Rolled|Seen|Sampled)\(",
    "Scored rollouts",
  ),
  "terms": Word(
    r"import (terms|corrections)\b|rl\.(terms|corrections)\b"
    r"|\b(terms|corrections)\.py|control\.deal|def deal\b",
    "surrogates, off_policy, shuffle_rewards",
  ),
  "behind": Word(r"\.behind\b|\bbehind=", "stale_params"),
  "live": Word(
    word("live"),
    "trainable, active",
    r"cooper_jax/(rl|sampling|sequences|mod)",
    ((r".*scoring\.py", "logits live at once", "the verb: are in memory"),),
  ),
  "openings": Word(r"\bopenings_[A-Z]+|\.openings\b|openings=", "allowed_maps"),
  "apart": Word(
    r"\.apart\b|\bapart=|\bapart: (bool|whether)", "unstacked", CODE
  ),
  "cut": Word(
    word("cuts?"),
    "sharded, shards",
    SHARDING,
    ((r".*", r"\bcut (off|short)\b", "ended before its time"),),
  ),
  "lie": Word(word("lie|lies|lying"), "sharding, sharded", SHARDING),
  "slot": Word(
    word("slots?"),
    "modality id, position",
    CODE,
    ((r"cooper_jax/world/", "", "the place of an object in a scene's arrays"),),
  ),
  "group": Word(word("map_group|map_slots?"), "codes_per_step, map_positions"),
  "block": Word(
    word("blocks?"),
    "bins of a row",
    r"cooper_jax/(sequences|data/tasks|sampling|rl|rollouts|settings"
    r"|stages/(sft|pretrain|grpo))|configs/",
    ((r".*", r"network\.", "residual blocks of the map tokenizer"),),
  ),
  "start_as": Word(r"start_as|config\.start\b", "init_as, init_from"),
  "Reason": Word(
    r"class (Pretrain|Reason)\b|tasks\.(Pretrain|Reason)\b",
    "MapTask, ReasoningTask",
  ),
}
# To be emptied: each stands in a file that others were changing.
LEFT: dict[str, str] = {
  "lesson": """
    cooper_jax/stages/pretrain.py
    cooper_jax/stages/sft.py
    cooper_jax/stages/supervised.py
  """,
  "teach": """
    configs/base.py
    configs/variants.py
    cooper_jax/ask.py
    cooper_jax/rl/advantages.py
    cooper_jax/rl/dynamic_sampling.py
    cooper_jax/rl/off_policy.py
    cooper_jax/rl/rewards/judge.py
    cooper_jax/rl/shuffle_rewards.py
    cooper_jax/rl/step.py
    cooper_jax/rollouts/lengths.py
    cooper_jax/rollouts/prompts.py
    cooper_jax/rollouts/self_maps.py
    cooper_jax/sequences/distribution.py
    cooper_jax/sequences/markup.py
    cooper_jax/settings/checks.py
    cooper_jax/stages/evaluate.py
    cooper_jax/stages/supervised.py
    cooper_jax/stages/tokenizer.py
    cooper_jax/world/questions/assemble.py
    tests/rl/test_advantages.py
    tests/rl/test_dynamic_sampling.py
    tests/rl/test_learning.py
    tests/rl/test_pipeline.py
    tests/rl/test_rollout_log.py
    tests/rl/test_surrogates.py
  """,
  "edit": """
    cooper_jax/data/codes.py
    cooper_jax/data/counterfactual.py
    cooper_jax/data/tasks.py
    cooper_jax/eval/reading.py
    cooper_jax/stages/supervised.py
    tests/data/test_tasks.py
    tests/eval/test_reading.py
  """,
  "Rolled": """
    cooper_jax/rl/dynamic_sampling.py
    cooper_jax/rl/step.py
    tests/rl/test_dynamic_sampling.py
  """,
  "live": """
    cooper_jax/models/unified.py
    cooper_jax/rl/advantages.py
    cooper_jax/rl/losses.py
    cooper_jax/rl/off_policy.py
    cooper_jax/sampling/sampler.py
  """,
  "apart": """
    cooper_jax/rl/step.py
  """,
  "cut": """
    configs/sizes.py
    cooper_jax/models/kernels.py
    cooper_jax/parallel/mesh.py
    cooper_jax/parallel/shard.py
  """,
  "lie": """
    cooper_jax/models/cache.py
    cooper_jax/rl/update.py
    cooper_jax/rollouts/validation_pictures.py
  """,
  "slot": """
    configs/base.py
    configs/sizes.py
    cooper_jax/sequences/distribution.py
    cooper_jax/sequences/segments.py
  """,
  "block": """
    cooper_jax/rl/step.py
    cooper_jax/sequences/packing.py
  """,
}


def files():
  for folder in FOLDERS:
    for path in sorted((ROOT / folder).rglob("*")):
      if path.suffix in KINDS and path.name != pathlib.Path(__file__).name:
        yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
  yield MANIFEST.relative_to(ROOT).as_posix(), MANIFEST.read_text("utf-8")


def find(what: Word, texts) -> list[str]:
  """Lines that have an old word where it is not the field's."""
  old, found = re.compile(what.old), []
  for path, text in texts:
    if not re.match(what.where, path) or not old.search(text):
      continue
    for number, line in enumerate(text.splitlines(), 1):
      spared = any(
        re.match(place, path) and re.search(words, line)
        for place, words, _ in what.allowed
      )
      if old.search(line) and not spared:
        found.append(f"{path}:{number}: {line.strip()}")
  return found


@pytest.fixture(scope="module")
def texts():
  return list(files())


@pytest.mark.parametrize("name", WORDS)
def test_an_old_word_is_gone(texts, name):
  what, left = WORDS[name], LEFT.get(name, "").split()
  found = find(what, texts)
  stray = [f for f in found if f.split(":")[0] not in left]
  assert not stray, f"say {what.now}:\n" + "\n".join(stray)
  # Else the list is longer than it need be.
  assert {f.split(":")[0] for f in found} >= set(left)


PLANTED = {
  "lesson": "def make_lesson(policy):",
  "teach": "# rollouts that teach nothing",
  "Writer": "writer = policy.writer",
  "asking": "view: RolloutView",
  "runner": "from cooper_jax.rl import runner",
  "edit": "codes = edited(codes)",
  "own_map": "config.own_share = 0.5",
  "faulty": 'KINDS = ("faulty", "other")',
  "measured": "if config.measured:",
  "given": "class Given(NamedTuple):",
  "counts": "settings.counts",
  "peers": "noticed sooner (peers.py)",
  "rehearsal": "except in a rehearsal",
  "memory": "from cooper_jax.runtime import memory",
  "habits": "found |= habits(view)",
  "wide": "total = wide(rewards)",
  "Carry": "carry: Carry",
  "Rolled": "def see(self, rolled) -> Seen:",
  "terms": "from cooper_jax.rl import terms",
  "behind": "state.replace(behind=params)",
  "live": "live = mask.sum()",
  "openings": "openings_BL: jax.Array",
  "apart": "start(prompt, apart=True)",
  "cut": "how an array is cut",
  "lie": "shapes with how they lie",
  "slot": "a map slot sees its cell",
  "group": "config.map_group = 8",
  "block": "a row's blocks",
  "start_as": "--config.start_as=sft",
  "Reason": "task = tasks.Reason(policy)",
}


@pytest.mark.parametrize("name", WORDS)
def test_a_planted_old_word_is_found(name):
  places = ["cooper_jax/sequences/new.py", "cooper_jax/parallel/new.py"]
  assert any(find(WORDS[name], [(p, PLANTED[name])]) for p in places)


def test_the_fields_own_words_pass():
  kept = [
    ("cooper_jax/world/layout/new.py", "slot = 1  # of an object"),
    ("cooper_jax/training/new.py", "writer.scalars(step, means)"),
    ("cooper_jax/world/questions/new.py", '"Seen from the {a} , behind"'),
    ("cooper_jax/sampling/new.py", "carry = step(carry)"),
    ("cooper_jax/rl/new.py", "rollouts that were cut off"),
    ("cooper_jax/models/new.py", "class Block(nn.Module):"),
  ]
  assert [f for w in WORDS.values() for f in find(w, kept)] == []


# A first line has a thing of the field as its subject, and no riddle.
RIDDLE = re.compile(
  r"(What|Which|How|Where|When|Who|Is|Does|It|Its|They|These|This|Here|More"
  r"|The same|Works|Puts|Asking)\b"
)
LINES_LEFT = """
  cooper_jax/modalities/__init__.py
  cooper_jax/models/token_kinds.py
  cooper_jax/rl/off_policy.py
  cooper_jax/rl/surrogates.py
  cooper_jax/runtime/interrupt.py
  cooper_jax/sampling/grammar.py
  cooper_jax/sampling/state.py
  cooper_jax/settings/__init__.py
  cooper_jax/settings/checks.py
  cooper_jax/settings/ranges.py
  cooper_jax/world/questions/assemble.py
  cooper_jax/world/questions/counting.py
  cooper_jax/world/questions/measure.py
  cooper_jax/world/questions/surface_distance.py
""".split()


def first_lines():
  for path in sorted((ROOT / "cooper_jax").rglob("*.py")):
    said = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    yield path.relative_to(ROOT).as_posix(), said.partition("\n\n")[0]


def test_first_lines_stand_alone():
  bad = {
    path: line
    for path, line in first_lines()
    if RIDDLE.match(line) or "\n" in line or not line.endswith(".")
  }
  assert {p: line for p, line in bad.items() if p not in LINES_LEFT} == {}
  assert bad.keys() >= set(LINES_LEFT)


@pytest.mark.parametrize(
  "line", ["The same on what was never taught.", "How a batch lies.", "Works."]
)
def test_a_riddle_is_noticed(line):
  assert RIDDLE.match(line)


FILE = re.compile(r"(?<![\w.*])[\w/]+\.py\b")
EXAMPLES = {"FILE.py", "a.py"}  # of a command line
FILES_LEFT = """
  cooper_jax/models/config.py
  cooper_jax/stages/grpo.py
  cooper_jax/stages/supervised.py
  cooper_jax/training/loop.py
  cooper_jax/world/questions/debias.py
""".split()


def test_files_that_the_code_names_exist(texts):
  there = ["/" + path for path, _ in texts]
  gone = {
    path: sorted(missing)
    for path, text in texts
    if path.startswith("cooper_jax/") and path.endswith(".py")
    if (
      missing := {
        name
        for name in FILE.findall(text)
        if name not in EXAMPLES
        and not any(t.endswith("/" + name) for t in there)
      }
    )
  }
  assert {p: names for p, names in gone.items() if p not in FILES_LEFT} == {}
  assert gone.keys() >= set(FILES_LEFT)
