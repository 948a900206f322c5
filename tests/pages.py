"""README and the pages of docs/: their commands, code, names and links."""

import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
FOLDER = ROOT / "docs"
PAGES = [README, *sorted(FOLDER.glob("*.md"))]
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]


def text(page: pathlib.Path | str) -> str:
  """A page by its path, or by its path from the root."""
  return (ROOT / page).read_text(encoding="utf-8")


def prose(page) -> str:
  """A page without its fenced blocks."""
  return re.sub(r"^```.*?^```", "", text(page), flags=re.M | re.S)


def blocks(language="", page=None):
  """The fenced blocks of a language, of one page or of all."""
  found = []
  for each in [page] if page else PAGES:
    found += re.findall(r"^```(\w*)\n(.*?)^```", text(each), re.M | re.S)
  return [block for name, block in found if name == language]


def commands(page=None):
  """Each command line of the shell blocks once, continuations joined."""
  joined = "\n".join(blocks("bash", page)).replace("\\\n", " ")
  lines = [line.strip() for line in joined.splitlines() if line.strip()]
  return list(dict.fromkeys(lines))


def words(line):
  """The words of a command as the shell would split them."""
  return shlex.split(line, comments=True)


def spans(page) -> list[str]:
  """What stands between backticks in the text of a page."""
  return re.findall(r"`([^`\n]+)`", prose(page))


def anchors(page) -> set[str]:
  """In: a page with "## Time and memory"   Out: {"time-and-memory"}."""
  heads = re.findall(r"^#+ (.*)$", prose(page), re.M)
  plain = (re.sub(r"[^\w\- ]", "", head.lower()) for head in heads)
  return {head.replace(" ", "-") for head in plain}


def links(page) -> list[str]:
  """Targets of a page's links and pictures that lie in this repository."""
  found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
  return [target for target in found if "://" not in target]
