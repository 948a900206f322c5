"""The comparison of a released image tokenizer with our own, on our maps."""

import numpy as np
import pytest

from cooper_jax import modalities, plugins
from cooper_jax.bench import image_tokenizers
from tests.weights import released_codes, starts


def test_what_is_no_tokenizer_or_no_size_is_named(tmp_path, capsys):
  starts.write_vision(tmp_path / "vision")
  released_codes.write_weights(tmp_path / "codes", "janus_vqgan")
  for words, said in (
    (["vision"], "is no image tokenizer"),
    (["codes", "--pixels=15"], "takes multiples of 2"),
    (["codes", "--scenes=0"], "--scenes is 0"),
    (["gone"], "is no folder"),
  ):
    first, *rest = words
    assert image_tokenizers.main([str(tmp_path / first), *rest]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


@pytest.mark.slow
def test_errors_of_both_are_printed_beside_each_other(tmp_path, capsys):
  four = {"channel_multiplier": [1, 1, 1, 1]}
  released_codes.write_weights(tmp_path / "codes", "janus_vqgan", **four)
  words = [str(tmp_path / "codes"), "--pixels=32", "--scenes=3"]
  assert image_tokenizers.main(words) == 0
  rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
  rows = {row[0]: [c.strip() for c in row[1:] if c.strip()] for row in rows}
  for name in modalities.names():
    headline = plugins.find("modalities", name).HEADLINE[0]
    theirs, ours, constant = map(float, rows[f"{name} {headline}"])
    assert np.isfinite([theirs, ours, constant]).all()
    assert abs(theirs - ours) > 0.1  # its weights are random
  assert rows["codes a map"] == ["16", "64"]
  assert rows["pixels a side"] == ["32", "64"]
