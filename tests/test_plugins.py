"""A plug-in is a file; a wrong name is answered with what exists."""

import pytest

from cooper_jax import modalities, plugins
from cooper_jax.errors import UserError


def test_every_file_of_the_folder_is_a_plugin():
  assert {"depth", "segmentation"} <= set(plugins.names("modalities"))


def test_find_imports_the_file_of_that_name():
  assert plugins.find("modalities", "depth").__name__.endswith(
    "modalities.depth"
  )


def test_unknown_name_lists_what_exists_and_the_nearest_spelling():
  with pytest.raises(UserError) as caught:
    plugins.find("modalities", "deph")
  message = str(caught.value)
  assert 'no modality "deph"' in message
  assert "segmentation" in message
  assert 'did you mean "depth"?' in message
  assert "\n" not in message


def test_unknown_kind_is_named():
  with pytest.raises(UserError, match='did you mean "rewards"'):
    plugins.names("reward")


def test_a_new_file_is_found_without_any_other_edit(tmp_path, monkeypatch):
  parts = (f"{part} = ''" for part in modalities.REQUIRED[1:])
  lines = "\n".join(["MODALITY_ID = 9", *parts])
  (tmp_path / "thermal.py").write_text(lines)
  package = plugins._package("modalities")
  monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
  assert "thermal" in plugins.names("modalities")
  assert plugins.find("modalities", "thermal").MODALITY_ID == 9
  assert modalities.names() == ("depth", "segmentation", "thermal")
  # Its reward has no file.
  assert "thermal" in plugins.names("rewards")
  reward = plugins.find("rewards", "thermal")
  assert reward.Config().modality == "thermal"
  (tmp_path / "sonar.py").write_text("MODALITY_ID = 8\n")
  with pytest.raises(UserError, match="modality sonar has no TITLE, CALL"):
    plugins.find("modalities", "sonar")


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_kind_has_a_folder_with_files_in_it(kind):
  names = plugins.names(kind)
  assert names
  for name in names:
    assert plugins.find(kind, name).__doc__
  with pytest.raises(UserError, match=f'no {plugins.SINGULAR[kind]} "no_such"'):
    plugins.find(kind, "no_such")


def test_the_loop_is_no_stage():
  assert "supervised" not in plugins.names("stages")
