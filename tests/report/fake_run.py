"""A made-up finished run for the tests of the report: small and fast."""

import json

import numpy as np

FAMILIES = ("closer", "left_right", "distance", "count", "occlusion", "reach")


def scene(seed):
  """(image, depth, classes) of two boxes on a floor."""
  rng = np.random.default_rng(seed)
  size = 64
  rows = np.arange(size, dtype=np.float32)[:, None]
  depth = np.clip(60.0 / (rows + 8.0), 0.9, 7.5) * np.ones((1, size))
  classes = np.zeros((size, size), np.uint8)
  image = np.repeat((90 + rows[:, :, None]).astype(np.uint8), size, axis=1)
  image = np.repeat(image, 3, axis=2)
  for index in (1, 2, 3):
    y, x = rng.integers(6, 40, 2)
    part = np.s_[y : y + 18, x : x + 16]
    depth[part] = rng.uniform(1, 5)
    classes[part] = index
    image[part] = rng.integers(40, 230, 3)
  depth[:3, :3] = 0
  return image, depth.astype(np.float32), classes


def row(index):
  """One gallery row; every third has no drawn maps, every fourth misses."""
  image, depth, classes = scene(index)
  rng = np.random.default_rng(index + 1000)
  noise = np.exp(rng.normal(0, 0.2, (8, 8))).repeat(8, 0).repeat(8, 1)
  draws = index % 3 != 0
  map_words = "<think> measure the depth </think> <depth> " if draws else ""
  return {
    "question": "Which is closer , the red ball or the blue table ?",
    "options": ("red ball", "blue table"),
    "answer": "red ball",
    "predicted": "blue table" if index % 4 == 0 else "red ball",
    "hit": index % 4 != 0,
    "family": FAMILIES[index % len(FAMILIES)],
    "mode": "adaptive" if index % 2 else "depth",
    "trace": map_words + "<think> red ball <at 0.412 0.730> 2.4 m ; blue table "
    "<at 0.550 0.203> 3.3 m </think> <answer> red ball </answer>",
    "image": image,
    "maps": {
      "depth": (depth, (depth * noise).astype(np.float32) if draws else None),
      "segmentation": (classes, np.roll(classes, 3, 1) if draws else None),
    },
  }


def rate(summary, key, value, count):
  half = 1.96 * (value * (1 - value) / count) ** 0.5
  summary[key] = value
  summary[f"{key}/n"] = count
  summary[f"{key}/ci95"] = [max(0.0, value - half), min(1.0, value + half)]


def summary():
  found = {
    "depth/abs_rel": 0.142,
    "depth/abs_rel_constant": 0.412,
    "depth/tokenizer_abs_rel": 0.046,
    "depth/delta1": 0.83,
    "depth/delta1_constant": 0.35,
    "depth/tokenizer_delta1": 0.962,
    "depth/object_abs_rel": 0.31,
    "segmentation/miou": 0.57,
    "segmentation/miou_constant": 0.09,
    "segmentation/tokenizer_miou": 0.91,
    "segmentation/iou/ball": 0.41,
    "tokenizer/seconds_per_step": 0.4,
    "reward/first": 1.21,
    "reward/last": 1.64,
  }
  for name, value in (
    ("sft", 0.55),
    ("grpo", 0.6),
    ("blind", 0.43),
    ("constant", 0.39),
    ("chance", 0.36),
  ):
    rate(found, f"qa/accuracy/{name}", value, 2048)
  for name in ("sft", "grpo", "blind", "constant"):
    rate(found, f"qa/macro/{name}", 0.7 if name in "sftgrpo" else 0.5, 640)
    free = "adaptive/" if name in ("sft", "grpo") else ""
    rate(found, f"qa/factor2/{free}{name}", 0.611 if free else 0.322, 300)
    for i, part in enumerate(("", "/pair", "/words", "/both", "/macro")):
      rate(found, f"heldout/accuracy{part}/{name}", 0.51 + 0.02 * i, 512)
  for stage in ("sft", "grpo"):
    found[f"heldout/depth/abs_rel/{stage}"] = 0.187
    for i, kind in enumerate(("none", "true", "other", "counterfactual")):
      key = f"reading/nll/{kind}/{stage}"
      found |= {key: 1.1 + i, f"{key}/n": 1776, f"{key}/ci95": [1.0, 1.2 + i]}
    for part in ("", "/distances"):
      key = f"map_use/gain{part}/{stage}"
      found |= {key: 0.083, f"{key}/n": 400, f"{key}/ci95": [0.041, 0.125]}
    for kind in ("own", "other", "true"):
      rate(found, f"map_use/{kind}/{stage}", 0.5, 400)
      rate(found, f"map_use/{kind}/closer/{stage}", 0.5, 400)
  for i, family in enumerate(FAMILIES):
    for name, value in (
      ("sft", 0.48 + 0.07 * i),
      ("grpo", 0.52 + 0.07 * i),
      ("blind", 0.52),
      ("constant", 0.5),
      ("chance", 0.5 - 0.04 * i),
    ):
      rate(found, f"qa/accuracy/{family}/{name}", value, 340)
    for stage in ("sft", "grpo"):
      rate(found, f"map_rate/{family}/{stage}", 0.2 + 0.1 * i, 340)
  for i, mode in enumerate(("direct", "text", "depth", "both", "adaptive")):
    for j, stage in enumerate(("sft", "grpo")):
      rate(found, f"qa/accuracy/{mode}/{stage}", 0.5 + 0.02 * (i + j), 1024)
  for stage, seconds in (
    ("tokenizer", 182.4),
    ("pretrain", 902.0),
    ("sft", 401.0),
    ("grpo", 377.0),
    ("evaluate", 121.0),
  ):
    found[f"time/{stage}_s"] = seconds
    if stage != "evaluate":
      found[f"speed/{stage}/steps_per_s"] = 2.3456
      found[f"speed/{stage}/tokens_per_s"] = 18234.5
      found[f"speed/{stage}/gemm_share"] = 0.31
  return found


def hits(count, gained=0, lost=0, right=0):
  """Answers before and after: `right` at first, some gained, some lost."""
  before = np.zeros(count)
  before[:right] = 1
  after = before.copy()
  after[:lost] = 0
  after[right : right + gained] = 1
  return before, after


def write_answers(workdir, ways, *, stages=("sft", "grpo"), question="? {}"):
  """evaluate/<stage>.jsonl of ways: mode -> (hits before, hits after)."""
  (workdir / "evaluate").mkdir(parents=True, exist_ok=True)
  for place, stage in enumerate(stages):
    lines = [
      {
        "sample": f"s{k // 2}",
        "question": question.format(k % 2),
        "family": FAMILIES[k % len(FAMILIES)],
        "mode": mode,
        "hit": float(hit),
      }
      for mode, both in ways.items()
      for k, hit in enumerate(both[place])
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (workdir / "evaluate" / f"{stage}.jsonl").write_text(text)


def write_metrics(workdir, points=120):
  """metrics.jsonl of every stage, the grpo one with rewards and a torn end."""
  rng = np.random.default_rng(0)
  names = {
    "tokenizer": ("loss/depth", "loss/segmentation"),
    "pretrain": ("loss/total", "loss/depth", "loss/text"),
    "sft": ("loss/total", "loss/text"),
    "grpo": (
      "reward/answer",
      "reward/format",
      "reward/exploration",
      "reward/total",
      "loss/policy",
      "loss/kl",
      "map_rate/depth",
    ),
  }
  for stage, keys in names.items():
    directory = workdir / stage
    directory.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(points):
      record = {"step": 10 * i, "time": 0.5 * i}
      for k, key in enumerate(keys):
        fall = (k + 1) * np.exp(-i / 30) + 0.4
        up = 1 - np.exp(-i / 40) if key.startswith("reward") else fall
        record[key] = float(up + rng.normal(0, 0.06))
      lines.append(json.dumps(record))
    if stage == "grpo":
      lines.append('{"step": 1200, "rew')
    (directory / "metrics.jsonl").write_text("\n".join(lines) + "\n")
