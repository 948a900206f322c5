"""Starts training on Cloud TPUs, watches it, and cleans up after it.

python -m launch.tpu VERB NAME --accelerator=v6e-16 --zone=us-east5-b \\
  [-- arguments of cooper_jax.main]
"""

import argparse
import contextlib
import dataclasses
import signal
import sys
from collections.abc import Sequence

from cooper_jax.errors import EXIT_DONE, UserError
from launch import catalog, flags, hosts
from launch.babysit import Babysitter, Counters
from launch.backends import BACKENDS, connect
from launch.pod import Pod
from launch.request import Request, State
from launch.shell import CommandFailed, Shell

EXIT_INTERRUPTED = 130
SHIPPING = ("plan", "create", "setup", "babysit")  # verbs that name a commit
STUBBORN = 180  # how often an unreachable cloud is asked again: an hour
GCLOUD = (
  "install the Google Cloud CLI (https://cloud.google.com/sdk/docs/install)"
  " and run `gcloud init`"
)


def describe(request: Request, api: str) -> list[str]:
  """What would be made, in words."""
  kind, slices = request.accelerator, request.slices
  several = f"{slices} slices of " if slices > 1 else ""
  return [
    f"{request.name}: {several}{kind.name} in {request.zone}, by {api},"
    f" {request.capacity}",
    f"  chips: {slices * kind.chips}, hosts: {request.hosts}, JAX devices:"
    f" {slices * kind.devices}, topology: {request.topology}",
    f"  {slices * kind.chips} chip-hours an hour; what one costs, for this"
    " capacity and region, is on your own price sheet",
    f"  code: commit {request.commit[:12]}",
  ]


def _plan(pod: Pod, asked: argparse.Namespace) -> int:
  print("\n".join(describe(pod.request, pod.api)))
  print("commands:")
  if not asked.adopt:
    pod.check_free()
    pod.create()
  pod.wait(asked.wait_hours * 3600)
  pod.setup()
  pod.start()
  if asked.verb == "babysit" and not asked.keep:
    pod.delete()
  return EXIT_DONE


def _create(pod: Pod, asked: argparse.Namespace) -> int:
  pod.check_free()
  with pod.released(keep=asked.keep):
    pod.create()
    found = pod.wait(asked.wait_hours * 3600)
    if found.state is not State.ACTIVE and not asked.dry_run:
      why = f": {found.detail}" if found.detail else ""
      raise UserError(f"{asked.name} is {found.words}{why}")
  return EXIT_DONE


def _status(pod: Pod, asked: argparse.Namespace) -> int:
  found = pod.status()
  print(f"{asked.name}: {found.words}", *filter(None, [found.detail]))
  if found.state is State.ACTIVE or asked.dry_run:
    for each in pod.reports():
      code = "" if each.code is None else f", exit code {each.code}"
      print(f"  {each.host}: {each.state}{code} {each.progress}".rstrip())
  return EXIT_DONE


def _babysit(pod: Pod, asked: argparse.Namespace) -> int:
  if asked.dry_run:
    return _plan(pod, asked)
  if asked.adopt:
    pod.adopt()
  else:
    pod.check_free()
  budgets = Counters(
    preemptions=asked.max_preemptions,
    failures=asked.max_failures,
    stalls=asked.max_stalls,
  )
  sitter = Babysitter(
    pod,
    budgets=budgets,
    wait_s=asked.wait_hours * 3600,
    quiet_s=asked.quiet_hours * 3600,
  )
  with pod.released(keep=asked.keep, always=True):
    try:
      return sitter.watch()
    except KeyboardInterrupt:
      if not asked.keep:
        with contextlib.suppress(UserError):
          pod.stop()  # so that it saves; a second Ctrl-C leaves that out
      raise


def _clean(backends: Sequence, asked: argparse.Namespace) -> int:
  wrong = []  # what can't be listed or deleted keeps nothing else from it

  def clean(backend):
    for name, accelerator in backend.owned():
      kind = catalog.find(accelerator)
      print(f"{name} ({kind.name}, {asked.zone})")
      if not asked.yes and not _agrees(f"delete {name}? [y/N] "):
        continue
      request = dataclasses.replace(
        backend.request, name=name, accelerator=kind
      )
      try:
        Pod(type(backend)(request, backend.shell)).delete()
      except CommandFailed as error:
        wrong.append(str(error))

  for backend in backends:
    try:
      clean(backend)
    except CommandFailed as error:
      wrong.append(str(error))
  if wrong:
    raise UserError("; ".join(wrong))
  return EXIT_DONE


def _agrees(question: str) -> bool:
  try:
    return input(question).strip().lower() in ("y", "yes")
  except EOFError:
    return False


def _run(pod: Pod, asked: argparse.Namespace) -> int:
  pod.start()
  if not asked.dry_run:
    print(f"{asked.name} runs on {pod.request.hosts} hosts")
  return EXIT_DONE


def _logs(pod: Pod, asked: argparse.Namespace) -> int:
  return pod.logs(worker=asked.worker, lines=asked.lines, follow=asked.follow)


def _simple(act):
  """A verb that is one method of the pod and says nothing."""

  def do(pod: Pod, asked: argparse.Namespace) -> int:
    del asked
    act(pod)
    return EXIT_DONE

  return do


DO = {
  "plan": _plan,
  "create": _create,
  "setup": _simple(Pod.setup),
  "run": _run,
  "logs": _logs,
  "status": _status,
  "stop": _simple(Pod.stop),
  "delete": _simple(Pod.delete),
  "babysit": _babysit,
}


def _request(asked: argparse.Namespace, shell: Shell) -> Request:
  """What the flags ask for; clean asks for nothing of its own."""
  commit = "unknown"
  if asked.verb in SHIPPING:
    commit = hosts.current_commit(shell)
    if changed := hosts.uncommitted(shell):
      print(
        f"note: {changed} files differ from commit {commit[:12]}; what is"
        " shipped is the commit",
        file=sys.stderr,
      )
  fields = {field.name for field in dataclasses.fields(Request)}
  given = {name: value for name, value in vars(asked).items() if name in fields}
  kind = catalog.find("v6e-1" if asked.verb == "clean" else asked.accelerator)
  return Request(**given | {"accelerator": kind, "commit": commit})


def launch(argv: Sequence[str]) -> int:
  """Does what the command line asks for; gives the exit code."""
  hosts.check_secrets((), argv)  # first: what is wrong with a flag repeats it
  asked, arguments = flags.parse(argv)
  flags.check(asked, arguments)
  hosts.check_secrets(asked.secret, ())
  shell = Shell(dry_run=asked.dry_run or asked.verb == "plan")
  request = _request(asked, shell)
  if asked.verb == "clean":
    kinds = [asked.backend] if asked.backend else BACKENDS
    chosen = [connect(kind, request, shell) for kind in kinds]
    shell.need("gcloud", GCLOUD)
    return _clean(chosen, asked)
  backend = connect(asked.backend, request, shell)
  shell.need("gcloud", GCLOUD)
  pod = Pod(
    backend,
    arguments=arguments,
    secrets=asked.secret,
    patience=STUBBORN if asked.verb in ("create", "babysit") else 1,
  )
  return DO[asked.verb](pod, asked)


def main(argv: Sequence[str] | None = None) -> int:
  """Gives the exit code; prints one line where something is wrong."""

  def interrupt(number, frame):
    del number, frame
    raise KeyboardInterrupt

  before = signal.signal(signal.SIGTERM, interrupt)
  try:
    return launch(list(sys.argv[1:] if argv is None else argv))
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code
  except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    return EXIT_INTERRUPTED
  finally:
    signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
  sys.exit(main())
