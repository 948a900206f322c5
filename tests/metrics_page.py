"""docs/metrics.md as patterns: which logged keys it explains."""

import json
import pathlib
import re

from cooper_jax import plugins

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "metrics.md"
SECTIONS = {  # of the page, by what logs: the first is of every stage
  "tokenizer": ("Tokenizer",),
  "pretrain": ("Pretraining and SFT",),
  "sft": ("Pretraining and SFT",),
  "grpo": (
    "GRPO: rewards",
    "GRPO: advantages and groups",
    "GRPO: how it answers",
    "GRPO: validation",
    "GRPO: the policy",
  ),
}
MODALITIES = plugins.names("modalities")
# What a placeholder stands for; a word where it is not named here.
MEANING = {
  "id": r"\d+",
  "stage": r"(tokenizer|pretrain|sft|grpo|evaluate)",
  "split": r"(validation|test)",
  "kind": r"(text|code)",
  "base": r"(constant|blind|chance)",
  "modality": f"({'|'.join(MODALITIES)})",
  "mode": f"({'|'.join(['adaptive', 'direct', 'text', 'both', *MODALITIES])})",
  "reward": f"({'|'.join([*plugins.names('rewards'), 'total'])})",
  "name": r"\w+(/\w+){0,2}",
}
BESIDE = ("/n", "/ci95", "/gained", "/lost")


def entries() -> dict[str, list[str]]:
  """Heading -> the keys that its table explains."""
  found = {}
  for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
    heading, _, text = part.partition("\n")
    found[heading] = re.findall(r"^\| `([^`]+)` \|", text, re.M)
  return found


def metric() -> str:
  """A pattern of the metrics of maps that the page names."""
  text = PAGE.read_text(encoding="utf-8").partition("\nMetrics of maps:")[2]
  names = re.findall(r"`([^`]+)`", text)
  return f"({'|'.join(re.sub('<.*>', r'[a-z]+', name) for name in names)})"


def matches(entry: str, key: str) -> bool:
  """In: "reward/<reward>/seconds", "reward/answer/seconds"   Out: True."""
  parts = re.split(r"<(\w+)>", entry)
  meaning = MEANING | {"metric": metric()}
  pattern = "".join(
    meaning.get(part, r"\w+") if i % 2 else re.escape(part)
    for i, part in enumerate(parts)
  )
  return re.fullmatch(pattern, key) is not None


def unexplained(keys, headings) -> list[str]:
  """The keys that no entry of these sections explains."""
  known = [entry for name in headings for entry in entries()[name]]
  left = []
  for key in keys:
    plain = next(
      (key.removesuffix(end) for end in BESIDE if key.endswith(end)), key
    )
    if not any(matches(entry, plain) for entry in known):
      left.append(key)
  return sorted(left)


def of_stage(folder: pathlib.Path) -> list[str]:
  """The keys of a stage's metrics.jsonl that the page does not explain."""
  lines = (folder / "metrics.jsonl").read_text().splitlines()
  keys = {key for line in lines for key in json.loads(line)}
  return unexplained(keys, ("Every training stage", *SECTIONS[folder.name]))
