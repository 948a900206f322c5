"""Words of the field in the code: our own old ones do not come back."""

import ast
import dataclasses
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ("cooper_jax", "configs", "launch", "notebooks", "tests", "docs")
KINDS = (".py", ".sh", ".ipynb", ".md")
MANIFEST = ROOT / "cooper_jax/assets/tiny/manifest.json"
EVERYWHERE = ""
# The suggestion of a setting for an old name of it: the test has the old name,
# and the comment of the setting has the old word, which is what is compared.
OLD_NAMES = (
  r"tests/settings/test_suggest",
  "",
  "old words are what it is asked",
)
OLDER_PACKAGE = (
  r"tests/test_package",
  "is True there and absent here",
  "a package of older names",
)
COMMENT = "a name of old leads here by this word (settings/suggest.py)"
CODE = r"(cooper_jax|configs|notebooks)/"
# Where arrays and parameters are divided over devices.
SHARDING = (
  r"cooper_jax/(parallel|plan|policy|package|rl/(build|losses|update)|models/"
  r"|sequences/|training/(checkpoint|manifest|profile)"
  r"|rollouts/(documents|validation_pictures))|configs/sizes"
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
    allowed=(
      OLD_NAMES,
      (r"configs/base|docs/settings", "maps that were edited", COMMENT),
    ),
  ),
  "own_map": Word(
    word("own_maps?|own_share"), "self-generated maps", allowed=(OLD_NAMES,)
  ),
  "faulty": Word(
    word("faulty"),
    "corrupted or swapped map",
    allowed=(
      OLD_NAMES,
      (r"configs/base|docs/settings", "corrupted.*show a faulty map", COMMENT),
    ),
  ),
  "measured": Word(
    r"(sft|config|settings)\.measured|\bunmeasured",
    "lengths_need_map",
    allowed=(OLD_NAMES,),
  ),
  "given": Word(
    r"class Given\b|\bGiven\(|(pretrain|settings)\.given\b|model\.read\b",
    "ContextMap, map_context, map_lookup",
    allowed=(OLD_NAMES, OLDER_PACKAGE),
  ),
  "counts": Word(
    r"(pretrain|sft|settings)\.(counts|marks)\b",
    "extra_counting, single_object",
    allowed=(OLD_NAMES,),
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
    word("live"), "trainable, active", r"cooper_jax/(rl|sampling|sequences|mod)"
  ),
  "openings": Word(r"\bopenings_[A-Z]+|\.openings\b|openings=", "allowed_maps"),
  "apart": Word(
    r"\.apart\b|\bapart=|\bapart: (bool|whether)", "unstacked", CODE
  ),
  "cut": Word(word("cuts?"), "sharded, shards", SHARDING),
  "lie": Word(word("lie|lies|lying"), "sharding, sharded", SHARDING),
  "slot": Word(
    word("slots?"),
    "modality id, position",
    CODE,
    ((r"cooper_jax/world/", "", "the place of an object in a scene's arrays"),),
  ),
  "group": Word(
    word("map_group|map_slots?"),
    "codes_per_step, map_positions",
    allowed=(OLD_NAMES,),
  ),
  "block": Word(
    word("blocks?"),
    "bins of a row",
    r"cooper_jax/(sequences|data/tasks|sampling|rl|rollouts|settings"
    r"|stages/(sft|pretrain|grpo))|configs/",
    (
      (r".*", r"network\.", "residual blocks of the map tokenizer"),
      (r".*", r"block_until_ready", "a function of JAX"),
      (r"configs/(base|reinforcement)", r"^  bins?: int", COMMENT),
    ),
  ),
  "start_as": Word(r"start_as|config\.start\b", "init_as, init_from"),
  "Reason": Word(
    r"class (Pretrain|Reason)\b|tasks\.(Pretrain|Reason)\b",
    "MapTask, ReasoningTask",
  ),
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
  found = find(WORDS[name], texts)
  assert not found, f"say {WORDS[name].now}:\n" + "\n".join(found)


def test_no_allowed_place_is_idle(texts):
  idle = [
    (name, place, words)
    for name, what in WORDS.items()
    for place, words, _ in what.allowed
    if not any(
      re.match(place, path)
      and re.match(what.where, path)
      and any(
        re.search(what.old, line) and re.search(words, line)
        for line in text.splitlines()
      )
      for path, text in texts
    )
  ]
  assert idle == []


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
  assert bad == {}


@pytest.mark.parametrize(
  "line", ["The same on what was never taught.", "How a batch lies.", "Works."]
)
def test_a_riddle_is_noticed(line):
  assert RIDDLE.match(line)


FILE = re.compile(r"(?<![\w.*])[\w/]+\.py\b")
EXAMPLES = {"FILE.py", "a.py"}  # of a command line


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
  assert gone == {}
