"""Writes one self-contained report of a run: report/index.html.

It gathers what the stages left behind (their metrics.jsonl and the summary)
with the gallery that the evaluation hands over, and puts every score beside
the baseline that could explain it away. It loads nothing; it links to the
run's own files.
"""

import pathlib

from cooper_jax.eval import pairing
from cooper_jax.pictures import drawing
from cooper_jax.report import claims, tables
from cooper_jax.report import (
  curves as report_curves,
)
from cooper_jax.report import (
  facts as report_facts,
)
from cooper_jax.report import (
  gallery as report_gallery,
)
from cooper_jax.report import (
  gallery_image as report_picture,
)
from cooper_jax.report import (
  heldout as report_heldout,
)
from cooper_jax.report import (
  html as report_page,
)
from cooper_jax.report import (
  map_use as report_use,
)
from cooper_jax.report import (
  modes as report_modes,
)
from cooper_jax.report import (
  rollout_gallery as report_rollouts,
)


def write_report(workdir, results):
  """Writes `workdir`/report/index.html, returns its path; a picture beside it.

  `results` holds "summary" (flat, as in summary.json) and "gallery" (a list
  of rows, see report_gallery), and may hold "about" (lines for the list of
  facts, which replace or add to date, machine, command and versions).
  """
  workdir = pathlib.Path(workdir)
  summary = pairing.complete(results["summary"], workdir)
  about = report_facts.facts(workdir) | dict(results.get("about") or {})
  packages = report_facts.packages(workdir)
  sections = [
    ("Maps", tables.maps(summary)),
    ("Answers", tables.answers(summary)),
    ("Ways of answering", report_modes.modes(summary)),
    ("When it draws", report_modes.map_rates(summary)),
    ("Is the map read", report_use.table(summary)),
    ("Never seen", report_heldout.table(summary)),
    ("Curves", report_curves.curves(workdir, packages)),
    ("Rollouts", report_rollouts.section(workdir)),
    ("Time and speed", tables.speed(summary, packages)),
    ("Gallery", report_gallery.gallery(results["gallery"])),
  ]
  page = report_page.page(
    title=f"cooper_jax: {workdir.resolve().name}",
    lead=f"A model that draws depth and segmentation while it reasons. "
    f"{about['date']}, {about['machine']}.",
    tiles=claims.tiles(summary),
    picture=report_gallery.strip(results["gallery"]),
    claims=claims.claims(
      summary, str(about.get("variant", "")), own=str(about.get("data", ""))
    ),
    about=about,
    files=report_facts.files(workdir),
    sections=sections,
  )
  path = workdir / "report" / "index.html"
  path.parent.mkdir(parents=True, exist_ok=True)
  scratch = path.with_suffix(".partial")
  scratch.write_text(page, encoding="utf-8")
  scratch.replace(path)
  chosen = report_picture.choose(results["gallery"])
  if chosen:
    picture = report_picture.gallery_picture(chosen)
    (path.parent / "gallery.png").write_bytes(drawing.png(picture))
  return path
