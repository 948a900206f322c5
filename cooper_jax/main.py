"""Flags -> config -> the stages to run.

python -m cooper_jax.main --config=configs/grpo.py --workdir=runs/demo
"""

import pathlib
import sys

from cooper_jax import command, errors, plugins
from cooper_jax.parallel import processes, watchdog
from cooper_jax.runtime import compilation, interrupt
from cooper_jax.settings import checks
from cooper_jax.training import lock, profile, provenance, telemetry, workdir


@watchdog.joined(lambda: telemetry.describe_machine()[0])
def run(asked: command.Command) -> None:
  """Runs what the workdir does not yet hold finished."""
  if asked.plan or asked.topology:
    from cooper_jax.plan import table

    return table.run(asked)
  config, folder = asked.config, workdir.check(asked.config, asked.workdir)
  lock.check(folder)
  seen = checks.check_data(asked) if processes.is_first() else []
  # Imported after the checks, so that a wrong word costs no ten seconds.
  import jax

  from cooper_jax.parallel.mesh import MeshConfig, make_mesh

  mesh = make_mesh(MeshConfig(**config.mesh))
  with jax.set_mesh(mesh):
    checks.check_ahead(config, folder, mesh)
  with lock.held(folder), jax.set_mesh(mesh), profile.steps(asked.profile):
    _run_stages(asked, workdir.prepare(config, folder), mesh, seen)


def _run_stages(asked, folder: pathlib.Path, mesh, seen) -> None:
  from cooper_jax import lora_export, package
  from cooper_jax.parallel.mesh import describe, own_mesh

  config, own = asked.config, own_mesh(mesh)
  cache = compilation.use_cache(asked.compile_cache, folder / "compiled")
  print("\n".join(telemetry.describe_machine()))
  print(f"mesh {describe(mesh)}, compiled code in {cache}")
  processes.check_same("config and code", lambda: provenance.identity(config))
  processes.in_turn("package", lambda: package.install(config, folder, own))
  lines, todo = processes.agree("plan", workdir.plan(config, folder))
  print("\n".join([f"workdir {folder}", *lines, *seen]), flush=True)
  for stage in todo:
    watch = telemetry.Stopwatch()
    workdir.begin(config, folder, stage)
    with compilation.effort(quick=config.quick_compile):
      plugins.find("stages", stage).run(config, folder)
    seconds = watch.read()[0]
    workdir.finish(config, folder, stage, seconds=seconds)
    workdir.add_summary(folder, {f"time/{stage}_s": round(seconds, 1)})
    print(
      f"{stage:9s} done in {telemetry.duration(seconds)}, "
      f"peak memory {telemetry.peak_memory() / 2**30:.2f} GiB",
      flush=True,
    )
  print("\n".join([*lora_export.export(config, folder), f"all done: {folder}"]))


def main(argv: list[str] | None = None) -> int:
  """Gives the exit code; prints one line where something is wrong."""
  errors.printable()
  try:
    with interrupt.terminable():
      asked = command.parse(sys.argv[1:] if argv is None else argv)
      if asked is not None:
        run(asked)
  except (Exception, errors.Preempted) as error:
    return errors.tell(error)
  return errors.EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
