"""The conformance command of metrics: right values pass, wrong ones do not."""

import json

import numpy as np
import pytest

from tests.conformance import metrics

OPTIONS = {"A": "the red box", "B": "the blue ball"}


def expected():
  """A small file of the same form, its values by hand."""
  return {
    "mra": {
      "definition": "text",
      # |3 - 4| / 4 = .25 meets .5, .45, .4, .35, .3 and, with <=, .25.
      "rows": [{"pred": 3.0, "target": 4.0, "vsi_le": 0.6, "sibench_lt": 0.5}],
    },
    "qspatial": {
      "multipliers_cm": {"feet": 30.48},
      "rows": [
        {"pred": [1.9, "m"], "gt": [100, "cm"], "delta_2": True},
        {
          "pred": [3, "m"],
          "gt": [100, "cm"],
          "delta_2": False,
          "delta_4": True,
        },
      ],
    },
    "qspatial_regex_parse": {
      "rows": [{"text": "\\scalar{2} \\distance_unit{feet}", "cm": 60.96}]
    },
    "depth": {
      "shape": [1, 3],
      "gt": [1.0, 2.0, 4.0],
      "pred": [2.0, 4.0, 99.0],
      "valid": [1, 1, 0],
      "none": {"abs_rel": 1.0, "rmse": 2.5**0.5},
      "median_scaling": {"scale": 0.5, "metrics": {"abs_rel": 0.0}},
    },
    "miou": {
      "gt": [[0, 1, 255]],
      "pred": [[0, 0, 1]],
      "num_classes": 2,
      "ignore": 255,
      "confusion": [[1, 0], [1, 0]],
      "iou": [0.5, 0.0],
      "pixel_acc": 0.5,
    },
    "option_extraction": {
      "rows": [
        {"text": "not A but B", "choices": OPTIONS, "human": "B"},
        {"text": "A or B", "choices": OPTIONS, "human": False},
        {"text": "I cannot tell", "choices": OPTIONS, "human": "Z"},
      ]
    },
    "number_extraction": {
      "rows": [
        {"text": "2 1/2 feet", "value": 0.762},
        {"text": "?", "value": None},
      ]
    },
  }


def run(tmp_path, content):
  path = tmp_path / "vectors.json"
  path.write_text(json.dumps(content))
  return metrics.main([str(path)])


def test_right_values_pass(tmp_path, capsys):
  assert run(tmp_path, expected()) == 0
  shown = capsys.readouterr().out
  assert "0 not known, 0 wrong" in shown
  assert "robust agrees with 100.0%" in shown


@pytest.mark.parametrize(
  "place",
  [
    ("mra", "rows", 0, "vsi_le"),
    ("qspatial", "multipliers_cm", "feet"),
    ("qspatial_regex_parse", "rows", 0, "cm"),
    ("depth", "none", "rmse"),
    ("depth", "median_scaling", "scale"),
    ("miou", "iou"),
    ("miou", "pixel_acc"),
  ],
)
def test_a_value_that_is_off_is_noticed(tmp_path, place):
  content = expected()
  *folders, key = place
  inside = content
  for folder in folders:
    inside = inside[folder]
  inside[key] = (np.array(inside[key]) + 3e-7).tolist()
  assert run(tmp_path, content) == 1


@pytest.mark.parametrize(
  ("section", "row"),
  [
    ("option_extraction", {"text": "A", "choices": OPTIONS, "human": "B"}),
    ("number_extraction", {"text": "3 m", "value": 4.0}),
    ("number_extraction", {"text": "3 m", "value": None}),
    ("number_extraction", {"text": "far", "value": 4.0}),
  ],
)
def test_labels_are_met_in_97_per_cent(tmp_path, section, row):
  content = expected()
  right = content[section]["rows"][0]
  content[section]["rows"] = [row] + [right] * 40  # 97.6 %
  assert run(tmp_path, content) == 0
  content[section]["rows"] = [row] + [right] * 30  # 96.8 %
  assert run(tmp_path, content) == 1


def test_what_is_not_known_is_counted_and_the_rest_compared(tmp_path, capsys):
  content = {"new": {"rows": [1]}, "list": [2], **expected()}
  content["mra"]["rows"][0]["exact_le"] = 0.6
  content["qspatial"]["rows"].append({"prediction": 3})
  content["depth"]["affine"] = {"metrics": {"abs_rel": 3.0}}
  assert run(tmp_path, content) == 0
  shown = capsys.readouterr().out
  assert "5 not known, 0 wrong" in shown
  for name in ("new", "list", "mra/exact_le", "depth/affine"):
    assert f"{name} " in shown
  content["qspatial"]["rows"][0]["delta_2"] = False
  assert run(tmp_path, content) == 1


def test_a_file_of_which_nothing_is_known_fails(tmp_path, capsys):
  assert run(tmp_path, {"new": {}}) == 1
  assert run(tmp_path, []) == 2
  assert metrics.main([str(tmp_path / "none.json")]) == 2
  assert capsys.readouterr().err.count("\n") == 2
