"""Every array of a model has an origin, and none has a part of two."""

import dataclasses

import jax
import pytest

from cooper_jax.errors import UserError
from cooper_jax.parallel.mesh import make_mesh
from cooper_jax.weights import folder, importing, origins, text_model
from tests.weights import released


def parts(tmp_path, name="qwen3_bf16"):
  """(what was imported, shapes of the model that it is for)."""
  released.write(tmp_path / "a", name)
  planned = importing.plan(folder.open_folder(tmp_path / "a"))
  model = text_model.make_model(text_model.make_config(planned.sizes))
  with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
    return planned, text_model.shapes(model)


def test_every_array_has_an_origin(tmp_path):
  planned, shapes = parts(tmp_path)
  found = {o.path: o for o in origins.table(planned.origins(), shapes)}
  assert found.keys() == shapes.keys()
  assert all(o.imported or o.initialised for o in found.values())
  query = found["params/decoder/blocks/q/main/kernel"]
  assert query.imported == "model.layers.{0..1}.self_attn.q_proj.weight"
  assert (query.initialised, query.dtype) == ("", "BF16")
  assert query.shape == (2, 24, 24)
  table = found["params/head"]
  assert table.imported == "lm_head.weight"
  # 64 specials, a location and a code.
  assert table.initialised == f"last 66 rows {origins.DRAWN}"
  assert found["params/map_query"].initialised == origins.DRAWN
  assert all(o.imported for p, o in found.items() if "/decoder/" in p)
  lines = origins.lines(list(found.values()))
  assert len(lines) == 1 + len(shapes) and "map_query" in "\n".join(lines)
  assert origins.as_json([query])[0]["dtype"] == "BF16"


def test_an_import_that_the_model_has_no_place_for_is_an_error(tmp_path):
  planned, shapes = parts(tmp_path)
  del shapes["params/decoder/blocks/norm_q/main/scale"]
  with pytest.raises(UserError, match=r"the model has no .*norm_q"):
    origins.table(planned.origins(), shapes)


def test_an_import_of_another_shape_is_an_error(tmp_path):
  planned, shapes = parts(tmp_path)
  path = "params/decoder/blocks/q/main/kernel"
  wrong = [
    dataclasses.replace(o, shape=(2, 24, 25)) if o.path == path else o
    for o in planned.origins()
  ]
  with pytest.raises(UserError, match=r"\[2, 24, 24\] in the model and"):
    origins.table(wrong, shapes)


def test_the_leaves_have_the_shapes_that_their_origins_say(tmp_path):
  planned, _ = parts(tmp_path, "qwen2")
  leaves = importing.read(planned)
  said = {origin.path: origin.shape for origin in planned.origins()}
  assert {path: leaf.shape for path, leaf in leaves.items()} == said
