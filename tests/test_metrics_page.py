"""docs/metrics.md explains every key that is logged, and no other.

The stages' own logs are held to the page where a chain of all stages is run
anyway: tests/stages/test_resume.py and tests/stages/test_own_data.py.
"""

import ast
import inspect
import json
import re

import numpy as np

from cooper_jax import plugins
from cooper_jax.report import readme
from cooper_jax.rl import advantages, dynamic_sampling, losses
from tests import metrics_page

GRPO = metrics_page.SECTIONS["grpo"]


def literals() -> set[str]:
  """Every word between slashes of the package's strings; <> stands for a part.

  In: f"reward/{name}/abstained"   Out: "reward", "<>", "abstained".
  """
  found = set()
  for path in (metrics_page.ROOT / "cooper_jax").rglob("*.py"):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      text = ""
      if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
      elif isinstance(node, ast.JoinedStr):
        text = "".join(
          part.value if isinstance(part, ast.Constant) else "<>"
          for part in node.values
        )
      if text and not re.search(r"\s", text):
        found |= set(text.split("/"))
  return found


def named(part: str) -> list[str]:
  """In: "tokenizer_<metric>"   Out: ["tokenizer_<>", "tokenizer_"]."""
  plain = re.sub(r"<\w+>", "<>", part)
  return [plain, plain.replace("<>", "")]


def not_logged(entries, known) -> list[str]:
  return [
    entry
    for entry in entries
    if not all(
      not re.sub(r"<\w+>", "", part) or any(n in known for n in named(part))
      for part in entry.split("/")
    )
  ]


def test_every_entry_of_the_page_is_logged_by_something():
  entries = metrics_page.entries()
  assert sum(map(len, entries.values())) > 90
  known = literals()
  for heading, keys in entries.items():
    assert not_logged(keys, known) == [], heading
  assert not_logged(["maps/dreamt"], known) == ["maps/dreamt"]


def test_every_entry_has_a_meaning():
  text = metrics_page.PAGE.read_text(encoding="utf-8")
  for key, meaning in re.findall(r"^\| `([^`]+)` \| ([^|]*) \|", text, re.M):
    assert len(meaning) >= 5, key


def test_the_check_sees_a_key_that_is_not_explained():
  assert metrics_page.unexplained(["reward/answers", "groups"], GRPO) == [
    "reward/answers"
  ]
  assert metrics_page.unexplained(["foo"], ("Tokenizer",)) == ["foo"]


def test_the_summary_of_the_default_run_is_explained():
  summary = json.loads(readme.FIGURES.read_text())["summary"]
  assert metrics_page.unexplained(summary, ("summary.json",)) == []


def test_what_only_options_log_is_explained():
  zeros = np.zeros((2, 3), np.float32)
  _, found = losses.policy_loss(
    zeros,
    losses.LossConfig(
      correction="token_truncate", off_policy_max=1.0, kl_weight=0.1
    ),
    old_log_prob_RT=zeros,
    advantage_RT=zeros,
    mask_RT=np.ones((2, 3), bool),
    sampler_log_prob_RT=zeros,
    reference_log_prob_RT=zeros,
  )
  assert {"kl", "correction", "stale", "mismatch_abs"} <= set(found)
  keys = [f"{name}/{kind}" for name in found for kind in ("text", "code")]
  keys += [f"update2/{key}" for key in keys]
  keys += advantages.summary(np.ones(4), np.zeros(4, int), np.zeros(4))
  keys += [f"reward/{name}" for name in plugins.names("rewards")]
  assert metrics_page.unexplained(keys, GRPO) == []


def test_what_replaced_groups_log_is_explained():
  source = inspect.getsource(dynamic_sampling)
  keys = re.findall(r'"(dynamic/\w+)"', source)
  assert len(keys) == 3
  assert metrics_page.unexplained(keys, GRPO) == []
