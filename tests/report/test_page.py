"""The report is one honest file that needs nothing else."""

import html.parser
import json
import re

import pytest
from PIL import Image

from cooper_jax.report import (
  benchmarks,
  claims,
  curves,
  facts,
  figures,
  gallery,
  gallery_image,
  tables,
)
from cooper_jax.report.page import write_report
from tests.report import fake_run

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Tags(html.parser.HTMLParser):
  """Collects tags and fails on one that is closed out of order."""

  def __init__(self):
    super().__init__()
    self.open, self.seen, self.addresses = [], [], []

  def handle_starttag(self, tag, attrs):
    self.seen.append((tag, dict(attrs)))
    self.addresses += [
      value for name, value in attrs if name in ("src", "href", "srcset")
    ]
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.seen.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("runs") / "demo"
  fake_run.write_metrics(workdir)
  (workdir / "config.json").write_text(json.dumps({"variant": "tiny"}))
  rows = [fake_run.row(i) for i in range(8)]
  rows[0]["question"] = "Is <b>this</b> & that closer ?"
  results = {"summary": fake_run.summary(), "gallery": rows}
  path = write_report(workdir, results)
  assert path == workdir / "report" / "index.html"
  return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tags(page):
  parser = Tags()
  parser.feed(page)
  assert not parser.open
  return parser


def test_the_page_loads_nothing(page, tags):
  assert tags.addresses
  loaded = [a.get("src") for tag, a in tags.seen if tag != "a"]
  assert all(a.startswith("data:image/png;base64,") for a in loaded if a)
  assert not {"link", "iframe", "object"} & {tag for tag, _ in tags.seen}
  assert "url(" not in page
  assert "@import" not in page


def test_links_lead_somewhere(tags):
  anchors = {attrs.get("id") for _, attrs in tags.seen}
  for address in tags.addresses:
    if address.startswith("#"):
      assert address[1:] in anchors


def test_the_files_of_the_run_are_linked_to(tmp_path):
  fake_run.write_answers(tmp_path, {"adaptive": fake_run.hits(4, gained=1)})
  fake_run.write_metrics(tmp_path, points=2)
  (tmp_path / "summary.json").write_text("{}")
  path = write_report(tmp_path, {"summary": {}, "gallery": []})
  links = re.findall(r'<a href="(\.\./[^"]+)"', path.read_text("utf-8"))
  assert all((path.parent / link).is_file() for link in links)
  assert {"../summary.json", "../evaluate/grpo.jsonl"} <= set(links)
  assert "../grpo/metrics.jsonl" in links
  assert "../config.json" not in links  # this run has none


def cells(page, label):
  """The text of the cells of the first row that begins with a label."""
  row = re.search(rf"<tr[^>]*><th scope=.row.>{re.escape(label)}.*?</tr>", page)
  shown = re.findall(r"<td>(.*?)</td>", row[0])
  return [re.sub(r"<small>.*?</small>|<[^>]*>", "", cell) for cell in shown]


def test_what_was_never_seen_stands_beside_what_was(page):
  assert cells(page, "The test split") == ["55.0", "60.0", "43.0", "39.0"]
  assert cells(page, "In words never read") == ["55.0"] * 4
  assert cells(page, "Depth: relative error") == ["0.142", "0.187", "0.412"]


def test_families_alike_and_lengths_stand_beside_what_ignores_the_image(page):
  assert cells(page, "Choice and yes/no") == [
    "70.0",
    "70.0",
    "50.0",
    "50.0",
  ] + ["–"]
  assert cells(page, "Lengths within")[:4] == ["61.1", "61.1", "32.2", "32.2"]
  assert "+8.3" in page and "+4.1 to +12.5" in page
  assert cells(page, "A changed map") == ["4.100", "4.100"]


def test_every_score_stands_beside_its_baseline_n_and_interval(page):
  answers = page[page.index('<section id="answers">') :]
  line = re.search(r"<tr><th[^>]*>Closer.*?</tr>", answers).group(0)
  # From the fixture: sft .48, grpo .52 of n 340, blind .52, chance .50.
  assert "n 340" in line
  assert "<b>48.0</b><small>43–53</small>" in line
  assert "<b>52.0</b><small>47–57</small>" in line
  assert line.count("52.0") == 2
  maps = page[page.index('<section id="maps">') :]
  line = re.search(r"<tr><th[^>]*>Relative error\u00a0.*?</tr>", maps).group(0)
  for value in ("0.142", "0.046", "0.412"):
    assert value in line
  assert "IoU of ball" in maps
  assert "conds per step" not in maps


def test_markup_from_the_data_is_escaped(page):
  assert "<b>this</b>" not in page
  assert "&lt;b&gt;this&lt;/b&gt; &amp; that closer?" in page


def test_each_row_can_be_filtered(tags):
  rows = [attrs for tag, attrs in tags.seen if tag == "article"]
  assert len(rows) == 8
  assert {row["data-result"] for row in rows} == {"hit", "miss"}
  assert {row["data-family"] for row in rows} <= set(fake_run.FAMILIES)
  # Without a script every row is in sight and the filters are not.
  assert not any("hidden" in row for row in rows)
  forms = [attrs for tag, attrs in tags.seen if tag == "form"]
  assert "hidden" in forms[0]


def test_a_row_shows_only_the_maps_it_has(tags):
  alts = [attrs["alt"] for tag, attrs in tags.seen if tag == "img"]
  names = [alt.partition(": ")[0] for alt in alts]
  # 8 rows and the one on top; rows 0, 3 and 6 drew nothing.
  assert names.count("input") == names.count("true depth") == 9
  assert names.count("drawn depth") == names.count("error") == 6


def test_each_picture_says_of_which_question_it_is(tags):
  alts = {attrs["alt"] for tag, attrs in tags.seen if tag == "img"}
  assert "input: Is <b>this</b> & that closer?" in alts
  words = "Which is closer, the red ball or the blue table?"
  assert f"drawn depth: {words}" in alts


def test_the_gallery_is_capped_and_says_so(monkeypatch):
  monkeypatch.setattr(gallery, "MOST_ROWS", 3)
  shown = gallery.gallery([fake_run.row(1)] * 5)
  assert shown.count("<article") == 3
  assert "the first of 5" in shown


def test_places_named_in_the_trace_become_numbers():
  shown, places = gallery.trace("ball <at 0.41 0.73> 2.4 m <depth>")
  assert places == [(0.41, 0.73)]
  assert '<i class="at">1</i>' in shown
  assert '<i class="tag map">depth</i>' in shown
  assert gallery.trace("1 < 2")[0] == "1 &lt; 2"


def test_every_stage_and_reward_has_its_curve(page):
  for name in ("loss/depth", "reward/answer", "reward/format", "loss/kl"):
    assert f"<title>{name}</title>" in page
  for stage in ("Tokenizer", "Pretrain", "SFT", "GRPO"):
    assert f'<h3 class="stage">{stage}</h3>' in page


def test_speed_stands_beside_the_peak_of_the_machine(page):
  line = re.search(r"<tr><th[^>]*>Pretrain</th>.*?</tr>", page).group(0)
  assert "15\u00a0min 02\u00a0s" in line
  assert "2.35" in line and "18.2k" in line and "31 %" in line


def test_a_step_logged_twice_counts_once_and_a_torn_line_not(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text(
    '{"step": 1, "time": 0, "loss/a": 3.0}\n'
    '{"step": 2, "time": 1, "loss/a": 9.0}\n'
    '{"step": 2, "time": 2, "loss/a": 2.0}\n'
    '{"step": 3, "los'
  )
  assert curves.read_metrics(path) == {"loss/a": ([1, 2], [3.0, 2.0])}


def test_charts_begin_with_the_loss_and_leave_out_single_values(tmp_path):
  (tmp_path / "sft").mkdir()
  lines = [
    {"step": 1, "loss": 3.0, "grad_norm": 1.0, "text": 2.0, "reward/a": 0.1},
    {"step": 2, "loss": 2.0, "grad_norm": 1.0, "text": 1.0, "reward/a": 0.2},
    {"step": 2, "test/accuracy": 0.5},
  ]
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (tmp_path / "sft" / "metrics.jsonl").write_text(text)
  names = re.findall(r"<title>(.*?)</title>", curves.curves(tmp_path))
  assert names == ["loss", "reward/a", "text", "grad_norm"]


def test_a_family_counts_as_above_blind_only_beyond_its_interval():
  summary = {"qa/accuracy/grpo": 0.5}
  for family, value in (("near", 0.60), ("far", 0.54)):
    fake_run.rate(summary, f"qa/accuracy/{family}/grpo", value, 400)
    fake_run.rate(summary, f"qa/accuracy/{family}/blind", 0.50, 400)
  line = " ".join(claims.claims(summary))
  assert "in 1 of 2 families: near." in line
  # Where they are fewer, those that are not are named.
  for family in ("third", "fourth"):
    fake_run.rate(summary, f"qa/accuracy/{family}/grpo", 0.9, 400)
    fake_run.rate(summary, f"qa/accuracy/{family}/blind", 0.5, 400)
  line = " ".join(claims.claims(summary))
  assert "in 3 of 4 families: all but far." in line


def test_a_smoke_run_is_called_one():
  assert claims.claims({}, "smoke")[0].startswith("This is a smoke run")


def test_a_report_of_nothing_is_still_a_page(tmp_path):
  path = write_report(tmp_path, {"summary": {}, "gallery": []})
  parser = Tags()
  parser.feed(path.read_text(encoding="utf-8"))
  assert not parser.open


def test_what_is_no_map_is_not_shown_as_one():
  found = {"depth/abs_rel": 0.2, "depth/abs_rel_constant": 0.5}
  found |= {"validation/grpo/best": 0.56, "validation/grpo/best_step": 40}
  shown = tables.maps(found)
  assert "Depth" in shown and "Validation" not in shown


@pytest.mark.parametrize(
  ("data", "said"),
  [
    ({"source": "world"}, None),
    ({"source": "nyu"}, "nyu"),
    ({"source": "world,jsonl", "settings": {"jsonl": {"path": "a.jsonl"}}},
     "world,jsonl (a.jsonl)"),
    ({"source": "built:rooms", "settings": {"built": {"root": "~/b"}}},
     "built:rooms (~/b)"),
  ],
)  # fmt: skip
def test_the_page_says_of_which_data_its_questions_are(tmp_path, data, said):
  (tmp_path / "config.json").write_text(json.dumps({"data": data}))
  own = facts.facts(tmp_path).get("data")
  assert own == said
  told = claims.claims({}, own=own or "")[-1]
  assert ("rendered world" in told) == (said is None)


def test_answers_held_to_a_mode_are_called_so():
  key = "benchmarks/rephrased/accuracy"
  found = {}
  for name in ("", "/closer", "/depth", "/closer/depth", "/text"):
    fake_run.rate(found, f"{key}{name}/sft", 0.5, 40)
  shown = benchmarks.section(found)
  assert "Accuracy: closer" in shown
  assert shown.index("Accuracy, held: always draws depth") > shown.index(
    "closer"
  )
  assert "held: reasons in text" in shown and shown.count("held:") == 2


def test_a_new_modality_appears_without_an_edit(tmp_path):
  results = {
    "summary": {"normals/degrees": 21.5, "normals/degrees_constant": 48.0},
    "gallery": [],
  }
  text = write_report(tmp_path, results).read_text(encoding="utf-8")
  assert "Normals" in text
  assert "21.5" in text and "48.0" in text


@pytest.mark.parametrize(
  ("values", "ticks"),
  [
    ((0.0, 1.0), [0.0, 0.25, 0.5, 0.75, 1.0]),
    ((3.0, 3.0), [2.6, 2.8, 3.0, 3.2, 3.4]),
    ((0.0, 870.0), [0, 250, 500, 750, 1000]),
  ],
)
def test_ticks_are_round_and_cover_the_values(values, ticks):
  assert figures.nice_ticks(*values) == pytest.approx(ticks)


def test_curves_survive_gaps_constants_and_single_points():
  nan = float("nan")
  for values in ([1.0], [2.0, 2.0], [1.0, nan, 3.0], [nan, nan]):
    drawn = figures.curve(range(len(values)), values, title="x")
    assert "nan" not in drawn


@pytest.mark.parametrize(
  ("value", "shown"),
  [
    (0, "0"),
    (0.5, "0.5"),
    (12345, "12.35k"),
    (2.5e6, "2.5M"),
    (0.00012, "1.2e-4"),
    (1190.0, "1190"),
  ],
)
def test_numbers_are_short(value, shown):
  assert figures.short(value) == shown


def test_a_picture_of_rows_that_drew_lies_beside_the_page(tmp_path):
  rows = [fake_run.row(i) for i in range(9)]
  # Rows 0, 3 and 6 drew nothing.
  assert gallery_image.choose(rows, count=4) == [rows[i] for i in (1, 2, 4, 5)]
  for i in (3, 5, 8):
    rows[i]["mode"] = "both"
  assert gallery_image.choose(rows, count=2) == [rows[3], rows[5]]
  path = write_report(tmp_path, {"summary": {}, "gallery": rows})
  with Image.open(path.with_name("gallery.png")) as picture:
    assert picture.width > picture.height > 400


def test_no_picture_is_written_where_nothing_was_drawn(tmp_path):
  results = {"summary": {}, "gallery": [fake_run.row(0)]}
  path = write_report(tmp_path, results)
  assert not path.with_name("gallery.png").exists()
