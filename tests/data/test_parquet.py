"""Parquet files are read by a map of columns, one clear line where not."""

import dataclasses
import io
import json

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from cooper_jax.data import columns, mixture, show, splits
from cooper_jax.data.sources import jsonl
from cooper_jax.errors import UserError
from tests.data import layouts

SIZE = 16


def png(array):
  file = io.BytesIO()
  Image.fromarray(array).save(file, "PNG")
  return file.getvalue()


def image(seed):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)


def depth(seed):
  return np.rint(layouts.metres(seed) * 256).astype(np.uint16)


def table(path, rows, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  parquet.write_table(pyarrow.Table.from_pylist(rows), path, **options)


def config_of(folder, **fields):
  return show.config_of("parquet", str(folder), size=SIZE, fields=fields)


def opened(folder, **fields):
  return show.opened(config_of(folder, **fields), "all")


def hub(seed):
  """A row as the hub writes it, under names of its own."""
  return {
    "rgb": {"bytes": png(image(seed)), "path": f"{seed}.png"},
    "range": {"bytes": png(depth(seed)), "path": None},
    "problem": f"Which of {seed} is closer ?",
    "label": "B",
    "options": ["ball", "box"],
    "unknown": seed,
  }


NAMED = "image=rgb, depth=range, question=problem, answer=label"


def test_rows_of_the_hub_are_the_lines_that_say_the_same(tmp_path):
  rows = [hub(i) for i in range(5)]
  rows[3]["range"] = None
  table(
    tmp_path / "t/data/train-00000-of-00001.parquet", rows, row_group_size=2
  )
  lines = []
  for i in range(5):
    (tmp_path / f"{i}.png").write_bytes(png(image(i)))
    (tmp_path / f"{i}_depth.png").write_bytes(png(depth(i)))
    lines.append(
      {
        "image": f"{i}.png",
        "question": f"Which of {i} is closer ?",
        "answer": "B",
        "options": ["ball", "box"],
      }
      | ({} if i == 3 else {"depth": f"{i}_depth.png", "depth_scale": 256})
    )
  path = tmp_path / "own.jsonl"
  path.write_text("\n".join(map(json.dumps, lines)))
  own = jsonl.everything(show.config_of("jsonl", str(path), size=SIZE))
  found = opened(tmp_path / "t", columns=NAMED, depth_scale=256.0)
  assert len(found) == len(own) == 5
  for i in [4, 0, 3, 1, 2]:
    one, other = found[i], own[i]
    np.testing.assert_array_equal(one.image, other.image)
    assert set(one.maps) == set(other.maps) == set(found.kind(i))
    for name, each in one.maps.items():
      np.testing.assert_array_equal(each, other.maps[name])
    assert one.questions == other.questions


def test_pictures_may_lie_beside_the_file(tmp_path):
  for i in range(2):
    (tmp_path / f"{i}.png").write_bytes(png(image(i)))
  rows = [
    {"image": {"bytes": None, "path": "0.png"}, "question": "Red ?",
     "answer": "yes"},
    {"image": {"bytes": png(image(1)), "path": "gone.png"},
     "question": "Red ?", "answer": "no"},
  ]  # fmt: skip
  table(tmp_path / "mixed.parquet", rows)
  table(tmp_path / "struct.parquet", rows[:1])
  plain = {"image": "1.png", "question": "How many ?", "answer": 3}
  table(tmp_path / "text.parquet", [plain])
  found = opened(tmp_path)
  small = [np.asarray(found.native(i)[0]) for i in range(4)]
  for shown, seed in zip(small, (0, 1, 0, 1), strict=True):
    np.testing.assert_array_equal(shown, image(seed))
  assert found.questions(3)[0].answer == "3"


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view"])
@pytest.mark.parametrize("column", ["image", "depth"])
def test_a_path_is_text_of_any_kind(column, kind, tmp_path):
  if not hasattr(pyarrow, kind):
    pytest.skip(f"this pyarrow has no {kind}")
  (tmp_path / "a.png").write_bytes(png(image(0)))
  (tmp_path / "d.png").write_bytes(png(depth(0)))
  row = {"image": "a.png", "depth": "d.png", "question": "?", "answer": "yes"}
  columns = {name: pyarrow.array([value]) for name, value in row.items()}
  columns[column] = columns[column].cast(getattr(pyarrow, kind)())
  parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
  shown, maps = opened(tmp_path, depth_scale=256.0).native(0)
  np.testing.assert_array_equal(np.asarray(shown), image(0))
  assert maps["depth"].max() == depth(0).max() / 256


@pytest.mark.parametrize("kind", ["binary", "large_binary", "binary_view"])
def test_a_picture_is_bytes_of_any_kind(kind, tmp_path):
  if not hasattr(pyarrow, kind):
    pytest.skip(f"this pyarrow has no {kind}")
  held = [png(image(0)), None]
  columns = {"image": pyarrow.array(held).cast(getattr(pyarrow, kind)())}
  columns |= {"question": ["?", "?"], "answer": ["yes", "no"]}
  parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
  found = opened(tmp_path)
  np.testing.assert_array_equal(np.asarray(found.native(0)[0]), image(0))
  with pytest.raises(UserError, match="no 'image'"):
    found[1]


def test_a_file_is_of_the_split_that_its_name_says(tmp_path):
  for part, count in (("train", 3), ("validation", 2), ("test", 1)):
    rows = [hub(i) for i in range(count)]
    table(tmp_path / f"data/{part}-00000-of-00001.parquet", rows)
  config = config_of(tmp_path, columns=NAMED)
  sizes = [len(mixture.open_split(config, n)) for n in splits.NAMES]
  assert sizes == [3, 2, 1]


def test_a_conversation_has_several_questions(tmp_path):
  turns = [
    {"from": "human", "value": "<image>\nIs it red ?"},
    {"from": "gpt", "value": "yes"},
    {"from": "human", "value": "Is it blue ?"},
    {"from": "gpt", "value": "no"},
  ]
  table(tmp_path / "a.parquet", [{"image": png(image(0)), "talk": turns}])
  found = opened(tmp_path, columns="conversations=talk")
  assert [q.answer for q in found.questions(0)] == ["yes", "no"]


def test_a_row_has_one_conversation_or_a_question(tmp_path):
  turns = [{"from": "human", "value": "Red ?"}, {"from": "gpt", "value": "no"}]
  row = {"image": png(image(0)), "conversations": turns}
  row |= {"question": None, "answer": None}
  plain = {"conversations": None, "question": "Red ?", "answer": "yes"}
  both = {"question": "Blue ?", "answer": "yes"}
  table(tmp_path / "a.parquet", [row, row | plain, row | both])
  found = opened(tmp_path)
  assert [found.questions(i)[0].answer for i in range(2)] == ["no", "yes"]
  with pytest.raises(UserError, match=":2: 'conversations' stands beside"):
    found[2]


BAD = [
  ({"rgb": {"bytes": b"\x89PNG\r\n\x1a\nxx", "path": None}}, "image of column"),
  ({"rgb": {"bytes": png(image(0))[:-30], "path": None}}, "can't be read"),
  ({"rgb": [png(image(0)), png(image(1))]}, "2 images"),
  ({"rgb": {"bytes": None, "path": "../../etc/passwd"}}, "is not below"),
  ({"range": {"bytes": png(image(0)), "path": None}}, "mode RGB"),
  ({"range": {"bytes": png(depth(0) * 0), "path": None}}, "no reading"),
  ({"range": {"bytes": png(depth(0)[:, :3]), "path": None}}, "other aspect|an"),
  ({"label": "D"}, "none of the options"),
  ({"problem": ""}, "question"),
]


@pytest.mark.parametrize(("change", "said"), BAD)
def test_a_bad_row_is_one_line_with_its_name(change, said, tmp_path):
  table(tmp_path / "a.parquet", [{**hub(0), **change}])
  table(tmp_path / "b.parquet", [hub(1), hub(2)])
  found = opened(tmp_path, columns=NAMED, depth_scale=256.0)
  with pytest.raises(UserError, match=said) as caught:
    found[0]
  assert "a.parquet:0" in str(caught.value)
  assert "\n" not in str(caught.value)
  assert found[1].maps.keys() == {"depth"}


def test_a_file_that_is_cut_is_a_bad_sample(tmp_path):
  table(tmp_path / "a.parquet", [hub(0)])
  table(tmp_path / "b.parquet", [hub(i) for i in range(30)])
  whole = (tmp_path / "a.parquet").read_bytes()
  (tmp_path / "a.parquet").write_bytes(whole[:-20])
  config = config_of(tmp_path, columns=NAMED)
  with pytest.raises(UserError, match=r"a\.parquet.* can't be read.*1 of"):
    mixture.open_split(config, "train")


@pytest.mark.parametrize(
  ("written", "said"),
  [
    ("image=rgba", "no column 'rgba'.*did you mean .rgb"),
    ("imag=rgb", "'imag'.*did you mean .image"),
    ("image", "ours=theirs"),
    ("image=rgb, image=range", "twice"),
    ("", "no column 'image'"),
    ("image=rgb", "neither a map nor a question"),
    ("image=", "no column 'image'"),
  ],
)
def test_wrong_columns_are_refused_by_name(written, said, tmp_path):
  table(tmp_path / "a.parquet", [hub(0)])
  with pytest.raises(UserError, match=said):
    opened(tmp_path, columns=written)


@pytest.mark.parametrize("name", ["label", "rgb", "unknown", "other"])
def test_a_column_that_is_read_stands_once(name, tmp_path):
  row = hub(0) | {"other": 1}
  named = NAMED + ", unit=unknown" if name == "unknown" else NAMED
  twice = [*row, name]
  parquet.write_table(
    pyarrow.Table.from_arrays(
      [pyarrow.array([row[each]]) for each in twice], names=twice
    ),
    tmp_path / "a.parquet",
  )
  if name == "other":
    assert len(opened(tmp_path, columns=named)) == 1
    return
  with pytest.raises(UserError, match=f"a.parquet has 2 columns '{name}'"):
    opened(tmp_path, columns=named)


def test_columns_are_ours_by_theirs():
  assert columns.parse("image = rgb,answer=label,") == {
    "image": "rgb",
    "answer": "label",
  }


def test_a_column_of_our_name_may_be_another_thing(tmp_path):
  table(tmp_path / "a.parquet", [hub(0) | {"flag": 7, "unit": [1, 2]}])
  with pytest.raises(UserError, match="'unit' is"):
    opened(tmp_path, columns=NAMED)[0]
  found = opened(tmp_path, columns=f"{NAMED}, flag=, unit=", depth_scale=256.0)
  assert found[0].questions[0].flag == "boundary"


def jpeg(array):
  file = io.BytesIO()
  Image.fromarray(array).save(file, "JPEG")
  return file.getvalue()


def npy(array):
  file = io.BytesIO()
  np.save(file, array)
  return file.getvalue()


def bomb():
  file = io.BytesIO()
  Image.new("1", (13_000, 13_000)).save(file, "PNG")
  return file.getvalue()


GREY = np.full((6, 8), 9, np.uint8)
HOLES = np.where(np.arange(48).reshape(6, 8) % 2, np.nan, 2.0)
CELLS = [
  ("rgb", lambda: jpeg(image(0))[:-40], "truncated|can't be read"),
  ("rgb", bomb, "million pixels"),
  ("rgb", lambda: b"", "no bytes"),
  ("range", lambda: png(GREY), "mode L"),
  ("range", lambda: jpeg(image(0)), "JPEG"),
  ("range", lambda: npy(HOLES * np.nan), "no reading"),
  ("range", lambda: npy(-np.ones((6, 8))), "no reading"),
  ("range", lambda: npy(np.ones((6, 8, 3))), "float64.6, 8, 3"),
  ("range", lambda: npy(HOLES)[:40], "can't be read as .npy"),
  ("classes", lambda: png(GREY + 90), "class ids above 13"),
  ("classes", lambda: png(GREY > 5), "mode 1"),
  ("classes", lambda: png(depth(0)), "mode I;16"),
  ("classes", lambda: png(GREY * 0 + 255), "no reading"),
]


@pytest.mark.parametrize(("column", "made", "said"), CELLS)
def test_a_bad_picture_in_a_cell_is_one_line(column, made, said, tmp_path):
  rows = [hub(0), hub(1)]
  for row in rows:
    row["classes"] = png(GREY)
    row["range"] = npy(HOLES)
  rows[0][column] = made()
  rows[0]["rgb"] = rows[0]["rgb"] if column == "rgb" else png(image(0))
  rows[1]["rgb"] = png(image(1))
  table(tmp_path / "a.parquet", rows)
  named = f"{NAMED}, segmentation=classes"
  found = opened(tmp_path, columns=named)
  with pytest.raises(UserError, match=said) as caught:
    found[0]
  assert "a.parquet:0" in str(caught.value) and "\n" not in str(caught.value)
  # The others are read, and NaN is no reading.
  native = found.native(1)[1]
  np.testing.assert_array_equal(native["depth"], np.nan_to_num(HOLES))
  config = dataclasses.replace(
    config_of(tmp_path, columns=named), bad_samples=0.5
  )
  source = mixture.Tolerant(found, config.bad_samples)
  assert source[0] is None and source[1] is not None


def test_a_file_without_rows_is_an_empty_split(tmp_path):
  whole = pyarrow.Table.from_pylist([hub(0)])
  parquet.write_table(whole.slice(0, 0), tmp_path / "train.parquet")
  with pytest.raises(UserError, match="has no samples"):
    mixture.open_split(config_of(tmp_path, columns=NAMED), "train")


def test_numbers_of_32_bits_are_as_short_as_they_were_written(tmp_path):
  row = {"image": png(image(0)), "question": "How far ?", "unit": "m"}
  columns = {name: [value] * 3 for name, value in row.items()}
  numbers = pyarrow.array([2.4, None, float("nan")], pyarrow.float32())
  path = tmp_path / "a.parquet"
  parquet.write_table(pyarrow.table(columns | {"answer": numbers}), path)
  found = opened(tmp_path)
  assert found.questions(0)[0].answer == "2.4 m"
  for index, said in ((1, "no 'answer'"), (2, "'answer' is nan, no number")):
    with pytest.raises(UserError, match=said):
      found[index]
