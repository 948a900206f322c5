"""Lists of colours: each colour is of one name."""

import pytest

from cooper_jax.data import colour_maps
from cooper_jax.errors import UserError


@pytest.mark.parametrize(
  ("line", "said"),
  [
    ("Bus 255 127 80", r"Bus has colour \(255, 127, 80\) as Car has"),
    ("Car 1 1 1", r"Car has two colours, \(255, 127, 80\) and \(1, 1, 1\)"),
    ("Bus 0 256 0", r"Bus has colour \(0, 256, 0\); its numbers are 0 to 255"),
    (f"Bus 1 2 {'3' * 5000}", "numbers are 0 to 255"),
  ],
)
def test_a_colour_that_is_none_or_of_two_names_is_refused(tmp_path, line, said):
  path = tmp_path / "colors.txt"
  path.write_text(f"Category r g b\nCar 255 127 80\n{line}\nSky 1 2 3\n")
  with pytest.raises(UserError, match=said):
    colour_maps.named(path)


def test_a_name_may_stand_twice_and_what_is_added_gives_way(tmp_path):
  path = tmp_path / "colors.txt"
  path.write_text("Car 255 127 80\nCar 255 127 80\nSky 1, 2, 3\n")
  more = (("Other", (1, 2, 3)), ("Undefined", (0, 0, 0)))
  assert colour_maps.named(path, more) == (
    ("Car", (255, 127, 80)),
    ("Sky", (1, 2, 3)),
    ("Undefined", (0, 0, 0)),
  )
