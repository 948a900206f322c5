"""Comparison of a released model, as we compute it, with its own class.

  python -m cooper_jax.weights.verify DIR

`io.npz` in the folder holds what the model's own class gave: ids [B, L], logits
[B, L, V], hidden [layers + 1, B, L, D] (the last is behind the final norm) and
logp_next [B, L - 1], or of a model that sees text_ids and text_logits. Any of
them may be absent; what of pictures is compared is in `vision_model`. Text is
compared with `chat.json` (`tokenizers/text_check`). Neither torch nor
transformers is needed; with --live the folder's own classes are run by them as
well. Ends with 0 where all are as they ought to be, else with 1, and says which
layer is the first that is not.
"""

import argparse
import sys
from pathlib import Path

import jax
import numpy as np

from cooper_jax.errors import EXIT_DONE, EXIT_USER, UserError, printable
from cooper_jax.parallel.mesh import make_mesh
from cooper_jax.tokenizers import text_check
from cooper_jax.weights import (
  folder,
  importing,
  live,
  origins,
  picture_codes,
  rows_with_pictures,
  text_model,
  vision_model,
)

TOLERANCE = 2e-5  # absolute, of float32
EXIT_DIFFERS = 1
# Of a model that sees, what needs its tower and its pictures.
TEXT_OF_SEEING = {"ids": "text_ids", "logits": "text_logits"}


def expected(path: Path) -> dict[str, np.ndarray]:
  """What the `io.npz` of a folder holds, arrays [...] by name."""
  file = folder.inside(path, folder.EXPECTED)
  try:
    with np.load(file, allow_pickle=False) as archive:
      found = dict(archive)
  except Exception as error:  # of numpy, zipfile, zlib and more
    said = " ".join(str(error).split())
    raise UserError(f"{file} can't be read: {said}") from error
  for name, array in found.items():
    if not isinstance(array, np.ndarray):
      raise UserError(f"{file}: {name} is no array; write it with numpy.savez")
  if not found:
    raise UserError(f"{file} has no arrays; write it with numpy.savez")
  return found


def of_text(arrays: dict, file: Path) -> dict[str, np.ndarray]:
  """What is expected of text: ids [B, L], and logits, hidden, logp_next.

  Of the last three, some; {} where all ids are of rows with pictures. file: how
  errors name it.
  """
  names = {name: name for name in ("ids", "logits", "hidden", "logp_next")}
  if "text_ids" in arrays:
    names = TEXT_OF_SEEING
  elif "patches" in arrays:
    return {}
  if names["ids"] not in arrays:
    raise UserError(f"{file} has no ids, only {', '.join(sorted(arrays))}")
  found = {name: arrays[at] for name, at in names.items() if at in arrays}
  if names is TEXT_OF_SEEING and found["ids"].ndim == 1:  # of one row
    found = {name: array[None] for name, array in found.items()}
  return found


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
  """Largest absolute difference of two arrays [...] alike; of NaN, infinite."""
  if ours.shape != theirs.shape or theirs.dtype.kind not in "fiu":
    raise UserError(
      f"what is expected is of another model: its shape is"
      f" {list(theirs.shape)} of {theirs.dtype}, ours {list(ours.shape)}"
    )
  gap = np.abs(np.asarray(ours, np.float64) - theirs)
  return float(np.max(np.where(np.isfinite(gap), gap, np.inf), initial=0.0))


def differences(ours: dict, theirs: dict) -> dict[str, float]:
  """The largest difference of each, in the order in which they are computed.

  ours: logits, hidden and logp_next; theirs: some of them. The hidden states
  are parted by layer, 0 is the embedding.
  """
  found = {}
  if "hidden" in theirs:
    count = len(theirs["hidden"]) if theirs["hidden"].ndim else 0
    if count != len(ours["hidden"]):
      raise UserError(
        f"what is expected is of another model: it has hidden states of"
        f" {count - 1} layers, ours {len(ours['hidden']) - 1}"
      )
    pairs = zip(ours["hidden"], theirs["hidden"], strict=True)
    for layer, pair in enumerate(pairs):
      found[f"hidden {layer}"] = difference(*pair)
  for name in ("logits", "logp_next"):
    if name in theirs:
      found[name] = difference(ours[name], theirs[name])
  return found


def verify(
  planned: importing.ImportPlan, *, is_live: bool = False
) -> tuple[dict[str, float], list[str]]:
  """(largest difference of each of what a folder's model gives, notes).

  is_live: whether the folder's own class is run, too.
  """
  opened = planned.source
  notes = [*opened.notes, *planned.notes]
  file = opened.path / folder.EXPECTED
  has_text, sees = "text" in planned.sizes, "vision" in planned.sizes
  if picture_codes.SIZES in planned.sizes:
    found, more = _verify_codes(planned, is_live=is_live)
    return found, notes + more
  if is_live and has_text and sees and live.SEEING not in opened.config:
    raise UserError(
      f"--live runs classes of transformers, which has none of {opened.path}:"
      f" leave it out, and put what its class gives into {folder.EXPECTED}"
    )
  arrays = {} if is_live and not file.exists() else expected(opened.path)
  rest, found = vision_model.Expected(arrays), {}
  leaves = importing.read(planned)
  if not has_text:
    if arrays:
      found |= _gaps(vision_model.compare_tower(planned.sizes, leaves, rest))
    if is_live:
      given = live.run_tower(
        opened.path, opened.config, planned.sizes["vision"]
      )
      given = vision_model.Expected(given)
      again = vision_model.compare_tower(planned.sizes, leaves, given)
      found |= {f"live {each}": gap for each, gap in _gaps(again).items()}
    return found, notes + rest.left()
  wanted = of_text(arrays, file) if arrays else {}
  config = text_model.make_config(planned.sizes)
  model = text_model.make_model(config)
  origins.table(planned.origins(), text_model.shapes(model))
  params = text_model.fill(model, leaves)
  if rows_with_pictures.GRIDS in rest and sees:
    found |= _gaps(rows_with_pictures.compare(model, params, rest))
  elif "patches" in rest and sees:
    found |= _gaps(vision_model.compare_whole(model, params, rest))
  rest.used |= {*wanted, *TEXT_OF_SEEING.values()}
  ids = np.random.default_rng(0).integers(0, config.text, (2, 21))
  ids = _checked(wanted.pop("ids", ids), config.text)
  if arrays and not (wanted or found):
    raise UserError(f"{file} has nothing to compare with")
  if not (wanted or is_live):
    return found, notes + rest.left()
  logits, hidden = text_model.run(model, params, ids)
  ours = {"logits": logits, "hidden": hidden, "logp_next": _next(logits, ids)}
  name = "text {}" if found else "{}"
  again = differences(ours, wanted)
  found |= {name.format(each): gap for each, gap in again.items()}
  if is_live and sees:
    given = live.run_pictures(opened.path, opened.config, planned.sizes)
    given = vision_model.Expected(given)
    again = _gaps(rows_with_pictures.compare(model, params, given))
    found |= {f"live {each}": gap for each, gap in again.items()}
  if is_live:
    theirs = live.run(opened.path, opened.config, ids)
    again = differences(ours, theirs)
    found |= {f"live {each}": gap for each, gap in again.items()}
  return found, notes + rest.left()


def _verify_codes(planned: importing.ImportPlan, *, is_live: bool):
  """As `verify`, of an image tokenizer."""
  path, sizes = planned.source.path, planned.sizes
  leaves, found, notes = importing.read(planned), {}, []
  given = {}
  if not is_live or (path / folder.EXPECTED).exists():
    given[""] = expected(path)
  if is_live:
    network = sizes[picture_codes.SIZES]
    given["live "] = live.run_codes(path, planned.source.config, network)
  for name, arrays in given.items():
    rest = vision_model.Expected(arrays)
    pairs = picture_codes.compare(sizes, leaves, rest)
    if not pairs:
      raise UserError(f"{path / folder.EXPECTED} has nothing to compare with")
    found |= {f"{name}{each}": gap for each, gap in _gaps(pairs).items()}
    notes += [f"{name}{each}" for each in picture_codes.said(pairs)]
    notes += rest.left()
  return found, notes


def _gaps(pairs: dict) -> dict[str, float]:
  return {name: difference(*pair) for name, pair in pairs.items()}


def _checked(ids: np.ndarray, rows: int) -> np.ndarray:
  if ids.ndim != 2 or not ids.size or ids.dtype.kind not in "iu":
    raise UserError(f"{folder.EXPECTED}: ids are not whole numbers [B, L]")
  if ids.min() < 0 or ids.max() >= rows:
    raise UserError(
      f"{folder.EXPECTED} has ids from {ids.min()} to {ids.max()}, the"
      f" embedding {rows} rows; one of them is of another model"
    )
  return ids


def _next(logits_BLV, ids_BL):
  """Log-probability [B, L - 1] of each id after the first."""
  each = jax.nn.log_softmax(logits_BLV[:, :-1])
  return np.take_along_axis(np.asarray(each), ids_BL[:, 1:, None], axis=-1)[
    ..., 0
  ]


def lines(found: dict[str, float], tolerance: float) -> list[str]:
  """What is printed: each difference, the largest, and the first too large."""
  said = [f"{name}: max difference {gap:.3g}" for name, gap in found.items()]
  largest = max(found.values())
  said.append(f"max difference {largest:.3g}, allowed {tolerance:g}")
  wrong = [name for name, gap in found.items() if gap > tolerance]
  if wrong:
    said.append(f"differs first in {wrong[0]}")
  return said


def main(argv=None) -> int:
  """Verifies a folder; gives the exit code."""
  printable()
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.weights.verify",
    description="Compares our model with what a folder's io.npz expects.",
    epilog="Ends with 0, with 1 where it differs, with 2 where it can't be.",
  )
  parser.add_argument("folder", help="folder of weights, with io.npz")
  parser.add_argument(
    "--allow_nonfinite",
    action="store_true",
    help="takes NaN and infinite values as they are",
  )
  parser.add_argument(
    "--tolerance",
    type=float,
    default=TOLERANCE,
    help=f"largest difference allowed ({TOLERANCE:g})",
  )
  parser.add_argument(
    "--live",
    action="store_true",
    help="also runs the folder's own class, with torch and transformers",
  )
  asked = parser.parse_args(argv)
  try:
    if not 0 <= asked.tolerance < np.inf:
      raise UserError(
        f"--tolerance is {asked.tolerance}; allowed: finite numbers from 0 on"
      )
    opened = folder.open_folder(asked.folder, nonfinite=asked.allow_nonfinite)
    planned = importing.plan(opened)
    with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
      found, notes = verify(planned, is_live=asked.live)
    texts, has_text = [], text_check.has_text(asked.folder)
    if picture_codes.SIZES in planned.sizes:
      pass  # of a whole model's text nothing is imported
    elif "text" not in planned.sizes:
      notes += [text_check.CARRIED] if has_text else []
    elif has_text:
      texts = text_check.differences(asked.folder, live=asked.live)
      notes += [] if texts else ["its text and its ids are as they should be"]
    else:
      notes.append("no tokenizer.json: text is not compared")
  except (UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  print(
    "\n".join(
      [
        *(f"note: {note}" for note in notes),
        *(f"text differs: {each}" for each in texts),
        *lines(found, asked.tolerance),
      ]
    )
  )
  differs = texts or max(found.values()) > asked.tolerance
  return EXIT_DIFFERS if differs else EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
