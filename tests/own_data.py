"""A DataConfig that reads a JSONL file of one's own, for many tests."""

from cooper_jax.data.sources import DataConfig, jsonl


def reading(path, source="jsonl", **more) -> DataConfig:
  """Source jsonl, or several with it, of a file; more: fields of DataConfig."""
  own = {"jsonl": jsonl.Config(path=str(path))}
  return DataConfig(source=source, settings=own, **more)
