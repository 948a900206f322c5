"""The command line of launch/tpu.py: its flags, and what is wrong with them."""

import argparse
import getpass
import os
import re
from collections.abc import Sequence

from cooper_jax.errors import UserError, nearest
from launch.babysit import BUDGETS
from launch.request import CAPACITIES

VERBS = {
  "plan": "says what would be made, and prints every command",
  "create": "asks for the machines and waits for them",
  "setup": "ships the commit to all hosts and installs",
  "run": "starts cooper_jax.main on all hosts, detached",
  "logs": "shows the newest log",
  "status": "says how machines and run stand, host by host",
  "stop": "lets the run save and end, on all hosts",
  "delete": "deletes the machines",
  "babysit": "does it all, again after preemptions, and deletes in the end",
  "clean": "lists and deletes what carries the owner's label in the zone",
}


class Parser(argparse.ArgumentParser):
  """Says in one line what is wrong, as everything else here does."""

  def error(self, message: str):
    raise UserError(f"{message}; see python -m launch.tpu --help")


def make_parser() -> Parser:
  """The flags, in the order in which one meets them."""
  verbs = "\n".join(f"  {verb:8s} {does}" for verb, does in VERBS.items())
  parser = Parser(
    prog="python -m launch.tpu",
    description=f"Trains on Cloud TPUs. Verbs:\n{verbs}",
    epilog="Arguments of cooper_jax.main stand after --.",
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  add = parser.add_argument
  add("verb", help="what to do")
  add("name", nargs="?", default="", help="of the machines and the run")
  add("--accelerator", default="", help="v6e-16, for example")
  add("--zone", default=os.environ.get("CLOUDSDK_COMPUTE_ZONE", ""))
  add("--project", default=os.environ.get("CLOUDSDK_CORE_PROJECT", ""))
  add("--backend", default="", help="qr or gce; default: by accelerator")
  add("--slices", type=int, default=1, help="several need qr")
  add("--capacity", default="on-demand", help=", ".join(CAPACITIES))
  add("--reservation", default="", help="its name, on gce")
  add("--service_account", default="", help="that the hosts act as")
  add("--secret", action="append", default=[], metavar="VARIABLE=NAME")
  add("--owner", default=_user(), help="label; default: the user's name")
  add("--valid_hours", type=int, default=0, help="in the cloud's queue")
  add("--max_hours", type=int, default=0, help="the machines' longest life")
  add("--wait_hours", type=float, default=24, help="here, for the machines")
  add("--worker", default="0", help="whose logs: a number, or all")
  add("--lines", type=int, default=100, help="of the log")
  add("--follow", action="store_true", help="the log goes on")
  add("--max_preemptions", type=int, default=BUDGETS.preemptions)
  add("--max_failures", type=int, default=BUDGETS.failures)
  add("--max_stalls", type=int, default=BUDGETS.stalls)
  add("--quiet_hours", type=float, default=12, help="without a checkpoint")
  add("--adopt", action="store_true", help="babysit machines that are there")
  add("--keep", action="store_true", help="delete nothing by itself")
  add("--dry_run", action="store_true", help="only print the commands")
  add("--yes", action="store_true", help="clean without asking")
  return parser


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
  """Gives the launcher's own flags, and what stands after --."""
  argv = list(argv)
  cut = argv.index("--") if "--" in argv else len(argv)
  return make_parser().parse_intermixed_args(argv[:cut]), argv[cut + 1 :]


def _user() -> str:
  try:
    name = getpass.getuser()
  except (KeyError, OSError):
    name = ""
  return re.sub(r"[^a-z0-9_-]", "-", name.lower())[:63] or "nobody"


def check(asked: argparse.Namespace, arguments: Sequence[str]) -> None:
  """Raises UserError for what can be known to be wrong from here."""
  if asked.verb not in VERBS:
    raise UserError(
      f'no verb "{asked.verb}"{nearest(asked.verb, VERBS)}; there are'
      f" {', '.join(VERBS)}"
    )
  if asked.capacity not in CAPACITIES:
    raise UserError(
      f"--capacity={asked.capacity}"
      f"{nearest(asked.capacity, CAPACITIES)}; allowed: {', '.join(CAPACITIES)}"
    )
  patterns = {
    "zone": (r"[a-z]+-[a-z]+\d+-[a-z]", "us-east5-b"),
    "owner": (r"[a-z0-9_-]{1,63}", "jo-doe"),
    "worker": (r"all|\d+", "0, or all"),
  }
  if asked.verb != "clean":
    patterns["name"] = (r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", "demo-1")
  for flag, (pattern, example) in patterns.items():
    if not re.fullmatch(pattern, value := getattr(asked, flag)):
      raise UserError(f'{flag} is "{value}"; expected one like {example}')
  for flag in ("valid_hours", "max_hours", "wait_hours"):
    if (value := getattr(asked, flag)) < 0:
      raise UserError(f"--{flag}={value}; allowed: 0 and more")
  if "--workdir" in arguments:
    raise UserError("write --workdir=PATH as one word; the hosts look for that")
  if asked.slices < 1:
    raise UserError(f"--slices={asked.slices}; allowed: 1 and more")
  if asked.verb == "clean" and asked.name:
    raise UserError("clean takes no name; delete does")
  if asked.verb == "babysit":
    _check_storage(arguments)


def _check_storage(arguments: Sequence[str]) -> None:
  """A run that is to survive its machines needs a workdir elsewhere."""
  for word in arguments:
    if re.match(r"--workdir=(gs://[^/]+/.|/)", word):
      return
  raise UserError(
    "babysit needs -- --workdir=gs://BUCKET/PATH, or a path of a file system"
    " that all hosts share: the machines' own disks go with them"
  )
