"""The report's tables of benchmarks: each metric beside its baselines.

Read from the summary's keys `benchmarks/<name>/<metric>/<stage or baseline>`,
so that a new benchmark is shown without an edit here.
"""

from cooper_jax import plugins
from cooper_jax.data import modes
from cooper_jax.report import tables

PREFIX = "benchmarks"
GAIN = "gain"  # benchmarks/<name>/gain: hits after GRPO less before it
BASELINE_HEADS = {"blind": "Blind", "constant": "Const.", "chance": "Chance"}


def section(summary) -> str:
  """A table for each benchmark; "" where none was asked."""
  shown = "".join(
    _table(summary, name, metrics)
    for name, metrics in metrics_of(summary).items()
  )
  if not shown:
    return ""
  note = (
    "Scores with 95 % intervals, the model left to choose how it answers "
    "where a row does not say how it is held. A score means something only by "
    "its distance from blind (a classifier that sees the question only), "
    "constant (the best fixed answer) and chance."
  )
  return tables.section("Benchmarks", f'<div class="pair">{shown}</div>', note)


def metrics_of(summary) -> dict[str, list[str]]:
  """{benchmark: its metrics}, those that a stage has, in order.

  Of answers held to a mode the accuracy of all alone, and last.
  """
  found = {}
  for key in summary:
    prefix, _, rest = key.partition("/")
    name, _, rest = rest.partition("/")
    metric, _, kind = rest.rpartition("/")
    known = prefix == PREFIX and metric and kind in tables.STAGES
    if known and not (_held(metric) and metric.count("/") > 1):
      found.setdefault(name, {})[metric] = None
  return {name: sorted(metrics, key=_held) for name, metrics in found.items()}


def _held(metric) -> bool:
  """Whether it is of answers that were held to a mode of use."""
  return metric.rpartition("/")[2] in modes.every()


def _label(metric) -> str:
  of, _, mode = metric.rpartition("/")
  if _held(metric):
    return f"{tables.title_of(of)}, held: {tables.way(mode).lower()}"
  return tables.title_of(metric.replace("/", ": "))


def _table(summary, name, metrics):
  key = f"{PREFIX}/{name}"
  stages = [s for s in tables.STAGES if f"{key}/{metrics[0]}/{s}" in summary]
  body = "<tbody>"
  for metric in metrics:
    keys = [f"{key}/{metric}/{s}" for s in (*stages, *BASELINE_HEADS)]
    cells = [tables.score(summary, each) for each in keys]
    count = tables.count_of(summary.get(f"{keys[0]}/n"))
    label = _label(metric) + count
    body += tables.row(label, cells)
  if f"{key}/{GAIN}" in summary:
    gain = tables.points(summary, f"{key}/{GAIN}")
    rest = [""] * (len(stages) + len(BASELINE_HEADS) - 1)
    body += tables.row("GRPO less SFT, in points", [gain, *rest])
  title = name
  if name in plugins.names(PREFIX):
    title = plugins.find(PREFIX, name).TITLE
  stage_titles = (tables.STAGES[s] for s in stages)
  head = (title, *stage_titles, *BASELINE_HEADS.values())
  return tables.table(head, body + "</tbody>")
