"""The files of launch/: scripts without a fault, parts that fit together."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
# Beside the Python that runs the tests, where requirements-test.txt puts it.
SHELLCHECK = shutil.which("shellcheck", path=Path(sys.executable).parent)
SHELLCHECK = SHELLCHECK or shutil.which("shellcheck")
SCRIPTS = [*(ROOT / "launch").glob("*.sh"), ROOT / ".ci" / "run"]


@pytest.mark.skipif(not SHELLCHECK, reason="no shellcheck is installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_is_content(script):
  done = subprocess.run(
    [SHELLCHECK, script], cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stdout


def test_the_container_gets_files_that_exist():
  copied = re.findall(
    r"^COPY (.*) \S+$", (ROOT / "launch" / "Dockerfile").read_text(), re.M
  )
  names = " ".join(copied).split()
  assert {"cooper_jax", "configs", "requirements.txt"} <= set(names)
  let_in = (ROOT / "launch" / "Dockerfile.dockerignore").read_text().split()
  for name in names:
    assert (ROOT / name).exists() and f"!{name}" in let_in, name


def test_pinned_versions_satisfy_the_requirements():
  """All that requirements.txt asks for, and the TPU's half of JAX."""
  from packaging.requirements import Requirement

  lines = (ROOT / "launch" / "pinned.txt").read_text().splitlines()
  pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
  assert "libtpu" in pinned and pinned["jax"] == pinned["jaxlib"]
  asked = (ROOT / "requirements.txt").read_text().splitlines()
  for line in asked:
    if line and not line.startswith("#"):
      wanted = Requirement(line)
      assert pinned[wanted.name.lower()] in wanted.specifier, line
