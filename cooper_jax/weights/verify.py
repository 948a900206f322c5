"""Comparison of a released model in our decoder with what its own class gave.

  python -m cooper_jax.weights.verify DIR

`io.npz` in the folder holds what the model's own class gave: ids [B, L], logits
[B, L, V], hidden [layers + 1, B, L, D] (the last is behind the final norm) and
logp_next [B, L - 1], or of a model that sees text_ids and text_logits. Any of
them may be absent. Neither torch nor transformers is needed. Ends with 0 where
all are as they ought to be, else with 1, and says which layer is the first that
is not.
"""

import argparse
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np

from cooper_jax.errors import EXIT_DONE, EXIT_USER, UserError, printable
from cooper_jax.parallel.mesh import make_mesh
from cooper_jax.weights import folder, importing, origins, text_model

EXPECTED = "io.npz"
TOLERANCE = 2e-5  # absolute, of float32
EXIT_DIFFERS = 1
# Of a model that sees, what needs its tower and its pictures.
TEXT_OF_SEEING = {"ids": "text_ids", "logits": "text_logits"}


def expected(path: Path) -> dict[str, np.ndarray]:
  """What `io.npz` holds of text: ids, and some of logits, hidden, logp_next."""
  file = folder.inside(path, EXPECTED)
  try:
    with np.load(file, allow_pickle=False) as found:
      arrays = dict(found)
  except (OSError, ValueError, zipfile.BadZipFile) as error:
    raise UserError(f"{file} can't be read: {error}") from error
  if "text_ids" in arrays:
    return {
      name: arrays[there]
      for name, there in TEXT_OF_SEEING.items()
      if there in arrays
    }
  if "ids" not in arrays:
    raise UserError(f"{file} has no ids, only {', '.join(sorted(arrays))}")
  known = ("ids", "logits", "hidden", "logp_next")
  return {name: arrays[name] for name in known if name in arrays}


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
  """Largest absolute difference of two arrays [...] alike; of NaN, infinite."""
  if ours.shape != theirs.shape:
    raise UserError(
      f"{EXPECTED} is of another model: its shape is {list(theirs.shape)}, ours"
      f" {list(ours.shape)}"
    )
  gap = np.abs(np.asarray(ours, np.float64) - theirs)
  return float(np.max(np.where(np.isfinite(gap), gap, np.inf), initial=0.0))


def differences(path, *, nonfinite: bool = False) -> dict[str, float]:
  """The largest difference of each of what a folder's model gives.

  In the order in which they are computed: hidden 0 is the embedding.
  """
  opened = folder.open_folder(path, nonfinite=nonfinite)
  planned = importing.plan(opened)
  wanted = expected(opened.path)
  config = text_model.make_config(planned.sizes)
  ids = wanted.pop("ids")
  low, high = np.min(ids, initial=0), np.max(ids, initial=0)
  if ids.ndim != 2 or ids.dtype.kind not in "iu" or low < 0:
    raise UserError(f"{EXPECTED}: ids are not whole numbers [B, L] from 0 on")
  if high >= config.text:
    raise UserError(
      f"{EXPECTED} has the id {high}, the embedding {config.text} rows; one of"
      " them is of another model"
    )
  model = text_model.make_model(config)
  origins.table(planned.origins(), text_model.shapes(model))
  params = text_model.fill(model, importing.read(planned))
  logits, hidden = text_model.run(model, params, ids)
  found = {}
  if "hidden" in wanted:
    if len(wanted["hidden"]) != len(hidden):
      raise UserError(
        f"{EXPECTED} has hidden states of {len(wanted['hidden']) - 1} layers,"
        f" the model {config.layers}"
      )
    pairs = zip(hidden, wanted["hidden"], strict=True)
    for layer, pair in enumerate(pairs):
      found[f"hidden {layer}"] = difference(*pair)
  if "logits" in wanted:
    found["logits"] = difference(logits, wanted["logits"])
  if "logp_next" in wanted:
    found["logp_next"] = difference(_next(logits, ids), wanted["logp_next"])
  if not found:
    raise UserError(f"{opened.path / EXPECTED} has nothing to compare with")
  return found


def _next(logits_BLV, ids_BL):
  """Log-probability [B, L - 1] of each id after the first."""
  each = jax.nn.log_softmax(logits_BLV[:, :-1])
  return np.take_along_axis(np.asarray(each), ids_BL[:, 1:, None], axis=-1)[
    ..., 0
  ]


def lines(found: dict[str, float]) -> list[str]:
  """What is printed: each difference, the largest, and the first too large."""
  said = [f"{name}: max difference {gap:.3g}" for name, gap in found.items()]
  largest = max(found.values())
  said.append(f"max difference {largest:.3g}, allowed {TOLERANCE:g}")
  wrong = [name for name, gap in found.items() if gap > TOLERANCE]
  if wrong:
    said.append(f"differs first in {wrong[0]}")
  return said


def main(argv=None) -> int:
  """Verifies a folder; gives the exit code."""
  printable()
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.weights.verify",
    description="Compares our decoder with what a folder's io.npz expects.",
    epilog="Ends with 0, with 1 where it differs, with 2 where it can't be.",
  )
  parser.add_argument("folder", help="folder of weights, with io.npz")
  parser.add_argument(
    "--allow_nonfinite",
    action="store_true",
    help="takes NaN and infinite values as they are",
  )
  asked = parser.parse_args(argv)
  try:
    with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
      found = differences(asked.folder, nonfinite=asked.allow_nonfinite)
  except (UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  print("\n".join(lines(found)))
  return EXIT_DIFFERS if max(found.values()) > TOLERANCE else EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
