"""The report's tables of the ways of answering, and of drawing by family."""

from cooper_jax.data import modes
from cooper_jax.eval import pairing
from cooper_jax.report import tables

AFTER, BEFORE, FREE = pairing.AFTER, pairing.BEFORE, pairing.FREE


def ways(summary):
  """Every way of answering, before and after GRPO, and what decides."""
  found = tables.rates(summary)
  names = [n for n in modes.every() if any(name == n for name, _ in found)]
  stages = [s for s in tables.STAGES if any((n, s) in found for n in names)]
  if not names:
    return ""
  paired = f"qa/gain/{FREE}" in summary
  best = pairing.best_fixed(summary)
  body = "<tbody>"
  for name in names:
    keys = [f"qa/accuracy/{name}/{s}" for s in stages]
    count = next((summary[k + "/n"] for k in keys if k + "/n" in summary), None)
    cells = [tables.score(summary, k, strong=True) for k in keys]
    if paired:
      cells += [
        tables.points(summary, f"qa/gain/{name}"),
        tables.points(summary, f"qa/beyond/{name}"),
      ]
    label = tables.way(name) + (" (best fixed)" if name == best else "")
    body += tables.row(label + tables.count_of(count), cells)
  if best is not None:
    label = "Free after GRPO less the best fixed way before"
    decides = tables.points(summary, f"qa/beyond/{best}")
    cells = [*[""] * (len(stages) + 1), decides]
    body += tables.row(label, cells, strong=True)
  body += "</tbody>"
  note = (
    "The same questions, the way of answering forced; in the last way the "
    "model is left to choose. Per cent right, with 95 % intervals."
  )
  head = ["Way", *(tables.STAGES[s] for s in stages)]
  if paired:
    head += ["GRPO less SFT", "Free after GRPO less this before"]
    note += (
      " Differences are in points, of the same questions, with paired 95 % "
      "intervals; bold where chance does not explain them. What decides is "
      "the last row: reinforcement that changes no more than which way to "
      "answer stays near the best fixed way before it. That way is chosen on "
      "these questions, which favours it a little."
    )
  body = tables.table(head, body, wide=True)
  return tables.section("Ways of answering", body, note)


def map_rates(summary):
  """How often it draws, by family, beside what drawing is worth there."""
  keys = [k.split("/") for k in summary if k.startswith("map_rate/")]
  keys = [k for k in keys if len(k) == 3 and k[2] in tables.STAGES]
  names = sorted({k[1] for k in keys})
  stages = [s for s in tables.STAGES if any(k[2] == s for k in keys)]
  if not names:
    return ""
  draws = pairing.drawing_mode()
  worth = [
    (plain, stage)
    for plain in pairing.PLAIN
    for stage in stages
    if f"qa/drawing/{plain}/{stage}" in summary
  ]
  body = "<tbody>"
  for name in [None, *names]:
    part = f"{name}/" if name else ""
    cells = [tables.score(summary, f"map_rate/{part}{s}") for s in stages]
    cells += [
      tables.points(summary, f"qa/drawing/{plain}/{part}{stage}")
      for plain, stage in worth
    ]
    count = tables.count_of(summary.get(f"map_rate/{part}{stages[0]}/n"))
    label = tables.title_of(name) if name else "All"
    body += tables.row(label + count, cells, strong=not name)
  note = "Per cent of answers in which the model, left to choose, drew a map."
  if worth:
    note += (
      " Beside it what drawing is worth there: right when held to draw "
      f"{draws} first less right when held to text, or to answer at once, in "
      "points of the same questions, with paired 95 % intervals; bold where "
      "chance does not explain them."
    )
  plain_names = {
    "text": f"{draws} less text",
    "direct": f"{draws} less at once",
  }
  head = [f"Draws, {tables.STAGES[s]}" for s in stages]
  head += [f"{tables.STAGES[s]}: {plain_names[p]}" for p, s in worth]
  shown = tables.table(["Family", *head], body + "</tbody>", wide=True)
  return tables.section("When it draws", shown, note)
