"""Exports of LoRA: of the half of a folder that a role takes, and whole."""

import pytest

from cooper_jax import lora_export
from cooper_jax.errors import UserError
from cooper_jax.models import lora
from cooper_jax.training import start_folders
from cooper_jax.weights import exporting, importing, starting
from tests.weights import starts


def test_a_half_of_a_folder_is_exported_whole_or_not_at_all(
  tmp_path, monkeypatch
):
  starts.write_seeing(tmp_path / "hub")
  changes = {"init.text": str(tmp_path / "hub"), "lora.rank": 2}
  changes |= {"lora.export": "merged"}
  config = starts.make(tmp_path, changes)
  leaves = importing.read(starting.plan("text", tmp_path / "hub"))
  params = lora.unflatten(
    {path.removeprefix("params/"): leaf + 1 for path, leaf in leaves.items()}
  )
  (tmp_path / "run/sft").mkdir(parents=True)
  monkeypatch.setattr(lora_export, "_finished", lambda folder: "sft")
  monkeypatch.setattr(lora_export, "make_policy", lambda config: None)
  monkeypatch.setattr(lora_export.trained, "load_stage", lambda *given: params)

  def fail(*given):
    raise UserError("the disk is full")

  with monkeypatch.context() as patch:
    patch.setattr(exporting, "export", fail)
    with pytest.raises(UserError, match="disk is full"):
      lora_export.export(config, tmp_path / "run")
  assert list((tmp_path / "run/sft").iterdir()) == []
  said = lora_export.export(config, tmp_path / "run")
  (made,) = (tmp_path / "run/sft").iterdir()
  assert said == [f"sft       merged weights in {made / 'text'}"]
  found = importing.read(starting.plan("text", made / "text"))
  for path, leaf in leaves.items():
    assert (found[path] == leaf + 1).all()
  assert lora_export.export(config, tmp_path / "run") == []


@pytest.mark.parametrize("role", ["text", "vision", "from"])
def test_what_a_folder_has_is_not_among_our_own(tmp_path, role):
  starts.write_seeing(tmp_path / "hub")
  planned = starting.plan(role, tmp_path / "hub")
  own = [
    path
    for path in planned.keys
    if not lora.fits(path.removeprefix("params/"), start_folders.IMPORTED[role])
  ]
  assert own == []
