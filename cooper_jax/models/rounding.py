"""Parameters as the sampler reads them: rounded once a call, not a token.

What a product rounds anyway (`ModelConfig.operands`), or a look-up
(`ModelConfig.dtype`), is rounded before, so that a token's step reads half the
bytes and computes the very same.
"""

import jax

from cooper_jax.models.config import ModelConfig
from cooper_jax.parallel import shard


def dtypes(params, config: ModelConfig):
  """The dtype in the sampler of each parameter [...], an array or a shape."""

  def one(path, _):
    name = shard.path_name(path)
    if name.endswith("/embedding"):  # rows are looked up, a tied head rounds it
      return config.dtype
    # `point_*` compute in float32; norms and small tables are added there.
    rounds = name.endswith(("kernel", "/head")) and "point_" not in name
    return config.operands if rounds else "float32"

  return jax.tree_util.tree_map_with_path(one, params)


def rounded(params, config: ModelConfig):
  """The parameters [...] in these dtypes, each of its own shape."""
  return jax.tree.map(
    lambda x, dtype: x.astype(dtype), params, dtypes(params, config)
  )
