"""Import of released weights: tensors of a folder -> leaves of ours.

Import and export follow the one table of names that the family gives, and so
does the check that nothing is left over on either side.
"""

import dataclasses
import fnmatch

import einops
import numpy as np

from cooper_jax.errors import UserError, nearest
from cooper_jax.weights import decoder, families, folder, headers, text_model
from cooper_jax.weights.origins import Origin

SHOWN = 3  # keys in one error
TOWER = "params/vision/"  # where our tree has it


@dataclasses.dataclass(frozen=True)
class ImportPlan:
  """What of a folder goes where; no tensor is read yet."""

  source: folder.WeightsFolder
  sizes: dict  # fields of `ModelConfig`
  names: dict[str, decoder.TensorName]  # by path in our tree
  keys: dict[str, tuple[str, ...]]  # by path, one a layer where it has layers
  carried: tuple[str, ...]  # keys that are written as they are
  notes: tuple[str, ...]  # what was skipped, a line each

  def origins(self) -> list[Origin]:
    """What each imported leaf is from."""
    return [
      Origin(
        path,
        self._pattern(path),
        "",
        self.shape(path),
        "+".join(sorted({self.source.tensors[k].dtype for k in keys})),
      )
      for path, keys in self.keys.items()
    ]

  def _pattern(self, path: str) -> str:
    keys, name = self.keys[path], self.names[path]
    if name.is_stacked:
      rest = name.pattern.partition("{layer}")[2]
      first = keys[0].removesuffix(f"0{rest}")
      said = f"{first}{{0..{len(keys) - 1}}}{rest}"
    else:
      said = keys[0]
    which, parts = name.part
    return f"{said} ({which + 1} of {parts})" if parts > 1 else said

  def shape(self, path: str) -> tuple[int, ...]:
    """Of a leaf, layers in front, without rows of our own."""
    return self.names[path].leaf


def plan(source: folder.WeightsFolder, only: str = "") -> ImportPlan:
  """Matches every tensor of a folder with a leaf, or with a reason not to.

  only: "text" or "vision", of a family that is DIVISIBLE the half that is
  taken; the other is skipped. Raises UserError where the config has what is not
  supported, where a key is missing or unknown, a shape is not what the config
  says, or the head is not.
  """
  where = f"{source.path / folder.config_name(source.path)}"
  family = families.find(source.config, where)
  sizes = family.config(source.config, where)
  prefix, head = _layout(source, family)
  tensors, notes = source.tensors, []
  if hasattr(family, "settle"):
    notes += family.settle(sizes, source, where)
  if sizes.get("tied_head", False) is None:
    sizes["tied_head"] = head not in tensors
    is_own = "is there" if head in tensors else "is not there: the embedding is"
    notes.append(
      f"{where} does not say, or not with one voice, whether the head is the"
      f" embedding; {head} {is_own}"
    )
  _check_sizes(sizes, where)
  names = family.names(sizes)
  called = {"prefix": prefix, "head": head, "tower": _tower(source, family)}
  keys = {
    path: tuple(
      name.pattern.format(**called, layer=layer)
      for layer in range(name.layers or 1)
    )
    for path, name in names.items()
  }
  wanted = {key: names[path] for path, each in keys.items() for key in each}
  carried, rest = [], set(tensors) - set(wanted)
  if sizes.get("tied_head") and head in tensors:
    rest.discard(head)
    notes.append(_same_head(source, wanted, head, where))
  for skip in family.skipped(source.config):
    found = sorted(fnmatch.filter(rest, skip.pattern))
    rest -= set(found)
    carried += found if skip.carried else []
    if found:
      notes.append(
        f"{len(found)} tensors {skip.pattern} are skipped: {skip.why}"
      )
  missing = sorted(wanted.keys() - tensors.keys())
  if head in missing:
    raise UserError(
      f"{source.path} has no {head}, and {where} says that the head is not the"
      " embedding: get the folder whole, or, if it is, write"
      ' "tie_word_embeddings": true there'
    )
  if missing:
    raise UserError(
      f"{source.path} lacks {_some(missing)}, which {where} asks for; get the"
      " folder whole"
    )
  if rest:
    raise UserError(
      f"{source.path} has {_some(sorted(rest))}, which the family"
      f" {source.config['model_type']} does not know"
      f"{nearest(min(rest), wanted)}; they would be lost, so the folder is"
      " refused"
    )
  for key, name in wanted.items():
    _check(source, key, name, where)
  if only and getattr(family, "DIVISIBLE", False) and "vision" in sizes:
    left = {
      path for path in names if path.startswith(TOWER) != (only == "vision")
    }
    carried += sorted({key for path in left for key in keys[path]})
    notes.append(f"{len(left)} arrays are left out, for only {only} is taken")
    names, keys = (
      {path: each[path] for path in each if path not in left}
      for each in (names, keys)
    )
    vision = {"vision": sizes.pop("vision")}
    sizes = vision if only == "vision" else sizes
  return ImportPlan(source, sizes, names, keys, tuple(carried), tuple(notes))


def _check_sizes(sizes: dict, where: str) -> None:
  try:
    text_model.check(sizes)
  except UserError as error:
    raise UserError(f"{where}: {error}") from error


def _layout(source: folder.WeightsFolder, family) -> tuple[str, str]:
  """(prefix of the keys, key of the head), as the folder has them."""
  first = getattr(family, "FIRST", "embed_tokens.weight")
  for prefix, head in family.LAYOUTS:
    if f"{prefix}{first}" in source.tensors:
      return prefix, head
  looked = [f"{prefix}{first}" for prefix, _ in family.LAYOUTS]
  raise UserError(
    f"{source.path} has no embedding; looked for {', '.join(looked)}"
  )


def _tower(source: folder.WeightsFolder, family) -> str:
  """Prefix of the keys of a tower, where its family knows it by one key."""
  first = getattr(family, "FIRST_OF_TOWER", None)
  found = [key for key in source.tensors if first and key.endswith(first)]
  return min(found).removesuffix(first) if found else ""


def _some(keys: list[str]) -> str:
  more = len(keys) - SHOWN
  said = ", ".join(keys[:SHOWN])
  return f"{said} and {more} more" if more > 0 else said


def _same_head(source, wanted, head: str, where: str) -> str:
  """Says that a head that is tied is there as well; UserError if it differs."""
  table = next(key for key in wanted if key.endswith("embed_tokens.weight"))
  if not source.same(head, table):
    raise UserError(
      f"{source.path}: {head} is not {table}, and {where} says that they are"
      ' one; write "tie_word_embeddings": false there, or remove the tensor'
    )
  return f"{head} is left out: it is {table}, as the config says"


def _check(source, key: str, name: decoder.TensorName, where: str) -> None:
  entry = source.tensors[key]
  if entry.dtype not in headers.DTYPES:
    quantised = entry.dtype.startswith(("F8", "I", "U"))
    raise UserError(
      f"{source.path}: {key} is of dtype {entry.dtype}"
      f"{' (quantised?)' if quantised else ''}; allowed:"
      f" {', '.join(headers.DTYPES)}"
    )
  if entry.shape not in name.shapes:
    raise UserError(
      f"{source.path}: {key} has shape {list(entry.shape)}, by {where} it is"
      f" {list(name.shape)}; one of them is of another model"
    )


def read(planned: ImportPlan) -> dict[str, np.ndarray]:
  """The leaves by path, in the folder's dtype; layers are stacked in front.

  Where the layers of one leaf differ in dtype, it is float32, which holds them
  all exactly. Raises UserError where a value is not finite.
  """
  found = {}
  for path, keys in planned.keys.items():
    parts = [read_part(planned, path, layer) for layer in range(len(keys))]
    if len({part.dtype for part in parts}) > 1:
      parts = [part.astype(np.float32) for part in parts]
    is_stacked = planned.names[path].is_stacked
    found[path] = np.stack(parts) if is_stacked else parts[0]
  return found


def read_part(planned: ImportPlan, path: str, layer: int = 0, index=...):
  """Of a leaf a layer, or a slice of it, in the tensor's dtype.

  index: slices of the layer as it is here. Of the file no more is read than
  they need. Raises UserError where a value is not finite.
  """
  name, key = planned.names[path], planned.keys[path][layer]
  whole = planned.source.mapped(key)
  if name.transform == decoder.PATCHES:
    whole = _patches(whole)
  which, count = name.part
  if count > 1:
    rows = len(whole) // count
    whole = whole[which * rows : (which + 1) * rows]
  if name.transform in (decoder.TRANSPOSED, decoder.PATCHES):
    whole = whole.T
  if name.transform == decoder.KERNEL:
    whole = np.moveaxis(whole, (1, 0), (-2, -1))
  part = np.array(whole[index])
  planned.source.check_finite(key, part)
  return part


def _patches(kernel: np.ndarray) -> np.ndarray:
  """A convolution's kernel as a product's [out, in]; such a one as it is."""
  if kernel.ndim == 5:
    return einops.rearrange(kernel, "d c t p q -> d (t p q c)")
  if kernel.ndim == 4:
    return einops.rearrange(kernel, "d c p q -> d (p q c)")
  return kernel
