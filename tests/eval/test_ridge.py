"""Ridge regression of depth: states are the model's own, depth the objects'."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from configs import base
from cooper_jax import errors, package, world
from cooper_jax.data import mixture
from cooper_jax.eval import cell_states, ridge
from cooper_jax.sample import Sample
from cooper_jax.sequences import packing, segments
from cooper_jax.training import json_files, settings_version, workdir
from tests import tiny
from tests.data.test_codes import Scenes


def samples(count=3, grid=4, side=16):
  """Images whose left half is an object, of a depth a cell."""
  rng = np.random.default_rng(0)
  instances = np.zeros((side, side), np.uint8)
  instances[:, : side // 2] = 3
  found = []
  for i in range(count):
    depth = np.kron(rng.uniform(1, 5, (grid, grid)), np.ones((4, 4)))
    image = rng.integers(0, 256, (side, side, 3)).astype(np.uint8)
    depth = {"depth": depth.astype(np.float32)}
    found.append(Sample(str(i), "test", image, depth, instances))
  return found


def test_states_are_those_of_the_model_whatever_follows_the_image():
  model, form, params = tiny.make()
  some = samples()
  cells = cell_states.of_samples(form, params, some)
  assert list(cells.states) == ["encoder", "decoder 1", "decoder 2"]
  text = segments.Text(np.array([5, 6, 7]), learn=True)
  documents = [
    segments.Document((segments.Image(each.image), text)) for each in some
  ]
  shape = packing.Shape(length=19, texts=3, codes=0)
  batch = packing.pack(documents, form=form, shape=shape)
  forward = jax.jit(model.apply)
  hidden, features, _ = forward(params, *packing.inputs(batch), batch["images"])
  left = np.arange(16) % 4 < 2
  np.testing.assert_allclose(
    cells.states["encoder"], np.concatenate(features[:, left]), atol=1e-5
  )
  # The model's own are normed: x / rms(x) * scale.
  last = cells.states["decoder 2"]
  rms = np.sqrt((last**2).mean(axis=1, keepdims=True) + model.config.norm_eps)
  norm = params["params"]["decoder"]["norm_final"]
  (scale,) = jax.tree.leaves(norm)[:1]
  hidden = np.concatenate(hidden[:, :16][:, left])
  np.testing.assert_allclose(last / rms * scale, hidden, atol=1e-4)


def test_depth_is_of_objects_that_cover_most_of_a_cell():
  (one,) = samples(1)
  depth = one.maps["depth"]
  depth[0, 0] = 0.0  # no reading
  one.instances[4:8, 4:6] = 0  # half of a cell
  found = cell_states.object_depth(one, (4, 4)).reshape(4, 4)
  expected = depth[1::4, 1::4].copy()
  expected[:, 2:] = np.nan
  expected[1, 1] = np.nan
  np.testing.assert_allclose(found, expected)


def test_cells_of_other_shapes_have_the_depth_under_them():
  rng = np.random.default_rng(1)
  depth = rng.uniform(1, 5, (16, 16)).astype(np.float32)
  depth[rng.random(depth.shape) < 0.3] = 0.0
  depth[:6, :6] = 0.0
  sample = Sample("a", "test", None, {"depth": depth})
  for grid in ((3, 5), (4, 4), (5, 3)):
    found = cell_states.object_depth(sample, grid).reshape(grid)
    row, column = (np.arange(16) * side // 16 for side in grid)
    for i, j in np.ndindex(grid):
      under = depth[row == i][:, column == j]
      share = (under > 0).mean()
      expected = np.median(under[under > 0]) if share > 0.5 else np.nan
      np.testing.assert_allclose(found[i, j], expected, rtol=1e-6)
    assert np.isnan(found[0, 0]) and np.isfinite(found).any()


def test_states_of_a_picture_of_another_shape_are_its_own():
  """Beside a square they are what they are alone."""
  changes = {"shapes": ((8, 24), (20, 12)), "position": "averaged"}
  vision = dataclasses.replace(tiny.make_config().vision, **changes)
  _, form, params = tiny.make(vision=vision, layers=1)
  some = samples(3)
  rng = np.random.default_rng(2)
  for i, sides in ((0, (8, 24)), (2, (20, 12))):
    image = rng.integers(0, 256, (*sides, 3)).astype(np.uint8)
    some[i] = dataclasses.replace(some[i], image=image)
  together = cell_states.of_samples(form, params, some)
  alone = [cell_states.of_samples(form, params, [each]) for each in some]
  assert [len(each.log_depth) for each in alone] == [6, 8, 5]
  for name, states in together.states.items():
    expected = np.concatenate([each.states[name] for each in alone])
    np.testing.assert_allclose(states, expected, atol=1e-5)


def cells(rng, n, weights, noise):
  states = rng.normal(size=(n, len(weights)))
  told = states @ weights + 1.0
  return cell_states.Cells(
    {"layer": states, "other": rng.normal(size=states.shape)},
    told + noise * rng.normal(size=n),
  )


def test_what_a_layer_tells_is_found_and_nothing_where_there_is_nothing():
  rng = np.random.default_rng(0)
  weights = np.array([0.5, -0.3, 0.0, 0.0])
  split = [cells(rng, n, weights, 0.1) for n in (400, 200, 2000)]
  found = ridge.score("layer", *split)
  # Of a variance of .25 + .09 + .01 the noise is .01.
  assert found.r2 == pytest.approx(1 - 0.01 / 0.35, abs=0.01)
  # mean |exp(.1 z) - 1| is about .1 * sqrt(2 / pi).
  assert found.abs_rel == pytest.approx(0.08, abs=0.01)
  nothing = ridge.score("other", *split)
  assert abs(nothing.r2) < 0.03 and nothing.penalty > found.penalty


def test_states_of_a_diverged_training_are_refused():
  rng = np.random.default_rng(0)
  split = [
    cells(rng, n, np.array([0.5, -0.3, 0, 0]), 0.1) for n in (40, 20, 20)
  ]
  split[2].states["layer"][3, 1] = np.nan
  with pytest.raises(errors.UserError, match=r"layer are not finite.*diverged"):
    ridge.score("layer", *split)
  ridge.score("other", *split)


def test_the_figure_has_a_line_a_run(tmp_path):
  score = ridge.Score(0.9, 0.1, 1.0)
  scores = {"encoder": score, "decoder 1": score}
  run = ridge.LayerScores("amg, seed 0", "sft", scores, scores, 0.7, 100)
  ridge.draw([run, run], tmp_path / "ridge.png")
  assert (tmp_path / "ridge.png").read_bytes().startswith(b"\x89PNG")
  assert "decoder 1" in "\n".join(ridge.lines(run))


def test_a_workdir_without_a_trained_stage_is_said(tmp_path, capsys):
  words = [f"--workdir={tmp_path}"]
  assert ridge.main(words) == errors.EXIT_USER
  assert "no run in" in capsys.readouterr().err


def test_bad_samples_are_left_out_as_far_as_they_may_be(monkeypatch):
  monkeypatch.setattr(
    mixture, "open_split", lambda config, split: Scenes(8, bad={1})
  )
  config = base.get_base("smoke", ("tokenizer",))
  config.data.bad_samples = 0.2  # 1 of 8
  found = ridge._samples(config, {"train": 3})
  assert [each.id for each in found["train"]] == [
    f"scene {i}" for i in (0, 2, 3)
  ]
  config.data.bad_samples = 0.1
  with pytest.raises(errors.UserError, match=r"scene 1 is broken.*1 of 8"):
    ridge._samples(config, {"train": 3})


@pytest.mark.ci
def test_the_packaged_model_tells_what_an_untrained_one_does_not(
  tmp_path, monkeypatch, capsys
):
  manifest = package.read_manifest(package.find("tiny"))
  config = workdir.to_config(manifest["config"])
  version = {"version": settings_version.SETTINGS_VERSION}
  saved = json_files.plain(config) | version
  json_files.write_json(tmp_path / "config.json", saved)
  (tmp_path / "sft").mkdir()
  about = {"finished": True, "digest": "", "settings": {}} | version
  json_files.write_json(tmp_path / "sft" / "stage.json", about)

  def load(made, folder, **options):
    return package.load(config, made, package.find("tiny"))[1]

  monkeypatch.setattr("cooper_jax.trained.load_params", load)

  def some(config, scenes):
    made = world.WorldConfig()
    return {s: world.generate(made, split=s, start=0, count=40) for s in scenes}

  monkeypatch.setattr(ridge, "_samples", some)
  figure = tmp_path / "a.png"
  words = [f"--workdir={tmp_path}", "--json", f"--figure={figure}"]
  assert ridge.main(words) == errors.EXIT_DONE
  (found,) = json.loads(capsys.readouterr().out)
  assert found["stage"] == "sft" and figure.exists()
  trained, untrained = (found[n]["encoder"] for n in ("trained", "untrained"))
  assert trained["r2"] > 0.7 > untrained["r2"] + 0.1
  assert trained["abs_rel"] < untrained["abs_rel"] < found["constant"]
  assert ridge.main([*words, "--stage=grpo"]) == errors.EXIT_USER
  assert "has trained no grpo to the end" in capsys.readouterr().err
