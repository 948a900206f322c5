"""Writes one self-contained report of a run: report/index.html.

It gathers what the stages left (their metrics.jsonl and the summary)
with the gallery that the evaluation hands over, and puts every score beside
the baseline that could explain it away. It loads nothing; it links to the
run's own files.
"""

import pathlib

from cooper_jax.eval import pairing
from cooper_jax.pictures import drawing
from cooper_jax.report import (
  benchmarks,
  claims,
  curves,
  facts,
  gallery,
  gallery_image,
  heldout,
  html,
  kept,
  map_use,
  modes,
  rollout_gallery,
  tables,
)


def write_report(workdir, results):
  """Writes `workdir`/report/index.html, returns its path; a picture beside it.

  `results` holds "summary" (flat, as in summary.json) and "gallery" (a list
  of rows, see report_gallery), and may hold "about" (lines for the list of
  facts, which replace or add to date, machine, command and versions).
  """
  workdir = pathlib.Path(workdir)
  summary = pairing.complete(results["summary"], workdir)
  about = facts.facts(workdir) | dict(results.get("about") or {})
  packages = facts.packages(workdir)
  sections = [
    ("Maps", tables.maps(summary)),
    ("Answers", tables.answers(summary)),
    ("Benchmarks", benchmarks.section(summary)),
    ("Ways of answering", modes.ways(summary)),
    ("When it draws", modes.map_rates(summary)),
    ("Is the map read", map_use.table(summary)),
    ("Never seen", heldout.table(summary)),
    ("Curves", curves.curves(workdir, packages)),
    ("Rollouts", rollout_gallery.section(workdir)),
    ("Time and speed", tables.speed(summary, packages)),
    ("Gallery", gallery.gallery(results["gallery"])),
  ]
  page = html.page(
    title=f"cooper_jax: {workdir.resolve().name}",
    lead=f"A model that draws depth and segmentation while it reasons. "
    f"{about['date']}, {about['machine']}.",
    tiles=claims.tiles(summary),
    picture=gallery.strip(results["gallery"]),
    claims=claims.claims(
      summary, str(about.get("variant", "")), own=str(about.get("data", ""))
    ),
    about=about,
    files=facts.files(workdir),
    sections=sections,
  )
  path = workdir / "report" / "index.html"
  path.parent.mkdir(parents=True, exist_ok=True)
  scratch = path.with_suffix(".partial")
  scratch.write_text(page, encoding="utf-8")
  scratch.replace(path)
  kept.save(path.parent, results["gallery"], about)
  chosen = gallery_image.choose(results["gallery"])
  if chosen:
    picture = gallery_image.gallery_picture(chosen)
    (path.parent / "gallery.png").write_bytes(drawing.png(picture))
  return path
