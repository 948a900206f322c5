"""README and docs/: short pages whose names, paths and links all exist."""

import ast
import re

import pytest

from cooper_jax import command, errors
from cooper_jax.rl import advantages, losses, off_policy
from tests import pages

ROOT = pages.ROOT
NAME = re.compile(r"[\w*.-]+(?:\.py|\.sh|\.txt|\.md|\.toml|\.ipynb|/)$")
PATH = re.compile(r"[\w./-]+(?:\.(?:py|sh|txt|ipynb|png|md|cff|svg|toml)|/)")
# Files of the examples, and what a run leaves behind.
MADE = ("runs/", "report/", "plugins/", "checkpoints/", "pictures/", "logs/")
EXAMPLES = ("normals", "brief")


def lines(page) -> int:
  return len(pages.text(page).splitlines())


@pytest.mark.parametrize("page", pages.NAMES)
def test_pages_are_short(page):
  assert lines(page) <= (200 if page == "README.md" else 250)


@pytest.mark.parametrize("page", pages.NAMES)
def test_links_lead_somewhere(page):
  for target in pages.links(page):
    path, _, anchor = target.partition("#")
    there = (ROOT / page).parent / path if path else ROOT / page
    assert there.exists(), f"{page}: {target}"
    if anchor:
      assert anchor in pages.anchors(there), f"{page}: {target}"


def test_every_page_is_reached_from_readme():
  seen, todo = set(), [pages.README]
  while todo:
    page = todo.pop().resolve()
    if page in seen or page.suffix != ".md" or not page.exists():
      continue
    seen.add(page)
    found = (link.partition("#")[0] for link in pages.links(page))
    todo += [page.parent / link for link in found if link]
  assert set(map(str, pages.PAGES)) <= set(map(str, seen))


@pytest.mark.parametrize("page", pages.NAMES)
def test_paths_in_the_text_exist(page):
  for span in pages.spans(page):
    if not PATH.fullmatch(span) or span.startswith(MADE):
      continue
    if "/" not in span.rstrip("/") and span.endswith("/"):
      there = [ROOT / span, ROOT / "cooper_jax" / span]
    else:
      there = [ROOT / span, (ROOT / page).parent / span]
    made = any(word in span for word in EXAMPLES)
    assert made or any(path.exists() for path in there), f"{page}: {span}"


def settings_of(page, config) -> list[str]:
  """Names of settings between backticks: grpo.rl.loss.kind=gspo, too."""
  found = []
  for span in pages.spans(page):
    for word in span.split():
      name = word.removeprefix("--config.").partition("=")[0].rstrip(",")
      section, dot, rest = name.partition(".")
      known = section == "<stage>" or section in config
      if dot and known and re.fullmatch(r"[\w.<>]+", rest):
        found.append(name)
  file_ends = (".py", ".jsonl", ".json", ".png")
  return [name for name in found if not name.endswith(file_ends)]


def exists(name: str, config) -> bool:
  here = config
  for key in name.replace("<stage>", "sft").split("."):
    if key.startswith("<"):
      return True  # of any plug-in
    if isinstance(here, (str, int, float, tuple)) or key not in here:
      return False
    here = here[key]
  return True


def test_settings_in_the_text_exist():
  config = command.load_config("configs/grpo.py")
  found = {page: settings_of(page, config) for page in pages.NAMES}
  assert sum(map(len, found.values())) > 60
  for page, names in found.items():
    made = [n for n in names if n.split(".")[-1] not in EXAMPLES]
    wrong = [name for name in made if not exists(name, config)]
    assert wrong == [], page
  assert not exists("grpo.rl.loss.clip", config)
  assert exists("<stage>.optim.micro_batches", config)


def the_map():
  """Paths that the map of docs/architecture.md names, from indentation."""
  text = next(
    block
    for block in pages.blocks(page="docs/architecture.md")
    if block.startswith("cooper_jax/")
  )
  paths, folders = [], []
  for line in text.splitlines():
    depth = (len(line) - len(line.lstrip())) // 2
    for word in line.split():
      if not NAME.match(word):
        break
      path = "/".join([*folders[:depth], word.rstrip("/")])
      paths.append(path)
      if word.endswith("/"):
        folders[depth:] = [word.rstrip("/")]
  return paths


def test_the_map_of_the_house_is_the_tree():
  named = set()
  for path in the_map():
    matches = {str(p.relative_to(ROOT)) for p in ROOT.glob(path)}
    assert matches, f"{path} is in the map and not in the tree"
    named |= matches
  there = {
    str(path.relative_to(ROOT))
    for folder in ("cooper_jax", "launch")
    for path in (ROOT / folder).rglob("*.py")
    if path.name != "__init__.py"
  }
  missing = sorted(there - named)
  assert not missing, f"not in the map of docs/architecture.md: {missing}"


def test_the_map_says_the_floors_of_the_test():
  from tests import test_floors

  text = pages.text("docs/architecture.md")
  said = dict(re.findall(r"^  (\w+)(?:\.py|/) +F(\d+) ", text, re.M))
  parts = set(test_floors.FLOOR) - {"__init__"}
  there = {part for part in parts if exists_part(part)}
  assert said == {part: str(test_floors.FLOOR[part]) for part in there}


def exists_part(part: str) -> bool:
  path = ROOT / "cooper_jax" / part
  return path.is_dir() or path.with_suffix(".py").is_file()


def reading_list() -> list[str]:
  text = pages.text("docs/method.md")
  part = text.partition("## Read these nine files")[2]
  return re.findall(r"^\d\. `([\w/.]+)`", part, re.M)


def test_the_reading_list_is_read_in_an_hour():
  found = reading_list()
  assert len(found) == 9
  counts = {name: lines(name) for name in found}
  assert sum(counts.values()) <= 1800, counts


@pytest.mark.parametrize(
  ("setting", "table"),
  [
    ("grpo.rl.loss.kind", losses.LOSSES),
    ("grpo.rl.loss.kl", losses.PENALTIES),
    ("grpo.rl.loss.correction", off_policy.CORRECTIONS),
    ("grpo.rl.advantage", advantages.ADVANTAGES),
  ],
)
def test_the_choices_of_reinforcement_are_all_named(setting, table):
  text = pages.text("docs/rl.md")
  row = re.search(rf"^\| `{setting}` \| (.*?)(; .*)? \|$", text, re.M)
  assert set(re.findall(r"`(\w+)`", row[1])) == set(table)


def test_exit_codes_are_those_of_the_program():
  text = pages.text("docs/debugging.md")
  table = text[text.index("| code |") :].split("\n\n")[0]
  codes = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.M)}
  assert codes == {
    value for name, value in vars(errors).items() if name.startswith("EXIT_")
  }


def test_licence_and_citation_are_of_one_kind():
  assert "Apache License" in pages.text("LICENSE")
  assert 'license = "Apache-2.0"' in pages.text("pyproject.toml")
  cited = pages.text("CITATION.cff")
  assert "license: Apache-2.0" in cited and "2512.04563" in cited
  version = re.search(r'^version = "(.*)"', pages.text("pyproject.toml"), re.M)
  assert f"version: {version[1]}" in cited


def test_the_python_of_the_pages_is_python():
  assert pages.blocks("python", "README.md")
  for page in pages.NAMES:
    for block in pages.blocks("python", page):
      ast.parse(block)
