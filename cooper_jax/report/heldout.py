"""The report's table of the held-out split: pairs and words that are new."""

from cooper_jax.eval import heldout
from cooper_jax.report import tables

PARTS = {
  "": "All",
  "/pair": "About a pair of colour and shape never seen",
  "/words": "In words never read",
  "/both": "Both",
  "/macro": "Choice and yes/no, each family alike",
}
_BASELINES = {"blind": "Blind", "constant": "Const."}


def table(summary):
  """Answers and maps of the held-out split, the test split beside them."""
  stages = [
    s for s in tables.STAGES if f"{heldout.HELDOUT}/accuracy/{s}" in summary
  ]
  if not stages:
    return ""
  body = "<tbody>"
  test = [f"qa/accuracy/{s}" for s in (*stages, *_BASELINES)]
  body += _row(summary, "The test split", test)
  for part, title in PARTS.items():
    keys = [
      f"{heldout.HELDOUT}/accuracy{part}/{s}" for s in (*stages, *_BASELINES)
    ]
    if keys[0] in summary:
      body += _row(summary, title, keys, strong=not part)
  body += "</tbody>"
  head = ("Answers", *(tables.STAGES[s] for s in stages), *_BASELINES.values())
  note = (
    "Every scene shows a colour and a shape that no training scene shows "
    "together; half of the questions are put in words that no training "
    "question uses."
  )
  answers = tables.table(head, body)
  shown = f'<div class="pair">{answers}{_maps(summary, stages)}</div>'
  return tables.section("Never seen", shown, note)


def _row(summary, title, keys, *, strong=False):
  cells = [tables.score(summary, key, strong=strong) for key in keys]
  count = tables.count_of(summary.get(f"{keys[0]}/n"))
  return tables.row(title + count, cells, strong=strong)


def _maps(summary, stages):
  """Drawn maps: heldout/<modality>/<name>/<stage>, no key of the answers."""
  last, body = stages[-1], "<tbody>"
  for name, title in tables.METRIC_TITLES.items():
    for key in summary:
      parts = key.split("/")
      if parts[0] != heldout.HELDOUT or parts[2:] != [name, last]:
        continue
      modality = parts[1]
      if modality == "accuracy":
        continue
      cells = [
        tables.score(summary, each, percent=False)
        for each in (f"{modality}/{name}", key, f"{modality}/{name}_constant")
      ]
      # "RMSE" stays as it is.
      small = title if title[1:2].isupper() else title[:1].lower() + title[1:]
      body += tables.row(f"{tables.title_of(modality)}: {small}", cells)
  head = ("Drawn maps", "Test split", "Held out", "Constant map")
  return tables.table(head, body + "</tbody>", wide=True)
