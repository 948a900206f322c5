"""The page shows pictures first, the right rows, and prints whole."""

import json
import re

import pytest

from cooper_jax.eval import pairing
from cooper_jax.report import (
  curves,
  gallery,
  heldout,
  html,
  modes,
  rollout_gallery,
  tables,
)
from cooper_jax.report.page import write_report
from tests.report import fake_run


def cells(page, label):
  """The cells of the first row that begins with a label, without intervals."""
  row = re.search(rf"<tr[^>]*><th scope=.row.>{re.escape(label)}.*?</tr>", page)
  shown = re.findall(r"<td>(.*?)</td>", row[0])
  return [re.sub(r"<small>.*?</small>|<[^>]*>", "", cell) for cell in shown]


def test_answers_are_never_taken_for_maps():
  summary = fake_run.summary()
  # A group of questions that has a metric's name, and a real metric.
  fake_run.rate(summary, "heldout/accuracy/miou/grpo", 0.9, 10)
  summary["heldout/segmentation/accuracy/grpo"] = 0.92
  page = heldout.table(summary)
  assert "Accuracy:" not in page
  assert cells(page, "Segmentation: pixel accuracy")[1] == "0.920"
  assert page.count('<th scope="row">Segmentation') == 1


def test_initials_stay_as_they_are():
  summary = fake_run.summary() | {"heldout/depth/rmse/grpo": 0.7}
  assert "Depth: RMSE, m" in heldout.table(summary)


def test_the_time_of_all_holds_the_evaluation():
  # 182.4 + 902 + 401 + 377 + 121 s
  page = tables.speed(fake_run.summary())
  assert cells(page, "All")[0] == "33\u00a0min 03\u00a0s"
  assert cells(page, "Evaluate")[0] == "2\u00a0min 01\u00a0s"


@pytest.mark.parametrize(
  ("seconds", "shown"),
  [(59.6, "1 min 00 s"), (119.7, "2 min 00 s"), (6780, "1 h 53 min")],
)
def test_clocks_carry_over(seconds, shown):
  assert tables.clock(seconds).replace("\u00a0", " ") == shown


def test_what_a_package_brought_is_named_with_its_hours(tmp_path):
  fake_run.write_metrics(tmp_path, points=3)
  for stage, hours in (("tokenizer", 0.25), ("pretrain", 1.5), ("sft", 0.25)):
    (tmp_path / stage / "metrics.jsonl").unlink()
    came = {"package": {"name": "tiny", "hours": hours}}
    (tmp_path / stage / "stage.json").write_text(json.dumps(came))
  results = {"summary": {"time/grpo_s": 60.0}, "gallery": []}
  page = write_report(tmp_path, results).read_text("utf-8")
  row = cells(page, "Tokenizer, Pretrain, SFT: in package tiny")
  assert row[0] == "2\u00a0h 00\u00a0min"
  assert cells(page, "All of this run")[0] == "1\u00a0min 00\u00a0s"
  assert "came with the package tiny, without their curves" in page


def grpo_metrics(folder):
  """Metrics of a GRPO stage, with the names that a step logs."""
  (folder / "grpo").mkdir()
  moving = (*curves.STORY, "entropy/text", "grad_norm", "param_norm")
  still = ("abstained", "skipped", "reward/answer/exceptions", "truncated")
  lines = []
  for step in range(1, 30):
    line = {"step": step, "reward/answer/seconds": 0.001 * step}
    line |= {name: 0.1 * step for name in moving} | dict.fromkeys(still, 0.0)
    lines.append(json.dumps(line) + "\n")
  (folder / "grpo" / "metrics.jsonl").write_text("".join(lines))


def test_curves_tell_the_story_and_fold_what_stands_still(tmp_path):
  grpo_metrics(tmp_path)
  page = curves.curves(tmp_path)
  shown, _, folded = page.partition("<details>")
  titles = re.findall("<title>(.*?)</title>", shown)
  assert len(titles) == curves.MOST_CHARTS
  told = {"reward/total", "reward/answer", "maps/drew", "answer/drew"}
  assert told | {"length/text", "length/codes"} <= set(titles)
  rest = re.findall("<title>(.*?)</title>", folded)
  assert {"abstained", "truncated", "reward/answer/exceptions"} <= set(rest)
  assert "reward/answer/seconds" in rest  # moves, and tells nothing
  assert "Share of the answers that hold a map" in shown


def test_what_stands_still_is_folded_where_there_is_room_too(tmp_path):
  (tmp_path / "sft").mkdir()
  lines = [{"step": s, "loss": 1 / s, "skipped": 0.0} for s in range(1, 9)]
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (tmp_path / "sft" / "metrics.jsonl").write_text(text)
  shown, _, folded = curves.curves(tmp_path).partition("<details>")
  assert re.findall("<title>(.*?)</title>", shown) == ["loss"]
  assert re.findall("<title>(.*?)</title>", folded) == ["skipped"]


def test_damaged_metrics_lose_their_own_lines_only(tmp_path):
  grpo_metrics(tmp_path)
  path = tmp_path / "grpo" / "metrics.jsonl"
  lines = path.read_bytes().splitlines()
  lines[3] = b"\xff" + lines[3]
  lines[5:5] = [b"[]", b"3", b'{"loss": 1}', b""]
  path.write_bytes(b"\n".join(lines))
  steps, _ = curves.read_metrics(path)["loss"]
  assert steps == [s for s in range(1, 30) if s != 4]


def rows_that_drew(*drew):
  """Gallery rows, each of which drew these maps."""
  rows = []
  for index, names in enumerate(drew):
    row = fake_run.row(1)
    row["question"] = f"number {index} ?"
    for name in ("depth", "segmentation"):
      if name not in names:
        row["maps"][name] = (row["maps"][name][0], None)
    rows.append(row)
  return rows


def test_the_first_card_has_maps_and_is_not_picked_by_being_right():
  rows = rows_that_drew("", "depth", ("depth", "segmentation"), ("depth",))
  rows += rows_that_drew(("depth", "segmentation"))
  for right in (True, False):
    for row in rows:
      row["hit"] = right
    rows[2]["hit"] = not right
    page = gallery.gallery(rows)
    order = re.findall(r"<h3>number (\d)\?</h3>", page)
    assert order == ["2", "0", "1", "3", "0"]
    assert "number 2?" in gallery.strip(rows)


def test_nothing_drawn_nothing_on_top():
  rows = rows_that_drew("", "")
  assert gallery.lead(rows) is None
  assert gallery.strip(rows) == gallery.strip([]) == ""
  order = re.findall(r"<h3>number (\d)\?</h3>", gallery.gallery(rows))
  assert order == ["0", "1"]


def test_a_picture_comes_before_any_table(tmp_path):
  results = {"summary": fake_run.summary(), "gallery": [fake_run.row(1)]}
  page = write_report(tmp_path, results).read_text("utf-8")
  tiles, strip = page.index('class="tiles"'), page.index('class="strip"')
  assert tiles < strip < page.index('class="claims"') < page.index("<table")


def test_classes_one_by_one_are_folded():
  summary = {"segmentation/miou": 0.5, "segmentation/iou/ball": 0.4}
  shown, _, folded = tables.maps(summary).partition("<details>")
  assert "Mean IoU" in shown and "IoU of ball" not in shown
  assert "IoU of ball" in folded


def test_every_card_is_printed():
  rule = html.STYLE[html.STYLE.index("@media print") :]
  assert "display:none!important" in rule  # of navigation and filters only
  assert rule.count("display:none") == 1 and "nth-of-type" not in rule
  for head in ("h2", "h3", ".note", "thead"):
    assert re.search(
      rf"[\n,]{re.escape(head)},[^{{}}]*{{break-after:avoid}}", rule
    )


def luminance(colour):
  """Of #rgb or #rrggbb, as in WCAG 2.1."""
  colour = colour.lstrip("#")
  if len(colour) == 3:
    colour = "".join(c + c for c in colour)
  parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
  parts = [
    p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
  ]
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_words_stand_out_from_what_they_stand_on():
  themes = re.findall(r":root{(.*?)}", html.STYLE, re.S)
  assert len(themes) == 3  # light, dark, print
  for theme in themes:
    colours = dict(re.findall(r"--(\w+):(#\w+)", theme))
    for ink in ("ink", "quiet", "accent", "warm", "hit", "miss"):
      for ground in ("paper", "card", "chip"):
        if ground == "chip" and ink in ("hit", "miss"):
          continue  # never on a chip
        pair = sorted(luminance(colours[name]) for name in (ink, ground))
        ratio = (pair[1] + 0.05) / (pair[0] + 0.05)
        assert ratio >= 4.5, (ink, ground, ratio)


def test_every_way_stands_before_and_after_and_what_decides_last():
  summary = fake_run.summary()
  free = fake_run.hits(1024, gained=60, right=500)
  depth = fake_run.hits(1024, lost=8, right=600)
  hits = {
    stage: {"adaptive": free[i], "depth": depth[i], "text": free[0]}
    for i, stage in enumerate(("sft", "grpo"))
  }
  summary |= pairing.scores(hits, ["closer"] * 1024)
  summary |= {"qa/accuracy/depth/sft": 600 / 1024}
  page = modes.ways(summary)
  # GRPO less SFT; free after GRPO less this before: (560 - 600) / 1024.
  assert cells(page, "Always draws depth (best fixed)")[2:] == ["-0.8", "-3.9"]
  assert cells(page, "Decides for itself")[2:] == ["+5.9", "–"]
  assert cells(page, "Free after GRPO less")[-1] == "-3.9"
  draws = modes.map_rates(summary)
  # Draw rates, then depth less text before and after: 100 and 92 of 1,024.
  assert cells(draws, "Closer") == ["20.0", "20.0", "+9.8", "+9.0"]


def test_an_old_run_without_answers_still_has_its_tables():
  summary = fake_run.summary()
  assert cells(modes.ways(summary), "Always draws depth") == [
    "54.0",
    "56.0",
  ]
  assert cells(modes.map_rates(summary), "Closer") == ["20.0", "20.0"]


def test_an_old_run_is_judged_by_the_answers_it_left(tmp_path):
  ways = {"adaptive": fake_run.hits(90, gained=30, right=40)}
  ways["depth"] = fake_run.hits(90, lost=4, right=60)
  fake_run.write_answers(tmp_path, ways)
  results = {"summary": fake_run.summary(), "gallery": []}
  page = write_report(tmp_path, results).read_text("utf-8")
  assert "30 gained, 0 lost), more than chance explains" in page
  assert cells(page, "Free after GRPO less")[-1] == "+11.1"  # (70 - 60) / 90


def rollouts(step, question="Which is closer ?"):
  return {
    "step": step,
    "question": question,
    "answer": "red ball",
    "rollouts": [
      {
        "text": "<think> a < b </think> <answer> red ball </answer>",
        "maps": ["depth"],
        "rewards": {"answer": 1.0, "depth": None},
        "total": 1.2,
        "advantage": 0.25,
        "truncated": True,
      },
      {"text": "<answer> <script> </answer>", "maps": [], "rewards": {}},
    ],
  }


def test_rollouts_of_the_first_the_middle_and_the_last_step(tmp_path):
  assert rollout_gallery.section(tmp_path) == ""
  (tmp_path / "grpo").mkdir()
  lines = [json.dumps(rollouts(step)) for step in (2, 4, 6, 8, 10)]
  lines[1:1] = ['{"step": 3, "rol', "[]", '{"step": 5}']
  (tmp_path / "grpo" / "rollouts.jsonl").write_text("\n".join(lines))
  page = rollout_gallery.section(tmp_path)
  titles = re.findall("<summary>(.*?)</summary>", page)
  assert [title.split(":")[0] for title in titles] == [
    "Step 2",
    "Step 6",
    "Step 10",
  ]
  assert titles[0].endswith("Which is closer? (true: red ball)")
  assert "<b>+0.25</b>" in page and ">1.00<" in page
  # Maps, answer, depth, total, advantage.
  row = re.search("<tr><th[^>]*>.*?a &lt; b.*?</tr>", page)[0]
  shown = re.findall("<td>(.*?)</td>", row)
  assert shown == ["depth", "1.00", "–", "1.20", "<b>+0.25</b>"]
  assert "(cut off)" in row and page.count("(cut off)") == 3
  assert "<script>" not in page and "a &lt; b" in page


def test_one_group_of_rollouts_is_shown_once(tmp_path):
  (tmp_path / "grpo").mkdir()
  path = tmp_path / "grpo" / "rollouts.jsonl"
  path.write_text(json.dumps(rollouts(1)))
  assert rollout_gallery.section(tmp_path).count("<details") == 1
  path.write_text("")
  assert rollout_gallery.section(tmp_path) == ""


def test_a_difference_is_bold_only_past_chance():
  found = {}
  for key, gained, lost in (("sure", 40, 10), ("chance", 11, 10)):
    one, other = [1] * gained + [0] * lost, [0] * gained + [1] * lost
    found |= pairing.difference(key, one, other)
  assert tables.points(found, "sure").startswith("<b>+60.0</b>")
  light = '<span class="chance">+4.8</span><small>'
  assert tables.points(found, "chance").startswith(light)
  # In the row that decides, whose cells are bold, as well.
  style = "tr.all .chance,tr.all .chance+small{font-weight:400}"
  assert style in html.STYLE
