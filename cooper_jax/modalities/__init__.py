"""What can be drawn: one modality per file, found by its file name.

A modality module says how its map is read from a sample, put into numbers
for the tokenizer, taken back out, scored and shown. Nothing else in the
package names a modality; `MODALITY_ID` fixes the special tokens that it opens
and closes with. The whole contract is the list of names in `REQUIRED`.
"""

import numpy as np

REQUIRED = (
  "MODALITY_ID",
  "TITLE",
  "CHANNELS",
  "OUTPUTS",
  "read",
  "to_input",
  "loss",
  "from_output",
  "statistics",
  "metrics",
  "constant",
  "quality",
  "picture",
  "corrupt",
)


def only(target, instances, instance: int):
  """The map [H, W, ...] of one instance alone, all else 0 (nothing there)."""
  chosen = instances == instance
  chosen = chosen.reshape(chosen.shape + (1,) * (target.ndim - chosen.ndim))
  return np.where(chosen, target, np.zeros((), target.dtype))
