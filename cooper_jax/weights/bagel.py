"""BAGEL, and COOPER, which is trained from it: decoder, tower and connector.

The decoder is Qwen2's with norms of queries and keys, and a second set of
weights for the positions that draw; in ours it reads and draws maps, and is
imported. What drew pictures by diffusion (VAE, times, latents) is not.

A folder has two configs, `llm_config.json` and `vit_config.json`, which
`folder.open_folder` puts together.
"""

import math

from cooper_jax.errors import UserError
from cooper_jax.weights import decoder, fields, folder, qwen, siglip

MODEL_TYPES = ("bagel",)
HEAD, TIED = "language_model.lm_head.weight", "tie_word_embeddings"
LAYOUTS = (("language_model.model.", HEAD),)
TOWER = "vit_model.vision_model."
POSITIONS = f"{TOWER}embeddings.position_embedding.weight"
TABLE = "vit_pos_embed.pos_embed"
DIFFUSION = "it draws by diffusion, and here maps are drawn as codes"
# What BAGEL's own code sets, whatever its config says.
SET = {"qk_norm": True, "layer_module": "Qwen2MoTDecoderLayer"}


def config(said: dict, where: str) -> dict:
  """Fields of `ModelConfig` from both configs; UserError names what can't be.

  where: how errors name the file.
  """
  top = fields.ConfigFields(said, where)
  parts = {}
  for name, model_type in (
    ("llm_config", "qwen2"),
    ("vit_config", siglip.TOWERS[0]),
  ):
    part = top.get(name)
    if not isinstance(part, dict):
      top.refuse(name, part, "allowed: an object")
    part = {"model_type": model_type} | part
    parts[name] = fields.ConfigFields(part, _file(where, name))
    parts[name].only("model_type", model_type, "that is another model")
  top.finish()
  read = parts["llm_config"]
  llm = read.config
  for name, value in SET.items():
    read.only(name, value, "that is another model")
    llm.pop(name, None)
  llm[TIED] = False  # set by BAGEL's own code, too; see `settle`
  found = qwen.config(llm, read.where)
  found |= {"qk_norm": True, "mixture_of_transformers": True}
  read = parts["vit_config"]
  read.only("rope", False, "turns in the tower are not supported")
  vision = siglip.tower(read)
  read.finish()
  return found | {
    "one_position": True,
    "vision": vision | {"cell_table": True},
  }


def _file(where: str, name: str) -> str:
  """How errors name one of the two configs: by its file, where it has one."""
  if not where.endswith(folder.TWO_CONFIGS):
    return f"{where}: {name}"
  return f"{where.removesuffix(folder.TWO_CONFIGS)}{name}.json"


def settle(sizes: dict, source: folder.WeightsFolder, where: str) -> list[str]:
  """Completes sizes by what the tensors alone tell; gives notes.

  The config is of the tower that BAGEL began with: its last layer was dropped,
  and pictures are of any size up to the side of the tables. The head is never
  the embedding: where the config says so, they must be alike. UserError where
  they are not, or where there is no head.
  """
  vision, notes, tensors = sizes["vision"], [], source.tensors
  file, table = (
    _file(where, "llm_config"),
    f"{LAYOUTS[0][0]}embed_tokens.weight",
  )
  if HEAD not in tensors:
    raise UserError(
      f"{source.path} has no {HEAD}, which BAGEL's own code reads, whatever"
      f" {TIED} says; get the folder whole, or write {table} there under that"
      " name, too"
    )
  if source.config["llm_config"].get(TIED):
    if table in tensors and not source.same(HEAD, table):
      raise UserError(
        f"{source.path}: {HEAD} is not {table}, and {file} says that they are"
        f' one; write "{TIED}": false there, as BAGEL\'s own code does'
      )
    notes.append(
      f"{file} says that the head is the embedding; {HEAD} is the same, and is"
      " read as a head of its own, as BAGEL's code reads it"
    )
  last = f"{TOWER}encoder.layers.{vision['layers'] - 1}."
  if vision["layers"] > 1 and not any(key.startswith(last) for key in tensors):
    vision["layers"] -= 1
    notes.append(
      f"the tower has {vision['layers']} layers, its config says one more,"
      " which BAGEL drops"
    )
  if POSITIONS in tensors:
    shape = tensors[POSITIONS].shape
    rows = shape[0] if shape else 0
    side = math.isqrt(rows)
    if side**2 != rows or not rows:
      raise UserError(
        f"{source.path}: {POSITIONS} has shape {list(shape)}; its rows should"
        " be a square's cells"
      )
    if side * vision["patch"] != vision["image_size"]:
      notes.append(
        f"the tower's table has {side} x {side} cells, its config says"
        f" {vision['image_size'] // vision['patch']} a side: the table counts"
      )
    vision["image_size"] = side * vision["patch"]
  return notes


def names(sizes: dict) -> dict[str, decoder.TensorName]:
  """Path in our tree -> where it is in a folder.

  sizes: as `config` and `settle` give them.
  """
  found = decoder.names(sizes)
  drawing = {
    path.replace("/main/", "/code/"): _drawing(name)
    for path, name in found.items()
    if "/main/" in path
  }
  found |= drawing
  found |= siglip.names(sizes, prefix=TOWER, table=decoder.CORNER)
  d_model, width = sizes["d_model"], sizes["vision"]["width"]
  for i, into in ((1, width), (2, d_model)):
    key, own = f"connector.fc{i}", f"params/vision/connector{i}"
    found[f"{own}/kernel"] = decoder.TensorName(
      f"{key}.weight", decoder.TRANSPOSED, (d_model, into)
    )
    found[f"{own}/bias"] = decoder.TensorName(
      f"{key}.bias", decoder.AS_IT_IS, (d_model,)
    )
  cells = found["params/vision/position"].shape[0]
  found["params/vision/cell_table"] = decoder.TensorName(
    TABLE, decoder.CORNER, (cells, d_model)
  )
  return found


def _drawing(name: decoder.TensorName) -> decoder.TensorName:
  """The same tensor of the weights that draw.

  In: "mlp.up_proj.weight"           Out: "mlp_moe_gen.up_proj.weight"
  In: "self_attn.q_proj.weight"      Out: "self_attn.q_proj_moe_gen.weight"
  """
  pattern, mlp = name.pattern, ".mlp."
  if mlp in pattern:
    pattern = pattern.replace(mlp, ".mlp_moe_gen.")
  else:
    stem, _, last = pattern.rpartition(".")
    pattern = f"{stem}_moe_gen.{last}"
  return decoder.TensorName(pattern, name.transform, name.shape, name.layers)


def skipped(said: dict) -> tuple[decoder.Skipped, ...]:
  """What a folder may hold and is not imported."""
  del said
  return (
    decoder.FREQUENCIES,
    *(
      decoder.Skipped(pattern, f"{what}: {DIFFUSION}", True)
      for pattern, what in (
        ("latent_pos_embed.*", "positions of latents"),
        ("time_embedder.*", "times"),
        ("vae2llm.*", "latents in"),
        ("llm2vae.*", "latents out"),
        ("vae_model.*", "VAE"),
      )
    ),
    *(
      decoder.Skipped(f"{TOWER}{pattern}", why, True)
      for pattern, why in (
        ("head.*", "pooling head: our decoder reads every cell"),
        ("embeddings.position_ids", "0, 1, 2, and so on"),
      )
    ),
  )
