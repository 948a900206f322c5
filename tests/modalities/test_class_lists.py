"""Class lists come from text files, and say which classes count."""

import os

import numpy as np
import pytest
from PIL import Image

from cooper_jax import modalities
from cooper_jax.data import map_files
from cooper_jax.errors import UserError
from cooper_jax.modalities import class_lists, segmentation


def own(*lines):
  return modalities.set_up("segmentation", {"names": lines})


@pytest.mark.parametrize(
  ("name", "count", "some"),
  [
    ("world", 14, {0: "background", 13: "shelf"}),
    # Ids as the data sets have them: their own lists count from 1.
    ("ade20k", 151, {1: "wall", 13: "person", 66: "toilet", 150: "flag"}),
    ("nyu40", 41, {1: "wall", 22: "ceiling", 40: "other prop"}),
    ("vkitti", 15, {1: "Terrain", 2: "Sky", 14: "Van"}),
  ],
)
def test_lists_that_come_with_the_package(name, count, some):
  found = class_lists.read(name)
  assert len(found) == count
  assert {i: found.names[i] for i in some} == some
  assert name in class_lists.packaged()
  assert found.counted.sum() == count - 1 and not found.counted[0]
  assert found.ignored[0] == (name != "world")
  assert (found.room ^ found.objects ^ ~found.counted).all()


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("wall\n", "has 1 classes; allowed are 2 to 512"),
    ("\n".join(f"class {i}" for i in range(600)), "has 600 classes"),
    (
      "wall\nfloor\n# more\nwall\n",
      r"list.txt:4: class 'wall' is that of .*:1",
    ),
    ("wall [rom]\nfloor\n", r"list.txt:1: no mark \[rom\].*room"),
    ("wall [room\nfloor\n", r"list.txt:1: 'wall \[room' is no class"),
    ("[room]\nfloor\n", r"list.txt:1: '\[room\]' is no class"),
    ("in/out\nfloor\n", "list.txt:1: 'in/out' is no class.* character '/'"),
    ("in\u200bout\nb\n", r"list.txt:1: .* holds the character '\\u200b'"),
    # As SceneParsing's objectInfo150.txt and Virtual KITTI's colors.txt are.
    ("Idx\tRatio\tName\n1\t0.15\twall\n", r"list.txt:1: .* of a table"),
    ("1 wall\n2 floor\n", "list.txt:1: '1 wall' is a line of a table"),
    ("Misc r g b\nTree 0 199 0\n", "list.txt:2: .*is a line of a table"),
    ("wall\n\nfloor\n", "list.txt:2: a blank line among the names"),
    ("a [ignore]\nb [uncounted]\n", "none of the classes counts"),
    (b"\xff\xfe\x00a", "can't be read"),
  ],
)
def test_lines_that_are_no_list_are_named(tmp_path, text, said):
  path = tmp_path / "list.txt"
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(UserError, match=said):
    class_lists.read(str(path))


def test_what_is_no_text_file_is_refused_and_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / "pipe")
  for which in ("~nosuchuser/x", str(tmp_path / "pipe"), "/dev/zero", "/"):
    with pytest.raises(UserError, match=r"class list .* can't be read"):
      class_lists.read(which)
  with pytest.raises(UserError, match="classes is empty; name a text file"):
    class_lists.read("")


def test_a_file_with_comments_and_a_mark(tmp_path):
  path = tmp_path / "list.txt"
  path.write_text(
    "\ufeff# mine\n\nground  floor [room]  # below\r\n# a\n2x4\n\n", "utf-8"
  )
  found = class_lists.read(str(path))
  assert found.names == ("ground floor", "2x4")
  assert found.room.tolist() == [True, False]


def test_palettes_are_far_apart():
  colours = class_lists.palette(151).astype(int)
  assert len(np.unique(colours, axis=0)) == 151
  apart = np.abs(colours[:, None] - colours[None]).sum(-1)
  np.fill_diagonal(apart, 999)
  assert apart.min() >= 16
  grey = np.abs(colours - 128).sum(-1)
  assert grey.min() >= 16  # of ignored pixels
  # More colours leave the first ones as they were.
  np.testing.assert_array_equal(class_lists.palette(20), colours[:20])
  shown = own("a", "b", "c").picture(np.array([[0, 1], [2, 255]]))
  assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 4


def test_what_counts_is_what_the_list_says():
  true = np.array([[0, 0, 1, 1, 2, 2]])
  drawn = np.array([[0, 1, 1, 1, 2, 0]])
  # IoU: 0: 1/3, 1: 2/3, 2: 1/2.
  every = own("zero", "one [room]", "two")
  assert every.facts() == {
    "classes": 3, "classes_counted": 3, "class_0_counted": 1,
  }  # fmt: skip
  found = every.metrics(every.statistics(drawn, true))
  assert found["miou"] == pytest.approx((1 / 3 + 2 / 3 + 1 / 2) / 3)
  assert found["room_miou"] == pytest.approx(2 / 3)
  assert found["object_miou"] == pytest.approx((1 / 3 + 1 / 2) / 2)
  without = own("zero [uncounted]", "one [room]", "two")
  found = without.metrics(without.statistics(drawn, true))
  assert found["miou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
  assert "iou/zero" not in found and without.facts()["class_0_counted"] == 0


def test_more_than_255_classes_take_two_bytes():
  many = own(*(f"class {i}" for i in range(300)))
  assert many.fill() == 65_535 and many.CHANNELS == many.OUTPUTS == 300
  outputs = np.zeros((1, 2, 2, 300), np.float32)
  outputs[..., 299] = 1
  drawn = many.from_output(outputs)
  assert drawn.dtype == np.uint16 and int(drawn[0, 0, 0]) == 299
  true = np.full((1, 2, 2), 299, np.uint16)
  true[0, 0, 0] = 65_535
  _, weight = many.loss(outputs, true)
  assert weight == 6.0  # three object pixels of weight 2, one ignored
  assert np.asarray(many.to_input(true))[0, 0, 0].sum() == 0
  assert many.constant(true).dtype == np.uint16


def test_a_mask_of_8_bits_is_read_by_a_wide_list_where_255_is_not_in_it(
  tmp_path,
):
  many = own(*(f"class {i}" for i in range(300)))
  ids = np.arange(250, 256, dtype=np.uint8)[None].repeat(6, 0)
  for name, mask in (
    ("narrow", ids - 1),
    ("unclear", ids),
    ("wide", ids.astype(np.uint16)),
  ):
    Image.fromarray(mask).save(tmp_path / f"{name}.png")
  for name, first in (("narrow", 249), ("wide", 250)):
    file = map_files.MapFile("segmentation", tmp_path / f"{name}.png", "x")
    read = many.read_file(file)
    assert read.dtype == np.uint16
    assert read[0].tolist() == list(range(first, first + 6))
  file = map_files.MapFile("segmentation", tmp_path / "unclear.png", "x")
  with pytest.raises(UserError, match=r"8 bits and the value 255.*'class 255'"):
    many.read_file(file)


def test_a_map_of_ignored_classes_is_named_by_what_it_holds(tmp_path):
  Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
  file = map_files.MapFile("segmentation", tmp_path / "a.png", "x")
  with pytest.raises(UserError, match=r"no reading, all is 0 \(ignore\)"):
    own("nothing [ignore]", "wall").read_file(file)


@pytest.mark.parametrize(
  ("lines", "expected"),
  [
    (("background [uncounted]", "box"), 0),
    (("box", "background"), 1),
    (("box", "background [ignore]"), 255),
    (("box", "rest [uncounted]"), 1),
    (("box", "ball"), 255),
  ],
)
def test_a_map_of_one_object_claims_no_other_class(lines, expected):
  module = own(*lines)
  target = np.zeros((4, 4), np.uint8)
  chosen = np.eye(4, dtype=np.uint8)
  shown = modalities.only(target, chosen, 1, module.absent())
  np.testing.assert_array_equal(shown, np.where(chosen, 0, expected))


@pytest.mark.parametrize(
  "lines",
  [
    ("a", "b", "c"),  # no room
    ("a [room]", "b [room]", "c [room]"),  # nothing but room
    ("a [ignore]", "b [room]", "c"),
  ],
)
def test_a_corrupted_map_is_another_map_of_the_list(lines):
  module, rng = own(*lines), np.random.default_rng(0)
  true = np.full((4, 4), 1, np.uint8)
  true[0, 0] = 255
  for _ in range(10):
    wrong = module.corrupt(true, rng)
    assert not np.array_equal(wrong, true)
    assert (wrong == 255).sum() == 1 and wrong[wrong != 255].max() < 3


def test_random_maps_are_scored_alike_by_any_order_of_the_list():
  rng = np.random.default_rng(3)
  true, drawn = rng.integers(0, 5, (2, 3, 7, 11)).astype(np.uint8)
  names = [f"class {i}" for i in range(5)]
  order = rng.permutation(5)
  one = own(*names)
  other = own(*(names[i] for i in np.argsort(order)))
  found = one.metrics(one.statistics(drawn, true))
  moved = order.astype(np.uint8)
  again = other.metrics(other.statistics(moved[drawn], moved[true]))
  assert found.keys() == again.keys()
  for key, value in found.items():
    assert again[key] == pytest.approx(value)
  assert segmentation.statistics(drawn, true)["confusion"].shape == (14, 14)
