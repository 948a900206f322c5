"""Questions of the world: answers recomputed from the maps alone."""

import collections
import re

import numpy as np
import pytest

from cooper_jax import world
from cooper_jax.data import traces
from cooper_jax.errors import UserError
from cooper_jax.tokenizers.lengths import NUMBERS, metres
from cooper_jax.world import config
from cooper_jax.world.questions import families
from cooper_jax.world.questions.families import PHRASINGS
from cooper_jax.world.questions.wording import PLURALS

WORLD = world.WorldConfig(shaded=False)
SIZE = WORLD.image_size
LOCATION = re.compile(r"<at (\d\.\d{3}) (\d\.\d{3})>")


@pytest.fixture(scope="module")
def samples():
  return world.generate(WORLD, split="train", start=0, count=400)


@pytest.fixture(scope="module")
def heldout():
  return world.generate(WORLD, split="heldout", start=0, count=150)


@pytest.fixture(scope="module")
def asked(samples):
  found = collections.defaultdict(list)
  for sample in samples:
    for question in sample.questions:
      found[question.family].append((sample, question))
  return found


def _names(sample):
  """Instance ids and names, read off the "mark" requests."""
  pattern = re.compile(r"Mark the (.+) \. <segmentation id=(\d+)>")
  names = {}
  for request in sample.grounding:
    if request.family == "mark":
      match = pattern.fullmatch(f"{request.text} {request.answer}")
      names[int(match[2])] = match[1]
  return names


def _depth(sample, instance):
  return float(np.median(sample.maps["depth"][sample.instances == instance]))


def _middle(sample, instance):
  rows, columns = np.nonzero(sample.instances == instance)
  return rows.mean(), columns.mean()


def test_there_are_sixteen_families_asked_alike(asked):
  assert set(asked) == set(families.names())
  assert len(families.names()) == 16
  counts = [len(found) for found in asked.values()]
  assert min(counts) > 0.4 * max(counts)


def test_scenes_are_asked_about_ten_questions(samples):
  counts = [len(s.questions) for s in samples]
  assert 8 < np.mean(counts) <= 12 and max(counts) <= 12
  assert np.mean(np.array(counts) >= 8) > 0.85


def test_an_object_in_a_question_has_one_name_and_can_be_seen(samples):
  for sample in samples:
    names = _names(sample)
    assert len(set(names.values())) == len(names)
    for instance, name in names.items():
      mask = sample.instances == instance
      assert mask.sum() >= 25
      kind = config.CLASSES.index(name.split()[1])
      assert np.all(sample.maps["segmentation"][mask] == kind)
    for question in sample.questions:
      for instance in question.evidence["ids"]:
        assert (
          names[instance].split()[1]
          in question.text.replace("shelves", "shelf")
          or names[instance].split()[0] in question.text
        )


@pytest.mark.parametrize("family", ["closer", "front_behind"])
def test_nearness_is_read_off_the_depth_map(asked, family):
  for sample, question in asked[family]:
    a, b = (_depth(sample, i) for i in question.evidence["ids"])
    assert max(a / b, b / a) > 1.14  # no ties
    if family == "closer":
      expected = question.options[0 if a < b else 1]
    else:
      front = "in front of" in question.text
      expected = "yes" if (a < b) == front else "no"
    assert question.answer == expected


def test_sides_are_read_off_the_picture(asked):
  for sample, question in asked["left_right"]:
    a, b = (_middle(sample, i)[1] for i in question.evidence["ids"])
    left = "left" in question.text
    assert question.answer == question.options[0 if (a < b) == left else 1]
    assert abs(a - b) > 0.06 * SIZE
  for sample, question in asked["above_below"]:
    a, b = (_middle(sample, i)[0] for i in question.evidence["ids"])
    above = "above" in question.text
    assert question.answer == ("yes" if (a < b) == above else "no")


def test_distance_is_the_median_depth(asked):
  for sample, question in asked["distance"]:
    depth = _depth(sample, question.evidence["ids"][0])
    assert question.value == pytest.approx(depth, rel=0.02)


def _solid(sample, instance):
  """Middle of the visible surface in camera coordinates."""
  rows, columns = np.nonzero(sample.instances == instance)
  z = sample.maps["depth"][rows, columns]
  focal = sample.camera[0, 0]
  x = (columns + 0.5 - SIZE / 2) / focal * z
  y = (rows + 0.5 - SIZE / 2) / focal * z
  return np.array([np.median(x), np.median(y), np.median(z)])


def test_distances_between_objects_fit_the_unprojected_map(asked):
  for family in ("object_distance", "nearer_to"):
    ratios = []
    for sample, question in asked[family]:
      ids = question.evidence["ids"]
      a, b = _solid(sample, ids[0]), _solid(sample, ids[-1])
      known = question.evidence.get("distance", [question.value])[0]
      ratios.append(np.linalg.norm(a - b) / known)
    # Visible fronts stand for centres: close on the whole.
    assert np.median(ratios) == pytest.approx(1, abs=0.1)
    assert np.mean(np.abs(np.log(ratios)) < np.log(1.6)) > 0.9


def test_heights_and_widths_fit_the_extent_in_the_picture(asked):
  for family, axis in (("height", 0), ("width", 1)):
    ratios = []
    for sample, question in asked[family]:
      place = np.nonzero(sample.instances == question.evidence["ids"][0])[axis]
      depth = _depth(sample, question.evidence["ids"][0])
      seen = (np.ptp(place) + 1) * depth / sample.camera[0, 0]
      ratios.append(seen / question.value)
    assert np.median(ratios) == pytest.approx(1, abs=0.1)
    assert np.mean(np.abs(np.log(ratios)) < np.log(1.5)) > 0.85


def test_gap_is_less_than_the_distance_and_fits_the_map(asked):
  ratios = []
  for sample, question in asked["gap"]:
    points = []
    for instance in question.evidence["ids"]:
      rows, columns = np.nonzero(sample.instances == instance)
      z = sample.maps["depth"][rows, columns]
      x = (columns + 0.5 - SIZE / 2) / sample.camera[0, 0]
      y = (rows + 0.5 - SIZE / 2) / sample.camera[0, 0]
      points.append(np.stack([x * z, y * z, z], -1))
    between = points[0][:, None] - points[1][None]
    nearest = np.sqrt((between**2).sum(-1)).min()
    # Visible points are some of the points: the true gap is no larger, but
    # for hulls of tables and shelves, which fill their allowed_maps.
    assert question.value < nearest * 1.02 + 0.01
    ratios.append(question.value / nearest)
  assert np.median(ratios) > 0.75


def test_counts_and_existence_match_the_names(asked):
  for sample, question in asked["count"]:
    names = _names(sample).values()
    words = question.text.split()
    colours = [c for c in config.COLOURS if c in words]
    kinds = [s for s, p in PLURALS.items() if p in words]
    assert len(colours) + len(kinds) == 1
    number = sum((colours + kinds)[0] in name.split() for name in names)
    assert question.answer == str(number) and question.value == number
    assert question.unit == ""
  for sample, question in asked["exists"]:
    name = re.search(r"an? (\w+ \w+)", question.text)[1]
    if question.answer == "yes":
      assert name in _names(sample).values()
    else:
      assert name not in _names(sample).values()
      colour, shape = name.split()
      kinds = np.unique(sample.maps["segmentation"])
      assert config.CLASSES.index(shape) in kinds  # never a giveaway
      assert any(colour in n for n in _names(sample).values())


def test_reach_has_its_answer_and_a_margin(asked):
  for _, question in asked["reach"]:
    limit = float(re.search(r"(\d+\.?\d*) m", question.text)[1])
    distance = question.evidence["distance"]
    assert question.answer == ("yes" if distance < limit else "no")
    assert max(limit / distance, distance / limit) > 1.11


def test_viewpoint_is_geometry_on_the_floor(asked):
  # Seen from above, with camera x to the right and z ahead, c is to the right
  # of the line from a to b when the cross product is positive.
  right = []
  for sample, question in asked["viewpoint"]:
    a, b, c = (_solid(sample, i)[[0, 2]] for i in question.evidence["ids"])
    ahead, there = b - a, c - a
    cross = there[0] * ahead[1] - there[1] * ahead[0]
    right.append((cross > 0) == (question.answer == "right"))
  # Pitch and roll tilt the floor a little, and fronts stand for centres.
  assert np.mean(right) > 0.95


def test_a_comparison_ends_with_how_the_first_stands_to_the_second(asked):
  numbers = re.compile(r"([\d.]+) m\b")
  for family, (first, second) in families.relations().items():
    said = set()
    for sample, question in asked[family]:
      *_, word = question.reasoning.split(" ; ")
      if family == "left_right":
        *_, word, verdict = question.reasoning.split(" ; ")
        assert verdict == ("yes" if word in question.text else "no")
      a, b = question.evidence["ids"][:2]
      if family in ("left_right", "above_below"):
        axis = 1 if family == "left_right" else 0
        is_first = _middle(sample, a)[axis] < _middle(sample, b)[axis]
      elif family == "nearer_to":
        is_first = np.less(*question.evidence["distance"])
      elif family == "taller":
        is_first = np.greater(*question.evidence["height"])
      else:
        is_first = np.less(*question.evidence["depth"])
        read = [float(n) for n in numbers.findall(question.reasoning)]
        assert (read[0] <= read[1]) if is_first else (read[0] >= read[1])
      assert word == (first if is_first else second)
      said.add(word)
    assert said == {first, second}


def test_numbers_are_written_as_one_e24_token(samples):
  known = set(NUMBERS)
  for sample in samples:
    for question in (*sample.questions, *sample.grounding):
      text = LOCATION.sub("@", f"{question.text} {question.reasoning}")
      for number in re.findall(r"(\d+\.?\d*) m\b", text):
        assert number in known
      if question.unit == "m":
        value, unit = question.answer.split()
        assert unit == "m" and value in known
        assert float(value) == pytest.approx(question.value, rel=0.08)


@pytest.mark.parametrize(
  ("value", "text"),
  [
    (2.31, "2.4"),
    (2.29, "2.2"),
    (0.1, "0.10"),
    (0.469, "0.47"),
    (12.3, "12"),
    (0.0101, "0.010"),
    (9.9, "10"),
    (500.0, "100"),
  ],
)
def test_lengths_are_rounded_to_the_nearest_e24_number(value, text):
  assert metres(value) == text


def test_locations_lie_on_the_object_they_name(samples):
  for sample in samples[:100]:
    names = {name: i for i, name in _names(sample).items()}
    for question in (*sample.questions, *sample.grounding):
      found = re.findall(
        r"(\w+ \w+) <at (\d\.\d{3}) (\d\.\d{3})>", question.reasoning
      )
      for name, y, x in found:
        row, column = int(float(y) * SIZE), int(float(x) * SIZE)
        assert sample.instances[row, column] == names[name]
    for request in sample.grounding:
      if request.family == "where":
        name = re.fullmatch(r"Where is the (.+) \?", request.text)[1]
        y, x = LOCATION.search(request.answer).groups()
        row, column = int(float(y) * SIZE), int(float(x) * SIZE)
        assert sample.instances[row, column] == names[name]


def test_list_goes_from_left_to_right(samples):
  for sample in samples[:50]:
    (request,) = (g for g in sample.grounding if g.family == "list")
    columns = [_middle(sample, i)[1] for i in request.evidence["ids"]]
    assert columns == sorted(columns)
    assert request.answer == request.reasoning


def test_texts_are_short(samples):
  for sample in samples:
    for question in sample.questions:
      words = re.findall(r"[\w.]+", question.text)
      assert len(words) <= 20
      tokens = LOCATION.sub("@", question.reasoning).split()
      assert 1 <= len(tokens) <= 26


def test_flags_say_where_seeing_pays(asked):
  flags = {
    family: {q.flag for _, q in found} for family, found in asked.items()
  }
  assert flags["left_right"] == flags["above_below"] == {"negative"}
  assert flags["closer"] == flags["distance"] == {"positive", "boundary"}
  for _, question in asked["closer"]:
    assert "depth" in question.needs
  assert not any(q.needs for _, q in asked["left_right"])


def test_held_out_pairs_are_never_seen_in_training(samples):
  pairs = {" ".join(pair) for pair in WORLD.held_out}
  assert len(pairs) == 8
  for split in ("train", "validation", "test"):
    drawn = (
      samples
      if split == "train"
      else world.generate(WORLD, split=split, start=0, count=48)
    )
    for sample in drawn:
      assert not pairs & set(_names(sample).values())
      for question in sample.questions:
        assert not any(pair in question.text for pair in pairs)
        assert question.template < PHRASINGS - 1


def test_held_out_scenes_show_and_ask_held_out_pairs(heldout):
  pairs = {" ".join(pair) for pair in WORLD.held_out}
  shown = asked_about = 0
  templates = collections.Counter()
  for sample in heldout:
    shown += bool(pairs & set(_names(sample).values()))
    texts = [q.text for q in sample.questions]
    asked_about += any(pair in text for pair in pairs for text in texts)
    templates.update(q.template for q in sample.questions)
  assert shown > 0.9 * len(heldout)  # some are partly hidden
  assert asked_about > 0.9 * len(heldout)
  assert 0.4 < templates[PHRASINGS - 1] / sum(templates.values()) < 0.6


def test_colours_repeat_in_about_half_of_the_scenes(samples):
  repeats = []
  for sample in samples:
    colours = [name.split()[0] for name in _names(sample).values()]
    if len(colours) > 2:
      repeats.append(len(set(colours)) < len(colours))
  assert 0.35 < np.mean(repeats) < 0.7


def test_traces_think_draw_think_answer(asked):
  _, question = asked["closer"][0]
  reasoning, answer = question.reasoning, question.answer
  tail = f"<think> {reasoning} </think> <answer> {answer} </answer>"
  depth = "<think> measure the depth </think> <depth>"
  objects = "<think> find the objects </think> <segmentation>"
  direct = f"<answer> {answer} </answer>"
  assert traces.compose(question, None) == direct
  assert traces.compose(question, ()) == tail
  assert traces.compose(question, ("depth",)) == f"{depth} {tail}"
  both = f"{depth} {objects} {tail}"
  assert traces.compose(question, ("segmentation", "depth")) == both
  assert traces.compose(question, ("depth",), corrupted=True) == (
    "<think> measure the depth </think> <depth corrupted>"
    f" <think> the map does not fit the image ; {reasoning} </think>"
    f" <answer> {answer} </answer>"
  )
  with pytest.raises(UserError, match='asked to draw "normals"'):
    traces.compose(question, ("normals",))
