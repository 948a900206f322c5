"""Which mesh axes hold which logical axis: one table per purpose.

A logical axis is named where a parameter is made or an activation is
constrained. A table maps it to the mesh axes it is cut along: none, one name
or several. An axis name that a table lacks is an error, not "replicated".
"""

Rules = dict[str, str | tuple[str, ...] | None]

TRAIN_RULES: Rules = {
  # Activations.
  "batch": ("data", "fsdp"),
  "copies": "data",  # the batch while fsdp cuts something else
  "length": "sequence",
  # The model's width where it must not be cut: residual stream, outputs.
  "embed_out": None,
  # Parameters.
  "layers": None,
  "embed": "fsdp",
  "heads": "tensor",
  "kv_heads": "tensor",
  "ffn": "tensor",
  # Tables are cut by width alone: a device looks its columns up for all rows.
  "vocabulary": None,
  "table": ("fsdp", "tensor"),
  "logits": ("fsdp", "tensor"),  # while only `copies` cuts the batch
  "cells": None,
  "digits": None,
  "pixels": None,
  "norm": None,
}

# While sampling there is no optimiser to spread, and gathering a parameter
# for a single token costs more than the token: cut along tensor only, tables
# by words, so that each device has the logits of some.
DECODE_RULES: Rules = TRAIN_RULES | {
  "embed": None,
  "length": None,
  "vocabulary": "tensor",
  "table": None,
}
