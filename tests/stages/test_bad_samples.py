"""Bad samples that may be left out stop no stage, wherever they are read."""

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from cooper_jax.rollouts import lengths
from cooper_jax.training import telemetry
from tests.data.test_parquet import depth, image, png
from tests.stages import test_own_data
from tests.stages.test_own_data import STAGES

BAD = (0, 3)  # rows of each split whose picture is cut
LONG = 5  # the row whose question no prompt has room for


def write(folder):
  """A Parquet file a split: whose bytes are read when a sample is."""
  folder.mkdir()
  for split in ("train", "validation", "test"):
    rows = []
    for number in range(8):
      whole = png(image(number))
      ids = np.full((6, 8), number % 5, np.uint8)
      rows.append(
        {
          "image": whole[:50] if number in BAD else whole,
          "depth": png(depth(number)),
          "segmentation": png(ids),
          "question": f"Is {number} red ?" * (40 if number == LONG else 1),
          "answer": ("no", "yes")[number % 2],
        }
      )
    table = pyarrow.Table.from_pylist(rows)
    parquet.write_table(table, folder / f"{split}.parquet")
  return str(folder)


@pytest.mark.slow
def test_bad_samples_stop_no_stage(tmp_path, capsys):
  config = test_own_data.settings(
    "", source="parquet",
    **{"data.settings.parquet.root": write(tmp_path / "own"),
       "data.bad_samples": 0.3, "sft.self_map_scenes": 4,
       "sft.counterfactual": 0.5, "sft.image_every": 1, "grpo.steps": 4,
       "grpo.order": "epochs", "grpo.validate_every": 2,
       "grpo.validation_questions": 4},
  )  # fmt: skip
  lengths.check(config, STAGES)
  summary = test_own_data.run(config, tmp_path / "run")
  for stage in STAGES[:-1]:
    assert telemetry.read_metrics(tmp_path / f"run/{stage}/metrics.jsonl")
  assert 0 < summary["qa/questions"] <= 5
  said = capsys.readouterr().err
  assert "left out: parquet: train.parquet:0" in said
  assert said.count("tokens of a prompt") == 3  # once a split that is asked
