"""The report's gallery: what the model saw, drew, thought and answered.

True and drawn maps of one row share their colours, as their modality says, and
each place that the trace names is a numbered dot on the input.
"""

import html
import re

import numpy as np

from cooper_jax import modalities
from cooper_jax.data import modes
from cooper_jax.pictures import drawing

MOST_ROWS = 200
_TAG = re.compile(r"<at ([0-9.]+) ([0-9.]+)>|</?[a-z_]+(?: [a-z]+(?:=\w+)?)?>")


def lead(rows):
  """Index of the first row that drew most kinds of maps, None if none drew.

  Chosen by what was drawn and by place, never by whether it is right.
  """
  drawn = [
    sum(made is not None for _, made in row["maps"].values()) for row in rows
  ]
  return drawn.index(max(drawn)) if any(drawn) else None


def strip(rows):
  """HTML of one row as pictures, for the top of the page; "" without maps."""
  first = lead(rows[:MOST_ROWS])
  if first is None:
    return ""
  row = rows[first]
  result = "hit" if row["hit"] else "miss"
  how = "left to choose" if row["mode"] == modes.ADAPTIVE else "made to draw"
  return (
    f'<div class="strip"><div class="maps">'
    f"{_pictures(row, trace(row['trace'])[1])}</div>"
    f"<p><b>{html.escape(prose(row['question']))}</b> {_said(row, result)}</p>"
    '<p class="note">The first of the test questions below whose answer drew '
    f"every kind of map, right or wrong; here it was {how}.</p></div>"
  )


def gallery(rows):
  """HTML of at most MOST_ROWS rows with filters by family and result."""
  if not rows:
    return ""
  shown, first = list(rows[:MOST_ROWS]), lead(rows[:MOST_ROWS])
  if first is not None:
    shown.insert(0, shown.pop(first))
  names = sorted({row["family"] for row in shown})
  ways = sorted({row["mode"] for row in shown})
  hits = sum(bool(row["hit"]) for row in shown)
  cut = f", the first of {len(rows)}" if len(rows) > len(shown) else ""
  controls = (
    '<form class="filters" hidden>'
    + _select("family", "all families", names)
    + _select("mode", "all modes", ways)
    + _select("result", "hits and misses", ["hit", "miss"])
    + f'<output id="shown">{len(shown)} shown</output></form>'
  )
  return (
    '<section id="gallery"><h2>Gallery</h2>'
    f'<p class="note">{len(shown)} test questions{cut}, {hits} answered '
    "right. First one that drew every kind of map, the others in the order of "
    "the test split. Numbers on the input are the places that the trace names."
    "</p>"
    + controls
    + _scales()
    + f'<div class="cards">{"".join(_row(row) for row in shown)}'
    + "</div></section>"
  )


def _row(row):
  hit = bool(row["hit"])
  result = "hit" if hit else "miss"
  family = row["family"].replace("_", " ")
  options = ""
  if row["options"]:
    options = " / ".join(str(o) for o in row["options"])
    options = f'<span class="options">{html.escape(options)}</span>'
  marked, places = trace(row["trace"])
  verdict = "✓ right" if hit else "✗ wrong"
  return (
    f'<article data-family="{html.escape(row["family"], quote=True)}"'
    f' data-mode="{html.escape(row["mode"], quote=True)}"'
    f' data-result="{result}">'
    f'<header><p class="tags"><span class="verdict {result}">{verdict}</span>'
    f"<span>{html.escape(family)}</span>"
    f"<span>{html.escape(row['mode'])}</span></p>"
    f"<h3>{html.escape(prose(row['question']))}</h3>{options}</header>"
    f'<div class="maps">{_pictures(row, places)}</div>{_legend(row)}'
    f'<p class="trace">{marked}</p>'
    f'<p class="answers">{_said(row, result)}</p></article>'
  )


def _said(row, result):
  return (
    f'<span>Said <b class="{result}">'
    f"{html.escape(str(row['predicted']) or '(nothing)')}</b></span> "
    f"<span>True <b>{html.escape(str(row['answer']))}</b></span>"
  )


def trace(markup):
  """(HTML with tags as chips, [(y, x)] of the places named, in order)."""
  places, parts, end = [], [], 0
  for match in _TAG.finditer(markup):
    parts.append(html.escape(markup[end : match.start()]))
    end = match.end()
    if match.group(1):
      places.append((float(match.group(1)), float(match.group(2))))
      parts.append(f'<i class="at">{len(places)}</i>')
      continue
    tag = match.group(0)
    name = tag.strip("</>").split(" ")[0]
    inner = html.escape(tag.strip("<>"))
    kind = "map" if name in modalities.names() else name
    parts.append(f'<i class="tag {html.escape(kind)}">{inner}</i>')
  parts.append(html.escape(markup[end:]))
  return "".join(parts), places


def _modality(row, name: str):
  """The modality of a map, as the run that drew it set it up."""
  return modalities.set_up(name, row.get("set_up", {}).get(name))


def panels(row):
  """[(caption, picture or None)] of the input and the maps of a row."""
  found = [("input", np.asarray(row["image"]))]
  for name, pair in row["maps"].items():
    found += _modality(row, name).panels(*pair)
  return found


def _pictures(row, places):
  words = prose(row["question"])
  drawn = ""
  for i, (name, picture) in enumerate(panels(row)):
    if picture is not None:
      drawn += _figure(name, picture, "" if i else _dots(places), words)
  for name, pair in row["maps"].items():
    if scale := _modality(row, name).scale(pair):
      drawn += _bar(scale)
  return drawn


def _figure(name, picture, over, question):
  alt = html.escape(f"{name}: {question}", quote=True)
  return (
    f'<figure><div class="pixels"><img alt="{alt}" loading="lazy"'
    f' src="{drawing.data_uri(np.asarray(picture))}">{over}</div>'
    f"<figcaption>{name}</figcaption></figure>"
  )


def _dots(places):
  inside = [p for p in places if 0 <= p[0] <= 1 and 0 <= p[1] <= 1]
  return "".join(
    f'<i class="dot" style="top:{100 * y:.1f}%;left:{100 * x:.1f}%">{i}</i>'
    for i, (y, x) in enumerate(inside, 1)
  )


def _bar(scale):
  ticks = "".join(
    f'<span style="left:{100 * share:.1f}%">{text}</span>'
    for text, share in scale.ticks
    if share < 0.88  # where the unit stands
  )
  return (
    f'<div class="bar"><div class="scale {scale.name}"></div>'
    f'<div class="ticks">{ticks}<em>{scale.unit}</em></div></div>'
  )


def _legend(row):
  named = {}
  for name, pair in row["maps"].items():
    for colour, said in _modality(row, name).legend(pair):
      named.setdefault(said, colour)
  items = "".join(
    f'<span><i style="background:rgb({r},{g},{b})"></i>'
    f"{html.escape(said)}</span>"
    for said, (r, g, b) in named.items()
  )
  return f'<p class="classes">{items}</p>' if items else ""


def _every_scale():
  modules = modalities.found().values()
  return [scale for module in modules for scale in module.scales()]


def _scales():
  shown = "".join(
    f'<span><i class="scale {name}"></i>{words}</span>'
    for name, _, words in _every_scale()
  )
  return (
    f'<p class="scales">{shown}<span>'
    '<i class="scale none"></i>no reading</span></p>'
  )


def gradients():
  """CSS of the colour scales, from the tables that draw the pictures."""
  rules = ""
  for name, rows, _ in _every_scale():
    stops = ",".join(f"rgb({r},{g},{b})" for r, g, b in rows[::15])
    rules += f".scale.{name}{{background:linear-gradient(90deg,{stops})}}"
  return rules


def prose(words):
  """Takes out the space that the token language has before punctuation."""
  return re.sub(r" ([,;:.?])", r"\1", words)


def _select(name, everything, values):
  options = "".join(
    f'<option value="{html.escape(v, quote=True)}">'
    f"{html.escape(v.replace('_', ' '))}</option>"
    for v in values
  )
  return (
    f'<label>{name} <select name="{name}"><option value="">{everything}'
    f"</option>{options}</select></label>"
  )
