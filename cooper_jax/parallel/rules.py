"""Sharding rules: the mesh axes of each logical axis, one table per purpose.

A logical axis is named where a parameter is made or an activation is
constrained. A table maps it to the mesh axes that shard it: none, one name
or several. An axis name that a table lacks is an error, not "replicated".
"""

Rules = dict[str, str | tuple[str, ...] | None]

TRAIN_RULES: Rules = {
  # Activations.
  "batch": ("data", "fsdp"),
  "copies": "data",  # the batch while fsdp shards something else
  "length": "sequence",
  # The model's width where it must stay whole: residual stream, outputs.
  "embed_out": None,
  # Parameters.
  "layers": None,
  "embed": "fsdp",
  "heads": "tensor",
  "kv_heads": "tensor",
  "ffn": "tensor",
  # Tables are sharded by width: a device looks its columns up for all rows.
  "vocabulary": None,
  "table": ("fsdp", "tensor"),
  "logits": ("fsdp", "tensor"),  # while only `copies` shards the batch
  "cells": None,
  "digits": None,
  "pixels": None,
  "norm": None,
  "rank": None,  # between A and B of LoRA
}

# While sampling there is no optimiser to spread, and gathering a parameter
# for a single token costs more than the token: sharded along tensor only,
# tables by words, so that each device has the logits of some.
DECODE_RULES: Rules = TRAIN_RULES | {
  "embed": None,
  "length": None,
  "vocabulary": "tensor",
  "table": None,
}
