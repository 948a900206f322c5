"""The report's table of what exchanging a drawn map does to the answers."""

from cooper_jax.eval import map_use, reading
from cooper_jax.report import tables

_KINDS = {
  "own": "Its own map",
  "other": "Another image's",
  "true": "The true one",
  "zero": "Code 0",
  "random": "Random codes",
  "first": "Its first code",
}


def table(summary):
  """Answers with the own, another's and the true map, per family."""
  keys = [
    k.split("/") for k in summary if k.startswith(f"{map_use.MAP_USE}/own/")
  ]
  stages = [s for s in tables.STAGES if any(k[-1:] == [s] for k in keys)]
  names = sorted({k[2] for k in keys if len(k) == 4 and k[3] in stages})
  shown = _shown(summary)
  body = ""
  for stage in stages:
    label = tables.STAGES[stage]
    width = len(shown) + 1
    body += f'<tbody><tr><th colspan="{width}" class="group">{label}</th></tr>'
    for name in [None, *names]:
      keys = [
        "/".join([map_use.MAP_USE, kind, *([name] if name else []), stage])
        for kind in shown
      ]
      cells = [tables.score(summary, key, strong=not name) for key in keys]
      title = tables.title_of(name) if name else "All that read depth"
      count = summary.get(f"{keys[0]}/n")
      body += tables.row(title + tables.count_of(count), cells, strong=not name)
    body += _difference(summary, stage, shown) + "</tbody>"
  if not body:
    shown = _readings(summary)
    return tables.section("Is the map read", shown) if shown else ""
  note = (
    "Held to draw depth first, then the map exchanged before it goes on, a "
    "token replacement test. What "
    "the own map is worth more than another image's is the use it makes of "
    "maps. Per cent right."
  )
  head = ("Family", *(_KINDS[kind] for kind in shown))
  shown = tables.table(head, body) + _readings(summary)
  shown = f'<div class="pair">{shown}</div>'
  return tables.section("Is the map read", shown, note)


def _shown(summary) -> list[str]:
  """The maps that were put in place, the usual three first."""
  keys = [key.split("/") for key in summary]
  there = {key[1] for key in keys if key[0] == map_use.MAP_USE}
  return [k for k in _KINDS if k not in map_use.MEANINGLESS or k in there]


def _difference(summary, stage, shown):
  """Own less the map in place, over the families of distance."""
  key = f"{map_use.MAP_USE}/gain/distances/{stage}"
  if tables.number(summary, key) is None:
    return ""
  cells = [tables.points(summary, key), "", ""]
  for kind in shown[len(cells) :]:
    over = f"{map_use.MAP_USE}/over/{kind}/distances/{stage}"
    cells.append(tables.points(summary, over))
  label = "Of distance: own less another's"
  if len(cells) > 3:
    label = "Of distance: own less another's, and less each that says nothing"
  return tables.row(label + tables.count_of(summary.get(f"{key}/n")), cells)


READINGS = {
  "none": "No map",
  "true": "The true map",
  "other": "Another image's",
  "counterfactual": "A changed map, its own truth told",
}


def _readings(summary):
  """How surprised a policy is by true readings, by what its places read."""
  stages = [
    s for s in tables.STAGES if f"{reading.READING}/nll/none/{s}" in summary
  ]
  if not stages:
    return ""
  body = "<tbody>"
  for kind, title in READINGS.items():
    keys = [f"{reading.READING}/nll/{kind}/{s}" for s in stages]
    cells = [tables.score(summary, key, percent=False) for key in keys]
    count = tables.count_of(summary.get(f"{keys[0]}/n"))
    body += tables.row(title + count, cells)
  head = ("Surprise at readings", *(tables.STAGES[s] for s in stages))
  note = (
    "How surprised it is by the true readings of a trace (lengths, and how two "
    "things stand to each other), in nats, by the map that stands before them; "
    "0: sure of each. Who reads maps is surprised by another image's, and not "
    "by a changed one whose own truth is told."
  )
  shown = tables.table(head, body + "</tbody>")
  return f'<div>{shown}<p class="note">{note}</p></div>'
