"""Records of tf.train.Example and prepared data sets are read by columns."""

import io
import json
import struct

import numpy as np
import pytest
from array_record.python import array_record_module
from PIL import Image

from cooper_jax.data import columns, mixture, record_files, show, tf_examples
from cooper_jax.data.sources import tfds
from cooper_jax.errors import UserError
from tests.data import layouts
from tests.data.test_parquet import depth, image, png

SIZE = 16


def varint(number):
  number &= (1 << 64) - 1
  out = b""
  while number > 127:
    out, number = out + bytes([number & 127 | 128]), number >> 7
  return out + bytes([number])


def field(number, payload):
  return varint(number << 3 | 2) + varint(len(payload)) + payload


def example(**features):
  """A tf.train.Example as the protocol has it."""
  entries = b""
  for name, value in features.items():
    values = value if isinstance(value, list) else [value]
    if not values:
      kind, inner = 2, b""
    elif isinstance(values[0], bytes):
      kind, inner = 1, b"".join(field(1, each) for each in values)
    elif isinstance(values[0], float):
      kind, inner = 2, field(1, struct.pack(f"<{len(values)}f", *values))
    else:
      kind, inner = 3, field(1, b"".join(map(varint, values)))
    entry = field(1, name.encode()) + field(2, field(kind, inner))
    entries += field(1, entry)
  return field(1, entries)


def tfrecord(path, records):
  whole = b""
  for record in records:
    length = struct.pack("<Q", len(record))
    whole += length + tf_examples._checksum(length) + record + b"\0" * 4
  path.write_bytes(whole)


def arrayrecord(path, records):
  writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
  for record in records:
    writer.write(record)
  writer.close()


WRITERS = {"tfrecord": tfrecord, "arrayrecord": arrayrecord}
ENDINGS = {"tfrecord": "tfrecord-00000-of-00001", "arrayrecord": "array_record"}
NAMED = "image=rgb, depth=range, question=problem, answer=label"


def record(seed, **changes):
  return example(
    **{
      "rgb": png(image(seed)),
      "range": png(depth(seed)),
      "problem": f"Which of {seed} is closer ?".encode(),
      "label": b"box",
      "options": [b"ball", b"box"],
      "camera": [9, 9, 4, 3],
    }
    | changes
  )


def opened(kind, folder, **fields):
  fields = {"columns": NAMED, "depth_scale": 256.0} | fields
  return show.opened(
    show.config_of(kind, str(folder), size=SIZE, fields=fields), "all"
  )


def test_the_checksum_is_that_of_tensorflow():
  # CRC-32C of "123456789" is E3069283 (RFC 3720); masked as TFRecord does.
  plain = 0xE3069283
  masked = ((plain >> 15 | plain << 17) + 0xA282EAD8) & 0xFFFFFFFF
  (found,) = struct.unpack("<I", tf_examples._checksum(b"123456789"))
  assert found == masked


def test_features_are_read_as_they_were_written():
  found = tf_examples.parse(
    example(a=[b"x", b""], b=[1.5, -2.0], c=[3, -4, 1 << 40], d=-1)
  )
  assert found == {
    "a": [b"x", b""],
    "b": [1.5, -2.0],
    "c": [3, -4, 1 << 40],
    "d": [-1],
  }
  whole = example(a=b"12345")
  for stop in range(1, len(whole)):
    with pytest.raises((ValueError, KeyError)):
      tf_examples.parse(whole[:stop])


@pytest.mark.parametrize("kind", WRITERS)
def test_records_are_samples(kind, tmp_path):
  path = tmp_path / f"train.{ENDINGS[kind]}"
  WRITERS[kind](path, [record(i) for i in range(4)])
  found = opened(kind, tmp_path)
  assert len(found) == 4
  for index in (2, 0, 3):
    shown, maps = found.native(index)
    np.testing.assert_array_equal(np.asarray(shown), image(index))
    np.testing.assert_allclose(
      maps["depth"], depth(index) / np.float32(256), rtol=1e-6
    )
    (question,) = found.questions(index)
    assert question.answer == "box" and question.options == ("ball", "box")
    assert found.listed[index].camera == (9, 9, 4, 3)


@pytest.mark.parametrize("kind", WRITERS)
def test_pictures_may_lie_beside_the_file(kind, tmp_path):
  (tmp_path / "bäume").mkdir()
  (tmp_path / "bäume/a 1.png").write_bytes(png(image(0)))
  (tmp_path / "d.png").write_bytes(png(depth(0)))
  beside = {"rgb": "bäume/a 1.png".encode(), "range": b"d.png"}
  path = tmp_path / f"train.{ENDINGS[kind]}"
  rows = [record(0, **beside), record(0), record(0, rgb=b"../a.png")]
  WRITERS[kind](path, [*rows, record(0, rgb=b"gone.png")])
  found = opened(kind, tmp_path)
  for index in range(2):
    shown, maps = found.native(index)
    np.testing.assert_array_equal(np.asarray(shown), image(0))
    assert maps["depth"].max() == depth(0).max() / 256
  with pytest.raises(UserError, match=r"'\.\./a\.png' is not below"):
    found[2]
  with pytest.raises(UserError, match=r"gone\.png does not exist"):
    found[3]


@pytest.mark.parametrize(
  "format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]
)
def test_no_picture_is_taken_for_a_path(format):
  file = io.BytesIO()
  Image.new("L", (1, 1), ord("a")).save(file, format)
  assert record_files._held([file.getvalue()]) == columns.HELD
  npy = io.BytesIO()
  np.save(npy, np.zeros((1, 1)))
  assert record_files._held([npy.getvalue()]) == columns.HELD


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"rgb": png(image(0))[:50]}, "can't be read"),
    ({"rgb": [png(image(0)), png(image(1))]}, "2 images"),
    ({"range": png(image(0))}, "mode RGB"),
    ({"label": b"tree"}, "none of the options"),
    ({"problem": b"\xff\xfe"}, "not UTF-8"),
  ],
)
def test_a_bad_record_is_one_line(kind, change, said, tmp_path):
  path = tmp_path / f"train.{ENDINGS[kind]}"
  WRITERS[kind](path, [record(0, **change), record(1)])
  found = opened(kind, tmp_path)
  with pytest.raises(UserError, match=said) as caught:
    found[0]
  assert f"{path.name}:0" in str(caught.value)
  assert "\n" not in str(caught.value)
  assert found[1].maps.keys() == {"depth"}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_is_cut_is_a_bad_sample(kind, tmp_path):
  path = tmp_path / f"train.{ENDINGS[kind]}"
  WRITERS[kind](path, [record(i) for i in range(4)])
  path.write_bytes(path.read_bytes()[:-100])
  config = show.config_of(kind, str(tmp_path), fields={"columns": NAMED})
  with pytest.raises(UserError, match=rf"{path.name}.*1 of 1 samples"):
    mixture.open_split(config, "train")


def test_a_feature_that_is_missing_is_named(tmp_path):
  tfrecord(tmp_path / "a.tfrecord", [record(0)])
  with pytest.raises(UserError, match="no column 'rgbd'"):
    opened("tfrecord", tmp_path, columns="image=rgbd")


@pytest.mark.parametrize("kind", WRITERS)
def test_a_record_without_a_feature_is_a_bad_sample(kind, tmp_path):
  bare = example(rgb=png(image(0)), problem=b"Which ?", label=b"box")
  path = tmp_path / f"train.{ENDINGS[kind]}"
  WRITERS[kind](path, [record(0), bare, record(2)])
  found = opened(kind, tmp_path)
  with pytest.raises(UserError, match=":1 has no column 'range'"):
    found[1]
  assert found[2].maps.keys() == {"depth"}


@pytest.mark.parametrize("kind", WRITERS)
def test_an_empty_feature_is_one_that_is_not_there(kind, tmp_path):
  records = [record(0), record(1, camera=[], options=[])]
  WRITERS[kind](tmp_path / f"train.{ENDINGS[kind]}", records)
  source = opened(kind, tmp_path)
  assert [each.camera is not None for each in source] == [True, False]
  assert source.questions(1)[0].options == ()


def test_a_feature_that_stands_twice_is_a_bad_sample(tmp_path):
  def entry(name, value):  # what an Example's map has for a feature
    feature = field(1, field(1, value))
    return field(1, field(1, name) + field(2, feature))

  two = field(1, entry(b"label", b"ball") + entry(b"label", b"box"))
  tfrecord(tmp_path / "a.tfrecord", [record(0), two])
  with pytest.raises(UserError, match=r":1: .*'label' stands twice"):
    opened("tfrecord", tmp_path)[1]


def test_a_number_in_place_of_a_name_or_of_bytes_is_no_example():
  for inner in (
    varint(1 << 3) + varint(1 << 40) + field(2, b""),
    field(1, b"a") + field(2, field(1, varint(1 << 3) + varint(1 << 40))),
  ):
    with pytest.raises((ValueError, AttributeError)):
      tf_examples.parse(field(1, field(1, inner)))


def test_numbers_of_32_bits_are_as_short_as_they_were_written(tmp_path):
  far = {"answer": 2.4, "unit": b"m"}
  row = example(image=png(image(0)), question=b"How far ?", **far)
  tfrecord(tmp_path / "a.tfrecord", [row])
  (question,) = opened("tfrecord", tmp_path, columns="").questions(0)
  assert question.answer == "2.4 m"


def prepared(folder, name="tiny_rooms", count=4):
  """A data set as tensorflow-datasets prepares it, without TensorFlow."""
  import tensorflow_datasets as tfds

  class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # else it looks for files beside the code

    def _info(self):
      return self.dataset_info_from_configs(
        features=tfds.features.FeaturesDict(
          {
            "image": tfds.features.Image(shape=(6, 8, 3)),
            "depth": tfds.features.Tensor(shape=(6, 8), dtype=np.float16),
            "annotation": tfds.features.Image(shape=(6, 8, 1)),
            "label": tfds.features.ClassLabel(names=["den", "gym"]),
            "asks": tfds.features.Text(),
          }
        )
      )

    def _split_generators(self, dl_manager):
      del dl_manager
      return {"train": self._generate_examples(count)}

    def _generate_examples(self, number):
      for i in range(number):
        metres = layouts.metres(i).astype(np.float16)
        yield (
          i,
          {
            "image": io.BytesIO(png(image(i))),
            "depth": metres,
            "annotation": io.BytesIO(png(ids(i))),
            "label": i % 2,
            "asks": f"Which room is {i} ?",
          },
        )

  Tiny.name = name
  builder = Tiny(data_dir=str(folder), file_format="array_record")
  builder.download_and_prepare()


def ids(seed):
  return np.random.default_rng(seed).integers(0, 14, (6, 8)).astype(np.uint8)


def test_a_prepared_data_set_is_read_by_its_name(tmp_path):
  prepared(tmp_path)
  config = show.config_of(
    "tfds:tiny_rooms",
    str(tmp_path),
    size=SIZE,
    fields={"columns": "segmentation=annotation, question=asks, answer=label"},
  )
  found = show.opened(config, "all")
  assert len(found) == 4
  first = found.listed[1]
  assert first.questions[0].answer in ("den", "gym")
  seeds = {one.questions[0].text.split()[3]: i
           for i, one in enumerate(found.listed)}  # fmt: skip
  for seed in range(4):
    shown, maps = found.native(seeds[str(seed)])
    np.testing.assert_array_equal(np.asarray(shown), image(seed))
    np.testing.assert_array_equal(
      maps["depth"], layouts.metres(seed).astype(np.float16)
    )
    np.testing.assert_array_equal(maps["segmentation"], ids(seed))
  before = repr(found)
  (file,) = (tmp_path / "tiny_rooms/1.0.0").glob("*.array_record*")
  file.write_bytes(file.read_bytes()[:-3] + b"abc")
  assert repr(show.opened(config, "all")) != before
  with pytest.raises(UserError, match=r"tfds\.builder\('gone'"):
    show.opened(show.config_of("tfds:gone", str(tmp_path)), "all")
  with pytest.raises(UserError, match="names no data set"):
    show.opened(show.config_of("tfds", str(tmp_path)), "all")


def test_scene_parse150_is_no_class_map(tmp_path):
  prepared(tmp_path, name="scene_parse150", count=1)
  with pytest.raises(UserError, match="one of 100 instance classes"):
    show.opened(
      show.config_of(
        "tfds:scene_parse150",
        str(tmp_path),
        fields={"columns": "segmentation=annotation"},
      ),
      "all",
    )


def spoilt(folder, **changes):
  """Another prepared set, whose first split's facts are others."""
  prepared(folder)
  path = folder / "tiny_rooms/1.0.0/dataset_info.json"
  facts = json.loads(path.read_text())
  facts["splits"][0] |= changes
  path.write_text(json.dumps(facts))
  fields = {"columns": "question=asks, answer=label"}
  config = show.config_of("tfds:tiny_rooms", str(folder), fields=fields)
  return show.opened(config, "all")


def test_files_of_a_prepared_set_lie_in_its_folder(tmp_path):
  prepared(tmp_path / "other")
  pattern = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
  other = f"../../../other/tiny_rooms/1.0.0/{pattern}"
  with pytest.raises(UserError, match="is not below"):
    spoilt(tmp_path / "one", filepathTemplate=other)


@pytest.mark.parametrize("count", ["3", "9"])
def test_a_prepared_set_has_as_many_records_as_it_says(count, tmp_path):
  with pytest.raises(UserError, match=f"has 4 records, by .* {count}"):
    spoilt(tmp_path, shardLengths=[count])


def test_a_broken_record_of_a_prepared_set_is_a_bad_sample(
  tmp_path, monkeypatch
):
  whole = tfds._told

  def told(*given):
    values = whole(*given)

    def one(row):
      if row == 2:
        raise AssertionError("no example")
      return values(row)

    return one

  monkeypatch.setattr(tfds, "_told", told)
  found = spoilt(tmp_path)
  with pytest.raises(UserError, match="train/2 can't be read: no example"):
    found[2]
  assert found[3].maps
