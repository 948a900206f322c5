"""Pages of samples: what they are not written over, and how large they are."""

import json

import numpy as np
import pytest
from PIL import Image

from cooper_jax.data import show

LINE = {"image": "a.png", "question": "Is it red ?", "answer": "yes"}


@pytest.fixture(name="own")
def fixture_own(tmp_path):
  """A file of one line, and files beside it that are no pages."""
  Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(tmp_path / "a.png")
  path = tmp_path / "own.jsonl"
  for name in ("own.jsonl", "lines.html"):
    (tmp_path / name).write_text(json.dumps(LINE), "utf-8")
  (tmp_path / "other.html").write_text(f"{show.HTML_HEAD}other</title>")
  (tmp_path / "linked.html").symlink_to("a.png")
  (tmp_path / "folder.html").mkdir()
  return path


@pytest.mark.parametrize(
  ("out", "reason"),
  [
    ("own.jsonl", "end it in .html"),
    ("a.png", "end it in .html"),
    ("folder.html", "end it in .html"),
    ("lines.html", "no page of this command"),
    ("other.html", "no page of this command"),
    ("linked.html", "no page of this command"),
  ],
)
@pytest.mark.parametrize("root", ["own.jsonl", "lines.html"])
def test_a_page_is_written_over_pages_alone(own, capsys, out, reason, root):
  file = own.parent / out
  before = file.read_bytes() if file.is_file() else None
  for given in (f"--root={own.parent / root}", f"--set=path={own}"):
    assert show.main(["jsonl", given, f"--out={file}"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert reason in said and str(file) in said
  assert before is None or file.read_bytes() == before


def test_a_page_is_written_again(own):
  page = own.parent / "new/page.html"
  for count in range(2):
    assert page.exists() == bool(count)
    assert show.main(["jsonl", f"--root={own}", f"--out={page}"]) == 0
  page.write_bytes(b"")  # as mktemp makes it
  assert show.main(["jsonl", f"--root={own}", f"--out={page}"]) == 0
  assert "Is it red" in page.read_text("utf-8")


def test_lines_need_no_page(own):
  out = own.parent / "lines.html"
  before = out.read_bytes()
  assert show.main(["jsonl", f"--root={own}", "--json", f"--out={out}"]) == 0
  assert out.read_bytes() == before


def test_a_sample_has_a_largest_size(own, capsys):
  with pytest.raises(SystemExit) as ended:
    show.main(["jsonl", f"--root={own}", "--json", "--size=4097"])
  assert ended.value.code == 2
  said = capsys.readouterr().err.splitlines()[-1]
  assert said.endswith("--size at most 4096 pixels a side")
