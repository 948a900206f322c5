"""Class lists come from text files, and say which classes count."""

import numpy as np
import pytest

from cooper_jax import modalities
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
    ("\n".join(map(str, range(600))), "has 600 classes"),
    (
      "wall\nfloor\n# more\nwall\n",
      r"list.txt:4: class 'wall' is that of .*:1",
    ),
    ("wall [rom]\nfloor\n", r"list.txt:1: no mark \[rom\].*room"),
    ("wall [room\nfloor\n", r"list.txt:1: 'wall \[room' is no class"),
    ("[room]\nfloor\n", r"list.txt:1: '\[room\]' is no class"),
    ("in/out\nfloor\n", "list.txt:1: 'in/out' is no class"),
    ("a [ignore]\nb [uncounted]\n", "none of the classes counts"),
    (b"\xff\xfe\x00a", "can't be read"),
  ],
)
def test_lines_that_are_no_list_are_named(tmp_path, text, said):
  path = tmp_path / "list.txt"
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(UserError, match=said):
    class_lists.read(str(path))


def test_a_file_with_comments_and_a_mark(tmp_path):
  path = tmp_path / "list.txt"
  path.write_text(
    "\ufeff# mine\n\nground  floor [room]  # below\r\ncup\n", "utf-8"
  )
  found = class_lists.read(str(path))
  assert found.names == ("ground floor", "cup")
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
