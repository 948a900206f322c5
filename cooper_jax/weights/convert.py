"""Conversion of a folder of released weights: into our tree and out again.

  python -m cooper_jax.weights.convert --from=DIR --to=NEW

Reads the folder into the leaves of our model and writes them as a folder of the
same names, dtypes and bits; it shows what is imported from where. A model that
was trained from the folder is written the same way (`exporting.export`).
"""

import argparse
import sys

from cooper_jax.errors import EXIT_DONE, EXIT_USER, UserError, printable
from cooper_jax.tokenizers import text_check
from cooper_jax.tokenizers.folder_text import FolderText
from cooper_jax.weights import exporting, folder, importing, origins


def convert(source, target, *, nonfinite: bool = False) -> list[str]:
  """Converts a folder; gives the lines of what was done.

  nonfinite: NaN and infinite values are taken as they are.
  """
  opened = folder.open_folder(source, nonfinite=nonfinite)
  planned = importing.plan(opened)
  notes = [*opened.notes, *planned.notes]
  has_text = text_check.has_text(opened.path)
  if "text" not in planned.sizes:
    notes += [text_check.CARRIED] if has_text else []
  elif has_text:
    FolderText.load(opened.path)  # of another model, or one that loses text
  else:
    notes.append("no tokenizer.json: there is no text to read or to write with")
  # Place is made before the tensors are read, which takes minutes.
  with exporting.new_export(planned, target, unchanged=True) as write:
    leaves = importing.read(planned)
    names = write(leaves)
  parameters = sum(leaf.size for leaf in leaves.values())
  return [
    *origins.lines(planned.origins()),
    *(f"note: {note}" for note in notes),
    f"{target}: {parameters:,} parameters in {len(names)} files",
  ]


def main(argv=None) -> int:
  """Converts a folder; gives the exit code."""
  printable()
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.weights.convert",
    description="Reads a folder of safetensors files, and writes it anew.",
  )
  parser.add_argument(
    "--from", dest="source", required=True, help="folder to read"
  )
  parser.add_argument("--to", required=True, help="folder to make")
  parser.add_argument(
    "--allow_nonfinite",
    action="store_true",
    help="takes NaN and infinite values as they are",
  )
  asked = parser.parse_args(argv)
  try:
    said = convert(asked.source, asked.to, nonfinite=asked.allow_nonfinite)
  except (UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  print("\n".join(said))
  return EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
