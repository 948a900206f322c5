"""Models of published shapes, and what their rows and batches are.

The decoder and the encoder have the sizes of released weights; depth and
segmentation maps have a code for each cell of the image. `7b@v6e:16x16` is the
size 7b on that slice: what changes with the slice is in `place`.
"""

import dataclasses
import math

from ml_collections import ConfigDict

from cooper_jax.errors import UserError, nearest
from cooper_jax.parallel import chips
from cooper_jax.plan import capacity
from cooper_jax.tokenizers import vocab


@dataclasses.dataclass(frozen=True)
class Size:
  """decoder, vision: fields of ModelConfig and VisionConfig that differ."""

  image: int  # pixels
  text_rows: int  # of the released embedding
  grid: int  # codes along a side of a map, and image cells
  decoder: dict
  vision: dict
  texts: int  # tokens in one turn of text
  tensor: int  # parts of a matrix while sampling and in reinforcement
  gigabytes: float  # of a chip for one row of SFT a chip; see `place`
  update: float  # the same of reinforcement, for one row more
  billions: float  # of parameters


_SIGLIP2_BASE = dict(patch=16, width=768, layers=12, heads=12, ffn=3072)
_SIGLIP2_SO400M = dict(patch=16, width=1152, layers=27, heads=16, ffn=4304)
_QWEN3_0P6B = dict(
  d_model=1024, layers=28, heads=16, kv_heads=8, head_dim=128, ffn=3072,
  qk_norm=True, qkv_bias=False, tied_head=True,
)  # fmt: skip
_QWEN2P5_7B = dict(
  d_model=3584, layers=28, heads=28, kv_heads=4, head_dim=128, ffn=18944,
  qk_norm=False, qkv_bias=True, tied_head=False,
)  # fmt: skip

SIZES = {
  # Qwen3-0.6B and SigLIP2-base (patch 16, 256 pixels).
  "0p6b": Size(
    256, 151_936, 16, _QWEN3_0P6B, _SIGLIP2_BASE, 192, 1, 6.0, 0.7, 0.69
  ),
  # Qwen2.5-7B and SigLIP2-so400m (patch 16, 384 pixels).
  "7b": Size(
    384, 152_064, 24, _QWEN2P5_7B, _SIGLIP2_SO400M, 256, 4, 12.0, 1.1, 8.1
  ),
  # BAGEL's layout: Qwen2.5-7B with QK-norm, and a second set of weights for
  # the positions of codes.
  "7b_mot": Size(
    384, 152_064, 24,
    _QWEN2P5_7B | dict(qk_norm=True, mixture_of_transformers=True),
    _SIGLIP2_SO400M, 256, 4, 20.0, 1.1, 14.6,
  ),
}  # fmt: skip


def grow(config: ConfigDict, variant: str) -> None:
  """Makes the config that of a size, "7b", or of one on a slice, "7b@SLICE"."""
  name, _, slice_name = variant.partition("@")
  size = SIZES[name]
  config.precision = "bf16"  # what the released weights are kept in
  # What a text may say, locations apart, divides into 512 parts.
  words = size.text_rows + vocab.SPECIALS
  config.text_rows = -(-words // 512) * 512 - vocab.SPECIALS
  config.data.image_size = size.image
  config.model.update(
    **size.decoder,
    map_grid=size.grid,
    rope_theta=1_000_000.0,
    remat="full",  # memory, for a third more arithmetic
    smear=False,  # the released weights have none
  )
  config.model.vision.update(**size.vision, stem="linear")
  # Larger maps of real scenes ask for more than boxes and balls do.
  config.tokenizer.network.update(width=256, fine_width=128, blocks=4)
  # Bins hold a map, or a trace with two of them and its text.
  drawn = size.grid * (size.grid + 1)  # positions of one map
  config.pretrain.update(bin=_round(drawn + 32), texts=256)
  config.sft.update(
    bin=_round(2 * drawn + 2 * size.texts), bins=2, texts=512, maps=4
  )
  config.sampling.update(
    text=size.texts, prompt_buckets=(_round(size.grid**2 + 64),)
  )
  config.grpo.bins = 1
  # Rates for released weights, which larger ones would spoil.
  for stage, rate in (("pretrain", 1e-4), ("sft", 2e-5), ("grpo", 1e-6)):
    config[stage].optim.update(
      name="adamw", learning_rate=rate, schedule="cosine", warmup_steps=100
    )
  config.grpo.rl.advantage = "mean_only"  # as in the default run (base.py)
  place(config, size, slice_name)


def place(config: ConfigDict, size: Size, slice_name: str) -> None:
  """Mesh and batches on a slice; without one, of whatever devices there are.

  Parameters are sharded over the chips of a slice (fsdp), over as many as
  divide both widths; beyond that, and between slices, there are copies (data).
  Reinforcement shards matrices, too: its sampler needs whole layers. Batches
  are rows a chip, as many as its memory has room for; those of a step of GRPO
  are prompts, so many that each chip's sampler is filled (`_groups`).
  """
  devices, memory, slices = 8, 80.0, 1
  if slice_name:
    found = chips.find_slice(slice_name)
    devices, slices = found.devices, found.slices
    memory = found.chip.memory_gb * found.chip.per_device
  tensor = size.tensor if config.pipeline[-1] in ("grpo", "evaluate") else 1
  if devices % tensor:
    raise UserError(
      f"{devices} devices can't hold matrices in {tensor} shards; take a slice"
      f" of a multiple of {tensor}"
    )
  config.mesh.update(data=1, fsdp=-1, tensor=tensor)
  if slice_name:
    rest = devices // tensor
    widths = size.decoder["d_model"], size.vision["width"]
    config.mesh.fsdp = math.gcd(rest // slices, *widths)
    config.mesh.data = rest // config.mesh.fsdp
  rows = max(1, int(memory // (2 * size.gigabytes)))
  shards = devices // tensor
  for stage in ("tokenizer", "pretrain", "sft"):
    config[stage].batch = rows * shards
  config.grpo.batch = _groups(config, size, memory, shards) * shards
  config.grpo.rows = _rows(config, size, memory, shards) * shards
  config.evaluate.batch = max(256, shards)


def _groups(config: ConfigDict, size: Size, memory: float, shards: int) -> int:
  """Groups that the sampler of a chip has room for; memory: GB.

  Taken up already are parameters and AdamW's two averages in float32, sharded
  over fsdp and tensor, and what the sampler reads them as: matrices in
  bfloat16, tables in both.
  """
  sampling, tensor = config.sampling, config.mesh.tensor
  group, count = config.grpo.rl.group_size, 1e9 * size.billions
  parts = tensor * (config.mesh.fsdp if config.mesh.fsdp > 0 else shards)
  drawn = size.grid * (size.grid + 1)  # positions of one map
  row = capacity.row(
    config.model,
    own=(sampling.maps + 1) * sampling.text + sampling.maps * drawn,
    prompt=max(sampling.prompt_buckets),
    group=group,
    words=config.text_rows,
    tensor=tensor,
  )
  filled = capacity.FILLED * memory * capacity.GB
  return capacity.groups(
    room=filled - 12 * count / parts - 3 * count / tensor,
    row=row,
    weights=2 * count / tensor,
    group=group,
    shards=shards,
  )


def _rows(config: ConfigDict, size: Size, memory: float, shards: int) -> int:
  """Rows of a chip that one call of the update takes; memory: GB.

  No result depends on it. Each call gathers all parameters and sends their
  gradients, which takes the links as long whatever the rows: one row of 0p6b a
  chip of a v5e:4x4 takes 34 ms of arithmetic and 37 ms of links. So as many as
  memory has room for, up to 8, beside parameters, AdamW's averages and
  gradients in float32, and a gathered table.
  """
  parts = config.mesh.tensor
  parts *= config.mesh.fsdp if config.mesh.fsdp > 0 else shards
  room = capacity.FILLED * memory - 16 * size.billions / parts - 1.0
  return max(
    rows for rows in (1, 2, 4, 8) if rows == 1 or rows * size.update <= room
  )


def check(variant: str) -> None:
  """Raises UserError unless the variant names a size and, perhaps, a slice."""
  name, at, slice_name = variant.partition("@")
  if name not in SIZES:
    raise UserError(
      f'no size "{name}"; there are {", ".join(SIZES)}{nearest(name, SIZES)}'
    )
  if at:
    chips.find_slice(slice_name)


def _round(tokens: int) -> int:
  """To whole tiles of a TPU's lanes."""
  return -(-tokens // 128) * 128
