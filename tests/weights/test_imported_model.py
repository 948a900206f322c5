"""An imported decoder is a model like any other: cached, sampled, scored."""

import numpy as np
import pytest

from cooper_jax.models.config import VisionConfig
from cooper_jax.weights import folder, importing, text_model
from tests import tiny
from tests.sampling import test_exactness
from tests.weights import released, released_seeing


@pytest.mark.ci
def test_sampler_log_prob_is_trainer_log_prob(tmp_path):
  released.write(tmp_path / "a", "llama3")
  planned = importing.plan(folder.open_folder(tmp_path / "a"))
  model, form, params = tiny.make(3, **planned.sizes)
  leaves = importing.read(planned)
  params = text_model.placed(params, leaves)
  table = params["params"]["embedding"]
  rows = leaves["params/embedding"]
  np.testing.assert_array_equal(table[: released.ROWS], rows)
  params = test_exactness.eager_to_draw(params, form)
  made = test_exactness.trunks(np.random.default_rng(1), form, 4)
  out = test_exactness.run(model, form, params, made, range(12))
  assert (out.map_modality >= 0).any() and out.trainable.sum() > 50
  found = test_exactness.trainer_log_probs(
    model, form, params, out, made, group=3
  )
  np.testing.assert_allclose(
    found[out.trainable], out.log_prob[out.trainable], atol=1e-5, rtol=1e-5
  )


def test_the_forward_pass_is_that_of_the_layers_one_by_one(tmp_path):
  """The whole model scans its layers; `run` calls them one after the other."""
  released.write(tmp_path / "a", "llama3")
  planned = importing.plan(folder.open_folder(tmp_path / "a"))
  model = text_model.make_model(text_model.make_config(planned.sizes))
  params = text_model.fill(model, importing.read(planned))
  ids = np.random.default_rng(0).integers(0, released.ROWS, (2, 9))
  logits, hidden = text_model.run(model, params, ids)
  head = np.asarray(params["params"]["head"])[: released.ROWS]
  np.testing.assert_allclose(logits, hidden[-1] @ head.T, atol=1e-5)
  # A later token changes nothing before it.
  ids[:, 5] += 1
  again, _ = text_model.run(model, params, ids % released.ROWS)
  np.testing.assert_array_equal(again[:, :5], logits[:, :5])
  assert np.abs(again[:, 5] - logits[:, 5]).max() > 1e-3


@pytest.mark.ci
@pytest.mark.parametrize(
  "name", ["qwen3_vl", pytest.param("qwen2_5_vl", marks=pytest.mark.slow)]
)
def test_a_model_that_sees_samples_what_it_scores(name, tmp_path):
  """Two pictures a row of several shapes, merged cells, three axes and, of
  Qwen3-VL, DeepStack.

  Layers are in a loop, and called one by one.
  """
  released_seeing.write(tmp_path / "a", name)
  planned = importing.plan(folder.open_folder(tmp_path / "a"))
  sizes = dict(planned.sizes)
  shapes = {"image_size": 24, "shapes": ((12, 30), (36, 18))}
  vision = VisionConfig(**dict(sizes.pop("vision"), **shapes))
  model, form, params = tiny.make(
    3, **sizes, vision=vision, unroll=name == "qwen3_vl"
  )
  # Cells of 2 x 2 patches of 3 pixels.
  assert form.model.vision.grids == ((4, 4), (2, 5), (6, 3))
  params = text_model.placed(params, importing.read(planned))
  params = test_exactness.eager_to_draw(params, form)
  rng = np.random.default_rng(1)
  made = [
    (*first, *second)
    for first, second in zip(
      test_exactness.trunks(rng, form, 3), test_exactness.trunks(rng, form, 3)
    )
  ]
  out = test_exactness.run(model, form, params, made, range(9), length=48)
  assert (out.map_modality >= 0).any() and out.trainable.sum() > 30
  found = test_exactness.trainer_log_probs(
    model, form, params, out, made, group=3, images=2
  )
  np.testing.assert_allclose(
    found[out.trainable], out.log_prob[out.trainable], atol=1e-5, rtol=1e-5
  )
