"""A plan's programs are traced where nothing computes: no array is made."""

import jax
import pytest

from configs import base
from cooper_jax import policy
from cooper_jax.parallel.mesh import MeshConfig, make_mesh
from cooper_jax.plan import programs

STAGES = ("tokenizer", "pretrain", "sft", "grpo")


def small(**changes):
  config = base.get_base("smoke", STAGES)
  config = config.copy_and_resolve_references().unlock()
  config.update_from_flattened_dict(
    {"model.layers": 1, "model.d_model": 32, "model.ffn": 32, **changes}
  )
  return config


@pytest.mark.parametrize("changes", [{}, {"lora.rank": 2}], ids=["all", "lora"])
def test_nothing_is_put_on_a_device(changes):
  """The devices of a slice that is not here take no array, not even a key."""
  policy._boxed.cache_clear()
  config = small(**changes)
  made = programs.of(config)
  assert set(made) >= {"pretrain", "sft", "gradients", "apply", "decode"}
  with jax.set_mesh(make_mesh(MeshConfig(data=1, fsdp=-1))):
    for make in made.values():
      with jax.transfer_guard("disallow_explicit"):
        make().trace()
