"""The letters that array names, einsum strings and docstrings share."""

from cooper_jax.errors import UserError

LETTERS = {
  "B": "batch",
  "L": "sequence length",
  "D": "model width",
  "N": "attention heads",
  "K": "key-value heads",
  "H": "size of a head; image rows where the array is an image",
  "W": "image columns",
  "V": "vocabulary",
  "C": "codes; channels where the array is an image",
  "O": "output channels of a map decoder",
  "F": "hidden width of a feed-forward layer",
  "R": "rollouts",
  "P": "prompts",
  "G": "rollouts of one prompt (group)",
  "S": "cache slots",
  "T": "generated slots",
  "M": "maps in a rollout",
}


def check(name: str, array, letters: str, **sizes: int) -> dict[str, int]:
  """Binds letters to sizes, or raises UserError naming the misfit.

  In: check("image", image, "B H W 3", H=64)   Out: {"B": 8, "H": 64, "W": 64}
  """
  wanted = letters.split()
  bound = dict(sizes)
  fits = len(wanted) == array.ndim
  for letter, size in zip(wanted, array.shape if fits else ()):
    expected = int(letter) if letter.isdigit() else bound.get(letter, size)
    fits = fits and expected == size
    if not letter.isdigit():
      bound.setdefault(letter, size)
  if not fits:
    given = "".join(f", {letter}={size}" for letter, size in sizes.items())
    raise UserError(
      f"{name} has shape {tuple(array.shape)}, expected [{letters}]{given}"
    )
  return bound
