"""A model that can't be built is refused before a workdir is made."""

import jax
import pytest

from cooper_jax import command, main, policy
from cooper_jax.errors import UserError
from cooper_jax.parallel.mesh import MeshConfig, make_mesh
from cooper_jax.plan import fit

SMOKE = "--config=configs/grpo.py:smoke"


def check(*settings, stages=None, **axes):
  config = command.parse(
    [SMOKE, *(f"--config.{each}" for each in settings)]
  ).config
  mesh = make_mesh(MeshConfig(**axes))
  with jax.set_mesh(mesh):
    fit.check(config, stages or config.pipeline)


@pytest.mark.parametrize(
  ("setting", "names"),
  [
    ("model.heads=3", "model.heads=3"),
    ("model.kv_heads=3", "model.kv_heads=3"),
    ("model.head_dim=6", "model.head_dim is 6"),
    ("model.map_grid=7", "model.map_grid=7"),
    ("model.codes_per_step=col", "model.codes_per_step is 'col'"),
    ("model.remat=all", "model.remat is 'all'"),
    ("model.attention=flash", "model.attention is 'flash'"),
    ("model.vision.patch=5", "model.vision.patch"),
    ("model.vision.patch=2", "model.vision.patch is 2"),
    ("model.vision.heads=3", "model.vision.heads=3"),
    ("model.vision.stem=cnv", "model.vision.stem is 'cnv'"),
    ("data.image_size=8", "image_size is 8"),
    ("tokenizer.network.quantizer=vq", "network.quantizer is 'vq'"),
    ("sampling.maps=3", "sampling.maps is 3"),
    ("text_rows=5", "config.text_rows is 5"),
    ("pretrain.bin=70", "config.pretrain.bin is 70"),
    ("sft.bin=70", "config.sft.bin is 70"),
  ],
)
def test_sizes_that_do_not_fit_are_refused_at_the_start(
  setting, names, tmp_path, capsys
):
  work = tmp_path / "work"
  assert main.main([SMOKE, f"--config.{setting}", f"--workdir={work}"]) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and error.count("\n") == 1
  assert names in error
  assert not work.exists()


def test_a_head_that_would_lie_on_two_devices_is_refused():
  with pytest.raises(UserError, match=r"model\.kv_heads=2"):
    check(tensor=4)


@pytest.mark.parametrize(
  "settings",
  [
    ("model.heads=6", "model.kv_heads=3"),
    ("model.map_grid=4",),
    ("model.map_grid=16", "pretrain.bin=300", "sft.bin=600"),
    ("tokenizer.network.levels=(2,2)",),
    ("tokenizer.network.quantizer=vq_ema",),
    ("modalities=('depth',)",),
    ("model.mixture_of_transformers=True",),
  ],
)
def test_sizes_that_fit_are_not_refused(settings):
  check(*settings)


def test_whatever_a_module_raises_is_one_line(monkeypatch):
  def broken(policy, adapting):
    raise ValueError("two shapes\nthat do not go together")

  monkeypatch.setattr(policy, "boxed_params", broken)
  with pytest.raises(UserError, match=r"two shapes; look at config\.model"):
    check()


def test_stages_that_need_no_model_build_none(monkeypatch):
  monkeypatch.setattr(fit, "make_policy", lambda config: 1 / 0)
  check(stages=["a_toy"])
  check(stages=["tokenizer"])
