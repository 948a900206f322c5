"""Results of LoRA in the form of the folders that a run began with.

`config.lora.export` says which: "adapter" is A and B as PEFT has them, "merged"
the folder's model with A B added, in float32 and rounded once to the folder's
dtype. They lie in the stage's folder, as `adapter-<step>/<role>`.
"""

from pathlib import Path

import numpy as np

from cooper_jax import trained
from cooper_jax.errors import UserError
from cooper_jax.models import lora
from cooper_jax.parallel import processes, shard
from cooper_jax.policy import make_policy
from cooper_jax.training import lora_record, start_folders, workdir
from cooper_jax.training.checkpoint import Checkpoints
from cooper_jax.weights import adapter, exporting, starting, writing

LAST_FIRST = ("grpo", "sft", "pretrain")


def export(config, run_folder) -> list[str]:
  """Writes what `config.lora.export` asks for of a run; gives what is said.

  Of the last stage, if LoRA trained it to its end. What is there already stays.
  All processes have to call it under the mesh of the run; the first one writes.
  """
  form, run_folder = config.lora.export, Path(run_folder)
  stage = None if form == "none" else _finished(run_folder)
  if stage is None:
    return []
  step = Checkpoints(run_folder / stage / "checkpoints").latest()
  target = run_folder / stage / f"{form}-{step}"
  if processes.agree("export", target.exists()):
    return []
  plans = {
    role: starting.plan(role, path)
    for role, path in start_folders.folders(config).items()
  }
  policy = make_policy(config)
  write = _adapters if form == "adapter" else _merged
  return write(policy, config, run_folder, stage, plans, target)


def _finished(run_folder: Path) -> str | None:
  """The last stage that is done, None where LoRA did not train it."""
  for stage in LAST_FIRST:
    if (workdir.record(run_folder, stage) or {}).get("finished"):
      return stage if lora_record.read(run_folder / stage) else None
  return None


def _merged(policy, config, run_folder, stage, plans, target) -> list[str]:
  params = shard.whole(trained.load_stage(policy, config, run_folder, stage))
  flat, said = lora.flatten(params), []
  if not processes.is_first():
    return said
  with writing.new_folder(target, size=0) as made:
    for role, planned in plans.items():
      leaves = {
        path: np.asarray(flat[path.removeprefix("params/")])
        for path in planned.keys
      }
      exporting.export(planned, leaves, made / role)
      said.append(f"{stage:9s} merged weights in {target / role}")
  held = {path for planned in plans.values() for path in planned.keys}
  own = [name for name in flat if f"params/{name}" not in held]
  return [*said, *_not_in(own, "the folder's model has it not")]


def _adapters(policy, config, run_folder, stage, plans, target) -> list[str]:
  updates, whole, rows, scale = _chain(policy, config, run_folder, stage)
  if not processes.is_first():
    return []
  roles = {
    role: {path: u for path, u in updates.items() if f"{path}/kernel" in p.keys}
    for role, p in plans.items()
  }
  if not any(roles.values()):
    raise UserError(
      "no folder has a layer that has A and B, so there is nothing for PEFT;"
      f" config.lora.match is {config.lora.match}; change it, or set"
      " config.lora.export=none"
    )
  held, said = set(), []
  with writing.new_folder(target, size=0) as made:
    for role, own in roles.items():
      planned = plans[role]
      if not own:
        continue
      full = {path: x for path, x in whole.items() if path in planned.keys}
      left = adapter.write(
        planned, made / role, updates=own, whole=full, scale=scale
      )
      said += [f"{stage:9s} PEFT's adapter in {target / role}"]
      said += [f"{'':9s} not in it: {line}" for line in left]
      held |= {*own, *full}
  others = [p for p in (*updates, *whole) if p not in held]
  said += _not_in(others, "the folder's model has it not")
  return said + _not_in(rows, "the last rows are ours, behind the folder's")


def _not_in(names, why: str) -> list[str]:
  return [
    f"{'':9s} not in it: {name.removeprefix('params/')}, {why}"
    for name in names
  ]


def _chain(policy, config, run_folder, stage: str):
  """(updates, what is trained in full, tables with own rows, their scale).

  Stages of LoRA one after the other, each beside what the one before merged to,
  are one update of all their ranks. By path in our tree.
  """
  where, averaged = trained.result_of(config, run_folder, stage)
  parts, whole, rows = [], {}, {}
  while True:
    record = lora_record.read(where)
    if record is None:
      raise UserError(
        f"{where.name} trained all parameters, which no adapter of the folder"
        " holds; set config.lora.export=merged"
      )
    made = trained.adaptation_in(record)
    found = shard.whole(
      trained.restored(policy, where, made, averaged=averaged)
    )
    flat = {n: np.asarray(x) for n, x in lora.flatten(found).items()}
    parts.insert(0, (made, flat))
    full = {f"params/{name}": flat[name] for name in made.full}
    whole, rows = full | whole, dict.fromkeys(made.own_rows) | rows
    if "stage" not in record.base:
      break
    where = record.workdir / record.base["stage"]
    averaged = record.base["averaged"]
  scale, updates = parts[-1][0].scale, {}
  for name in dict.fromkeys(n for made, _ in parts for n in made.layers):
    of = [(made, flat) for made, flat in parts if name in made.layers]
    updates[f"params/{name}"] = adapter.LayerUpdate(
      np.concatenate([flat[f"{name}/{lora.A}"] for _, flat in of], axis=-1),
      np.concatenate(
        [
          flat[f"{name}/{lora.B}"] * np.float32(made.scale / scale)
          for made, flat in of
        ],
        axis=-2,
      ),
    )
  return updates, whole, rows, scale
