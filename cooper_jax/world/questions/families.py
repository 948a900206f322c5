"""One writer per family: a picked question as text, answer and reasoning.

Reasoning names each object, points at it and gives the number read there:
"red ball <at 0.412 0.730> 2.4 m ; blue table <at 0.550 0.200> 3.3 m ; closer".
In the families of `phrasing.RELATIONS` it ends with how the question's first
object stands to its second, which is the same whatever way the question is
put. What is counted or looked for is pointed at, with a running number
(`phrasing.counted`). Lengths are written to the E24 series: each is one token.
"""

from __future__ import annotations

from cooper_jax.sample import Question
from cooper_jax.tokenizers.lengths import metres
from cooper_jax.world import config
from cooper_jax.world.questions import debias, templates
from cooper_jax.world.questions.templates import (
  ANSWER_TYPES,
  NEEDS,
  RELATIONS,
  TEMPLATES,
)

_YES_NO = ("yes", "no")


def _question(family, template, names, answer, reasoning, **more):
  kind = ANSWER_TYPES[family]
  if kind == "yes_no":
    more["options"] = _YES_NO
  needs = more.pop("needs", NEEDS[family])
  return Question(
    family=family,
    text=TEMPLATES[family][template].format(**names),
    answer=answer,
    answer_type=kind,
    needs=needs,
    reasoning=reasoning,
    template=template,
    **more,
  )


def _stands(family, first_is_it: bool) -> str:
  """How the first of two objects stands to the second."""
  return " ; " + RELATIONS[family][0 if first_is_it else 1]


def evidence_of(items, **values):
  ids = [i + 1 for i in items]  # as in the instance map
  return {"ids": ids, **values}


def _write_choice(words, b, family, picked, template, side):
  """closer, taller, left_right: one of two objects."""
  i, j = picked["items"]
  first = picked["first"]
  names = {"a": words.name[b][i], "b": words.name[b][j]}
  flag, evidence = "boundary", {}
  if family == "closer":
    reasoning = f"{words.measured(b, i)} ; {words.measured(b, j)}"
    fooled = words.larger_is_closer(b, i, j) != first
    flag = "positive" if fooled else "boundary"
    evidence = {"depth": [words.depth_value[b][i], words.depth_value[b][j]]}
  elif family == "taller":
    tall = [words.height[b][i], words.height[b][j]]
    reasoning = (
      f"{words.upright(b, i)} ; {words.upright(b, j)} ;"
      f" {metres(tall[0])} m ; {metres(tall[1])} m"
    )
    fooled = (words.high[b][i] > words.high[b][j]) != first
    flag = "positive" if fooled else "boundary"
    evidence = {"height": tall}
  else:
    names["side"] = ("left", "right")[side]
    first = first != bool(side)
    reasoning = f"{words.point(b, i)} ; {words.point(b, j)}"
    flag = "negative"
  reasoning += _stands(family, picked["first"])
  if family == "left_right":
    # Which side was asked for is a second step: is it the first one's?
    reasoning += f" ; {_YES_NO[0 if first else 1]}"
  return _question(
    family,
    template,
    names,
    names["a"] if first else names["b"],
    reasoning,
    options=(names["a"], names["b"]),
    flag=flag,
    evidence=evidence_of((i, j), **evidence),
  )


def _write_nearer(words, b, family, picked, template, side):
  i, j, k = picked["items"]
  first = picked["first"]
  apart = [words.distance[b][i][k], words.distance[b][j][k]]
  a, c = words.middle[b], words.middle[b][k]
  flat = [(a[n][0] - c[0]) ** 2 + (a[n][1] - c[1]) ** 2 for n in (i, j)]
  fooled = (flat[0] < flat[1]) != first
  names = dict(zip("abc", (words.name[b][n] for n in (i, j, k))))
  places = " ; ".join(words.measured(b, n) for n in (k, i, j))
  return _question(
    family,
    template,
    names,
    names["a"] if first else names["b"],
    f"{places} ; {metres(apart[0])} m ; {metres(apart[1])} m"
    + _stands(family, first),
    options=(names["a"], names["b"]),
    flag="positive" if fooled else "boundary",
    evidence=evidence_of((i, j, k), distance=apart),
  )


def _write_viewpoint(words, b, family, picked, template, side):
  items = picked["items"]
  left = picked["first"]
  i, _, k = items
  seen_left = words.middle[b][k][1] < words.middle[b][i][1]
  names = dict(zip("abc", (words.name[b][n] for n in items)))
  return _question(
    family,
    template,
    names,
    "left" if left else "right",
    " ; ".join(words.measured(b, n) for n in items),
    options=("left", "right"),
    flag="positive" if seen_left != left else "boundary",
    evidence=evidence_of(items),
  )


def _write_relation(words, b, family, picked, template, side):
  """above_below, front_behind: yes or no about a side."""
  i, j = picked["items"]
  sides = {
    "above_below": ("above", "below"),
    "front_behind": ("in front of", "behind"),
  }[family]
  yes = picked["first"] != bool(side)
  names = {
    "a": words.name[b][i],
    "b": words.name[b][j],
    "side": sides[side],
  }
  if family == "above_below":
    reasoning = f"{words.point(b, i)} ; {words.point(b, j)}"
    flag, evidence = "negative", {}
  else:
    reasoning = f"{words.measured(b, i)} ; {words.measured(b, j)}"
    fooled = words.larger_is_closer(b, i, j) != picked["first"]
    flag = "positive" if fooled else "boundary"
    evidence = {"depth": [words.depth_value[b][i], words.depth_value[b][j]]}
  return _question(
    family,
    template,
    names,
    _YES_NO[0 if yes else 1],
    reasoning + _stands(family, picked["first"]),
    flag=flag,
    evidence=evidence_of((i, j), **evidence),
  )


def _write_occlusion(words, b, family, picked, template, side):
  i, j = picked["items"]
  names = {"a": words.name[b][i], "b": words.name[b][j]}
  return _question(
    family,
    template,
    names,
    _YES_NO[0 if picked["first"] else 1],
    f"{words.point(b, i)} ; {words.point(b, j)}",
    evidence=evidence_of((i, j)),
  )


def _write_reach(words, b, family, picked, template, side):
  i, j = picked["items"]
  limit = metres(picked["limit"])
  names = {"a": words.name[b][i], "b": words.name[b][j], "t": limit}
  # Without depth, objects near each other in the image seem within reach.
  a, c = words.middle[b][i], words.middle[b][j]
  near = (a[0] - c[0]) ** 2 + (a[1] - c[1]) ** 2 < words.area[b][i]
  return _question(
    family,
    template,
    names,
    _YES_NO[0 if picked["first"] else 1],
    f"{words.measured(b, i)} ; {words.measured(b, j)} ;"
    f" {metres(picked['value'])} m",
    flag="positive" if near != picked["first"] else "boundary",
    evidence=evidence_of((i, j), distance=picked["value"]),
  )


def _write_length(words, b, family, picked, template, side):
  """distance, object_distance, gap, height, width: metres."""
  items = picked["items"]
  value = picked["value"]
  low, high = debias.RANGES[family]
  usual = (low * high) ** 0.5
  if family in ("height", "width"):
    reasoning = words.upright(b, items[0])
    if family == "width":
      reasoning = words.measured(b, items[0])
  else:
    reasoning = " ; ".join(words.measured(b, n) for n in items)
  return _question(
    family,
    template,
    dict(zip("ab", (words.name[b][n] for n in items))),
    f"{metres(value)} m",
    reasoning,
    unit="m",
    value=value,
    # A guess of the usual size is off by more than two: seeing pays.
    flag="positive" if not 0.5 < value / usual < 2 else "boundary",
    evidence=evidence_of(items, value=value),
  )


def _write_count(words, b, family, picked, template, side):
  which = picked["items"][0]
  if which < len(config.COLOURS):
    ids, wanted = words.colour[b], which
    name = f"{config.COLOURS[which]} things"
  else:
    ids, wanted = words.shape[b], which - len(config.COLOURS)
    name = templates.PLURALS[config.SHAPES[wanted]]
  found = [
    i for i in words.left_first[b] if words.named[b][i] and ids[i] == wanted
  ]
  return _question(
    family,
    template,
    {"a": name},
    str(len(found)),
    templates.counted([words.at[b][i] for i in found]),
    value=float(len(found)),
    needs=() if which < len(config.COLOURS) else NEEDS[family],
    flag="negative" if which < len(config.COLOURS) else "boundary",
    evidence=evidence_of(found),
  )


def _write_exists(words, b, family, picked, template, side):
  i, j = picked["items"]
  colour = config.COLOURS[words.colour[b][i]]
  name = f"{colour} {config.SHAPES[words.shape[b][j]]}"
  return _question(
    family,
    template,
    {"a": templates.with_article(name)},
    _YES_NO[0 if picked["first"] else 1],
    templates.counted([words.at[b][i]] if picked["first"] else []),
    flag="negative",
    evidence=evidence_of((i,) if picked["first"] else ()),
  )


WRITERS = {
  "closer": _write_choice,
  "nearer_to": _write_nearer,
  "distance": _write_length,
  "object_distance": _write_length,
  "gap": _write_length,
  "height": _write_length,
  "width": _write_length,
  "left_right": _write_choice,
  "above_below": _write_relation,
  "front_behind": _write_relation,
  "occlusion": _write_occlusion,
  "count": _write_count,
  "exists": _write_exists,
  "taller": _write_choice,
  "reach": _write_reach,
  "viewpoint": _write_viewpoint,
}
