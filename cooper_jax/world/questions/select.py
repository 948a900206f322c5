"""Picks which questions a scene is asked, for a whole batch at once.

Every family lists its candidates (an object, a pair, a triple, a name) with
the probability to accept each; u / accept < 1 accepts, and of the accepted
candidates the one with the smallest u / accept is asked.
"""

from __future__ import annotations

import numpy as np

from cooper_jax.tokenizers.lengths import NUMBER_VALUES
from cooper_jax.world.config import COLOURS, MAX_OBJECTS, SHAPES
from cooper_jax.world.layout.sample import Layout
from cooper_jax.world.questions import debias, templates
from cooper_jax.world.questions.measure import Facts
from cooper_jax.world.questions.surface_distance import NOT_A_PRISM, gaps

_N = MAX_OBJECTS
_FREE = ~np.eye(_N, dtype=bool)  # pairs of two different objects
_THREE = (
  _FREE[:, :, None] & _FREE[:, None, :] & _FREE[None, :, :]
)  # triples of three
NEAR_RATIO = 1.15  # of depths: less is a tie
APART_RATIO = 1.25  # of distances and heights
ASIDE = 0.08  # of the image's side
_FAVOUR = 0.02  # of a held-out name's rank: it is nearly always asked about
# In the held-out split: acceptance of a held-out thing that is there (one that
# is missing is rare), and of any other that is missing.
_NOVEL_YES, _USUAL_NO = 0.1, 0.5
TURN = 0.35  # sine of the angle between two directions


class Draws:
  """Hands out each scene's uniforms in a fixed order."""

  def __init__(self, draws):
    self._draws = draws
    self._next = 0

  def take(self, *shape):
    number = int(np.prod(shape, dtype=np.int64))
    part = self._draws[:, self._next : self._next + number]
    assert part.shape[1] == number, "QUESTION_DRAWS is too small"
    self._next += number
    return part.reshape(-1, *shape)


def choose(layout: Layout, facts: Facts, config, split: str) -> dict:
  """Picks at most one question of each family per scene.

  Returns:
    For each family a dict of arrays over the scenes: `asked` (there is an
    accepted candidate), `kept` (the family is wanted here), `items` (indices
    of slots, or for counts of names), and what else the wording needs.
  """
  draws = Draws(layout.draws)
  features = debias.object_features(facts)
  named = facts.named
  pair = named[:, :, None] & named[:, None, :] & _FREE
  # Held-out scenes ask mostly about their held-out object, which is slot 0.
  favour = np.ones((_N,))
  if split == "heldout":
    favour[0] = _FAVOUR
  picks = {}

  def pick(family, accept, *extra, names=0, prefer=None):
    """Chooses by one uniform per candidate; accept [B, ...]."""
    uniform = draws.take(*accept.shape[1:])
    with np.errstate(divide="ignore", invalid="ignore"):
      rank = np.where(uniform < accept, uniform / accept, np.inf)
    # Only the order changes: who is accepted stays as balanced as it is.
    if names and split == "heldout":
      rank = rank * _favoured(favour, names)
    if prefer is not None:
      rank = rank * np.where(prefer, _FAVOUR, 1)
    flat = rank.reshape(len(rank), -1)
    best = flat.argmin(1)
    asked = flat[np.arange(len(flat)), best] < np.inf
    kept = draws.take() < debias.keep(family)
    items = np.stack(np.unravel_index(best, accept.shape[1:]), -1)
    picks[family] = {"asked": asked, "kept": kept, "items": items}
    for name, values in extra:
      at = values.reshape(len(flat), -1)[np.arange(len(flat)), best]
      picks[family][name] = at

  def choice(family, valid, first_wins, *extra):
    logit = debias.score(family, features)
    logit = logit[:, :, None] - logit[:, None, :]
    truth = np.where(first_wins, logit, -logit)
    pick(
      family,
      valid * debias.accept(truth),
      ("first", first_wins),
      *extra,
      names=2,
    )

  z = np.maximum(facts.depth, 1e-3)
  ratio = z[:, :, None] / z[:, None, :]
  apart = (ratio > NEAR_RATIO) | (ratio < 1 / NEAR_RATIO)
  choice("closer", pair & apart, ratio < 1)
  choice("front_behind", pair & apart, ratio < 1)
  for family, axis in (("left_right", 1), ("above_below", 0)):
    middle = facts.middle[..., axis]
    step = (middle[:, :, None] - middle[:, None, :]) / facts.size
    choice(family, pair & (np.abs(step) > ASIDE), step < 0)
  tall = facts.height[:, :, None] / facts.height[:, None, :]
  uneven = (tall > APART_RATIO) | (tall < 1 / APART_RATIO)
  choice("taller", pair & uneven, tall > 1)

  between = facts.centre[:, :, None] - facts.centre[:, None, :]
  distance = np.sqrt((between * between).sum(-1))
  _nearer(facts, features, distance, pair, pick)
  _viewpoint(layout, facts, between, pair, pick)

  single = named.astype(float)
  for family, value in (
    ("distance", facts.depth),
    ("height", facts.height),
    ("width", facts.width),
  ):
    weight = debias.accept_length(family, value)
    pick(family, single * weight, ("value", value), names=1)
  pick(
    "object_distance",
    pair * debias.accept_length("object_distance", distance),
    ("value", distance),
    names=2,
  )
  gap = gaps(layout, facts)
  solid = facts.shape != NOT_A_PRISM
  pick(
    "gap",
    (pair & solid[:, :, None] & solid[:, None, :])
    * debias.accept_length("gap", gap),
    ("value", gap),
    names=2,
  )
  _reach(distance, features, pair, draws, pick)
  _occlusion(facts, features, pair, draws, pick)
  _count(facts, pick)
  _exists(facts, pick, split, config)
  picks["sides"] = draws.take(len(templates.FAMILIES)) < 0.5
  picks["phrasing"] = draws.take(len(templates.FAMILIES))
  picks["order"] = draws.take(len(templates.FAMILIES))
  picks["novel"] = draws.take(len(templates.FAMILIES)) < 0.5
  return picks


def _favoured(favour, names):
  shape = favour
  for _ in range(names - 1):
    shape = np.minimum(shape[..., None], favour)
  return shape


def _nearer(facts, features, distance, pair, pick):
  """Triples (a, b, c): is a or b nearer to c?"""
  middle = facts.middle
  flat = (middle[:, :, None] - middle[:, None, :]) / facts.size
  flat = np.log(np.sqrt((flat * flat).sum(-1)) + 0.02)
  logit = debias.score("nearer_to", features)[:, :, None]
  logit = logit + flat * debias.slope("nearer_to")  # [B, a, c]
  logit = logit[:, :, None] - logit[:, None]  # [B, a, b, c]
  ratio = distance[:, :, None] / np.maximum(distance[:, None], 1e-6)
  valid = pair[:, :, None, :] & pair[:, None, :, :] & _THREE
  valid &= (ratio > APART_RATIO) | (ratio < 1 / APART_RATIO)
  first = ratio < 1
  truth = np.where(first, logit, -logit)
  pick(
    "nearer_to",
    valid * debias.accept(truth),
    ("first", first),
    names=3,
  )


def _viewpoint(layout, facts, between, pair, pick):
  """Triples (a, b, c): at a, facing b, is c to the left?"""
  x, z = -between[..., 0], -between[..., 2]  # from a to the other, on the floor
  far = np.sqrt(x * x + z * z)
  # Right of the direction (x, z), seen from above with z up, is (z, -x).
  cross = x[:, :, None, :] * z[:, :, :, None] - (
    z[:, :, None, :] * x[:, :, :, None]
  )
  size = far[:, :, :, None] * far[:, :, None, :]
  sine = cross / np.maximum(size, 1e-6)
  valid = pair[:, :, :, None] & pair[:, :, None, :] & _THREE
  valid &= (np.abs(sine) > TURN) & (size > 0.09)
  pick("viewpoint", valid.astype(float), ("first", sine < 0), names=3)


def _reach(distance, features, pair, draws, pick):
  """The answer is drawn first, then a limit on its side of the distance."""
  within = draws.take(_N, _N) < 0.5
  factor = np.exp(np.log(1.25) + np.log(1.5) * draws.take(_N, _N))
  limit = distance * np.where(within, factor, 1 / factor)
  numbers = NUMBER_VALUES
  edges = np.sqrt(numbers[1:] * numbers[:-1])
  limit = numbers[np.searchsorted(edges, limit, side="right")]
  margin = np.where(within, limit / np.maximum(distance, 1e-6), 1)
  margin = np.where(within, margin, distance / limit)
  logit = debias.score("reach", features)
  logit = logit[:, :, None] + logit[:, None] + debias.limit_score(limit)
  weight = debias.accept(np.where(within, logit, -logit))
  weight = weight * (debias.bin_of("reach", limit) >= 0)
  pick(
    "reach",
    pair * (margin > 1.12) * weight,
    ("first", within),
    ("value", distance),
    ("limit", limit),
    names=2,
  )


def _occlusion(facts, features, pair, draws, pick):
  """Pairs (a, b): does b cover a part of a? Near misses count as no."""
  seen = np.maximum(facts.seen, 1)[:, :, None]
  share = facts.hidden / (seen + facts.hidden)
  hides = (share > 0.08) & (facts.hidden >= 4 * (facts.size / 64) ** 2)
  box = facts.box
  across = np.minimum(box[:, :, None, 3], box[:, None, :, 3]) - np.maximum(
    box[:, :, None, 2], box[:, None, :, 2]
  )
  along = np.minimum(box[:, :, None, 1], box[:, None, :, 1]) - np.maximum(
    box[:, :, None, 0], box[:, None, :, 0]
  )
  close = np.minimum(across, along) > -0.12 * facts.size
  valid = pair & (hides | ((facts.hidden == 0) & close))
  logit = debias.score("occlusion", features)[:, :, None]
  logit = logit + debias.score("occlusion", features, 1)[:, None, :]
  logit = logit + debias.bias("occlusion")
  truth = np.where(hides, logit, -logit)
  pick("occlusion", valid * debias.accept(truth), ("first", hides), names=2)


def _count(facts, pick):
  """Names: the colours, then the shapes; only what is surely seen counts."""
  sure = facts.named
  some = facts.seen > 0
  accepts, numbers = [], []
  for kind, ids, total in (
    ("colour", facts.colour, len(COLOURS)),
    ("shape", facts.shape, len(SHAPES)),
  ):
    match = ids[:, :, None] == np.arange(total)
    number = (match & sure[:, :, None]).sum(1)
    doubtful = (match & (some & ~sure)[:, :, None]).any(1)
    accepts.append(debias.accept_count(kind, number) * ~doubtful)
    numbers.append(number)
  pick(
    "count",
    np.concatenate(accepts, 1),
    ("value", np.concatenate(numbers, 1)),
  )


def _exists(facts, pick, split, config):
  """Pairs of slots (i, j): is there (colour of i, shape of j)?

  On the diagonal the thing is there. Off it, its colour and its shape both
  are, on different things.
  """
  colour, shape = facts.colour, facts.shape
  clear = facts.named
  both = clear[:, :, None] & clear[:, None, :]
  code = colour * len(SHAPES) + shape
  asked = colour[:, :, None] * len(SHAPES) + shape[:, None, :]
  present = facts.present[:, None, None, :]
  there = (asked[..., None] == code[:, None, None]) & present
  absent = both & ~there.any(-1)
  held_out = np.array(
    [
      COLOURS.index(c) * len(SHAPES) + SHAPES.index(s)
      for c, s in config.held_out
    ]
    or [-1]
  )
  novel = np.isin(asked, held_out)
  same = np.eye(_N, dtype=bool)
  logit = debias.bias("exists") + debias.name_score(
    "exists", colour[:, :, None], shape[:, None, :]
  )
  accept = debias.accept(np.where(same, logit, -logit))
  if split == "heldout":
    usual = np.where(same, accept, _USUAL_NO * accept)
    accept = np.where(novel, np.where(same, _NOVEL_YES, 1), usual)
  else:
    absent &= ~novel
  pick(
    "exists",
    ((both & same) | absent) * accept,
    ("first", np.broadcast_to(same, accept.shape)),
    prefer=novel if split == "heldout" else None,
  )
