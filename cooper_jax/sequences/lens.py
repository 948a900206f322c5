"""The lens in a prompt: the focal length, as a number that traces know.

A size is `extent * depth / focal length`, and an image hardly shows the last.
It is told in widths of the image, with the numbers that lengths are written
in: each is one token, some 10 % from the next, so that a policy multiplies by
it as it does by a depth. Degrees would need new tokens above 30, and a tangent.
What the rounding costs is in docs/world.md.
"""

import re

import numpy as np

from cooper_jax.tokenizers.lengths import metres

_SQUARE = 1.05  # ratio of the focal lengths along both sides that is none
_LEAST, _MOST = 0.1, 30.0  # image widths that are told as one token
LENS = re.compile(r"camera ([\d.]+)(?: ([\d.]+))? :")
LONGEST_LENS = "camera 0.10 0.11 :"


def told(camera, side: int) -> str:
  """What a prompt about a sample begins with; "" where the camera is None.

  A picture that is no square, stretched to one or not, has a second number,
  that of its height, in heights. Where the camera's axis meets the image is not
  told; less than 0.1 and more than 30 widths (views of 157 and 2 degrees) are
  told as these.

  camera: the K f32 [3, 3] of the square that a sample's maps are.
  side: pixels a side of this square (`config.data.image_size`).

  In: a focal length of 58 of 64 pixels   Out: "camera 0.91 :"
  """
  if camera is None:
    return ""
  across, down = (float(camera[i, i]) / side for i in (0, 1))
  same = 1 / _SQUARE < across / down < _SQUARE
  numbers = np.clip([across] if same else [across, down], _LEAST, _MOST)
  return f"camera {' '.join(map(metres, numbers))} :"
