"""Cloud TPUs on Compute Engine: an instance, or a group of them as one slice.

The newer of the two APIs, and the only one for tpu7x. The hosts of a slice are
a managed instance group with a policy that asks for a shape.
"""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

from cooper_jax.errors import UserError
from launch.catalog import IMAGE_PROJECT
from launch.request import (
  Request,
  State,
  Status,
  optional,
  read_status,
  refuse_taken,
)
from launch.shell import (
  LIMIT_S,
  CommandFailed,
  Result,
  Shell,
  is_transient,
  one_line,
)

DISK = "200GB"  # the images' own 10 GB don't hold an environment and logs
WORST_FIRST = (State.SUSPENDED, State.FAILED, State.DELETING)


@dataclasses.dataclass(frozen=True)
class _Thing:
  """Something to be made: what it is called, where it is, how it is to be."""

  noun: tuple[str, ...]
  place: list[str]
  flags: list[str]
  verb: tuple[str, ...] = ("create",)
  track: str = ""


class ComputeEngine:
  """`gcloud compute`: instances, templates, groups and policies."""

  API = "Compute Engine"

  def __init__(self, request: Request, shell: Shell):
    if request.slices > 1:
      raise UserError(
        f"--slices={request.slices} needs --backend=qr: nothing on Compute"
        " Engine tells the hosts of one slice about another"
      )
    self.request, self.shell = request, shell
    self._project = [*optional(project=request.project), "--quiet"]
    self._zone = [f"--zone={request.zone}", *self._project]
    self._grouped = request.hosts > 1

  def _argv(self, *words: str, track: str = "") -> list[str]:
    return ["gcloud", *([track] if track else []), "compute", *words]

  def _capacity(self) -> list[str]:
    asked = self.request
    flags = {
      "on-demand": [],
      "spot": ["--provisioning-model=SPOT"],
      "reserved": [
        "--provisioning-model=RESERVATION_BOUND",
        "--reservation-affinity=specific",
        f"--reservation={asked.reservation}",
      ],
      "flex-start": ["--provisioning-model=FLEX_START"],
    }[asked.capacity]
    if asked.max_hours:
      flags = [*flags, f"--max-run-duration={asked.max_hours}h"]
    if asked.max_hours or asked.capacity == "spot":
      # A group would replace a deleted host by one outside of the slice.
      stops = self._grouped and asked.capacity == "spot"
      ends = "STOP" if stops else "DELETE"
      flags = [*flags, f"--instance-termination-action={ends}"]
    return flags

  def _machine(self) -> list[str]:
    """What an instance and a template of instances have in common."""
    asked, kind = self.request, self.request.accelerator
    return [
      f"--machine-type={kind.machine_type}",
      f"--image-family={kind.generation.image_family}",
      f"--image-project={IMAGE_PROJECT}",
      f"--boot-disk-size={DISK}",
      "--maintenance-policy=TERMINATE",
      *self._capacity(),
      # Without it, reading secrets and buckets fails, and late.
      "--scopes=cloud-platform",
      *optional(service_account=asked.service_account),
      f"--labels={asked.labels}",
    ]

  def _things(self) -> list[_Thing]:
    """What is made, in this order."""
    asked = self.request
    # In the version at hand (528) only this track knows FLEX_START.
    track = "alpha" if asked.capacity == "flex-start" else ""
    if not self._grouped:
      machine = self._machine()
      return [_Thing(("instances",), self._zone, machine, track=track)]
    policy = asked.name
    if asked.project:
      policy = (
        f"projects/{asked.project}/regions/{asked.region}/resourcePolicies/"
        f"{asked.name}"
      )
    return [
      _Thing(
        ("resource-policies",),
        [f"--region={asked.region}", *self._project],
        [
          "--type=HIGH_THROUGHPUT",
          f"--accelerator-topology={asked.accelerator.shape}",
        ],
        verb=("create", "workload-policy"),
      ),
      _Thing(
        ("instance-templates",), self._project, self._machine(), track=track
      ),
      _Thing(
        ("instance-groups", "managed"),
        self._zone,
        [
          f"--template={asked.name}",
          f"--size={asked.hosts}",
          f"--workload-policy={policy}",
          # Whether to go on is decided for the slice, not host by host.
          "--default-action-on-vm-failure=do-nothing",
        ],
      ),
    ]

  def check_free(self) -> None:
    """Raises UserError if anything that would be made is there already."""
    lookups = [
      self._argv(*thing.noun, "describe", self.request.name, *thing.place)
      for thing in self._things()
    ]
    refuse_taken(self.request, self.shell, lookups)

  def creations(self) -> list[list[str]]:
    """The commands that ask for it; each makes one thing."""
    return [
      self._argv(
        *thing.noun,
        *thing.verb,
        self.request.name,
        *thing.flags,
        *thing.place,
        track=thing.track,
      )
      for thing in self._things()
    ]

  def deletions(self) -> list[list[str]]:
    """The commands that undo `creations`, in their order."""
    return [
      self._argv(*thing.noun, "delete", self.request.name, *thing.place)
      for thing in self._things()
    ]

  def _instances(self) -> list[dict] | None:
    """Name and status of each host, by name; None if there is nothing."""
    name = self.request.name
    if not self._grouped:
      lookup = self._argv("instances", "describe", name, *self._zone)
      found = self.shell.describe(lookup)
      return found and [{"name": name, "status": found.get("status", "")}]
    listing = ("instance-groups", "managed", "list-instances", name)
    found = self.shell.describe(self._argv(*listing, *self._zone))
    if found is None:
      return None
    hosts = [
      {
        "name": each["instance"].rpartition("/")[2],
        "status": each.get("instanceStatus", ""),
        "errors": each.get("lastAttempt", {}).get("errors", {}),
      }
      for each in found
    ]
    return sorted(hosts, key=lambda host: host["name"])

  def status(self) -> Status:
    """Asks how it stands; a slice stands as its worst host."""
    found = self._instances()
    if found is None:
      return Status(State.ABSENT, "absent")
    each = [read_status(host["status"]) for host in found]
    for state in WORST_FIRST:
      worst = [status for status in each if status.state is state]
      if worst:
        return worst[0]
    for host in found:
      # The group goes on trying: what waiting does not mend is told at once.
      for error in host.get("errors", {}).get("errors", ()):
        if not is_transient(why := error.get("message", "no message")):
          return Status(State.FAILED, "failed", why)
    up = sum(status.state is State.ACTIVE for status in each)
    whole = up == self.request.hosts
    return Status(
      State.ACTIVE if whole else State.WAITING,
      f"{up} of {self.request.hosts} hosts up",
    )

  def _names(self, worker: str) -> list[str]:
    name = self.request.name
    if not self._grouped:
      names = [name]
    elif self.shell.dry_run:  # a group gives its hosts their names
      names = [f"{name}-{n}" for n in range(self.request.hosts)]
    else:
      names = [host["name"] for host in self._instances() or []]
    if worker == "all":
      return names
    if int(worker) >= len(names):
      raise UserError(f"--worker={worker}: there are {len(names)} hosts")
    return [names[int(worker)]]

  def _each(
    self, commands: list[list[str]], **options: bool | float
  ) -> list[Result]:
    # At once, since a slice only comes up if all of its hosts ask for it; in
    # order where it is only printed.
    workers = 1 if self.shell.dry_run else max(1, len(commands))
    with ThreadPoolExecutor(workers) as pool:
      run = self.shell.attempt
      return list(pool.map(lambda argv: run(argv, **options), commands))

  def upload(self, file: str) -> None:
    """Copies a file into the home folder of every host."""
    commands = [
      self._argv("scp", file, f"{name}:", *self._zone)
      for name in self._names("all")
    ]
    for result in self._each(commands):
      if result.code:
        raise CommandFailed(
          f"gcloud compute scp: {one_line(result.stderr)}", result.stderr
        )

  def ask(
    self,
    command: str,
    *,
    worker: str = "all",
    capture: bool = True,
    limit_s: float = LIMIT_S,
  ) -> list[Result]:
    """Runs a shell command on every host at once, or on one."""
    commands = [
      self._argv("ssh", name, f"--command={command}", *self._zone)
      for name in self._names(worker)
    ]
    return self._each(commands, capture=capture, limit_s=limit_s)

  def owned(self) -> list[tuple[str, str]]:
    """Name and accelerator of what carries our label."""
    mine = self.request.owner
    instances = self._argv(
      "instances",
      "list",
      f"--zones={self.request.zone}",
      f"--filter=labels.cooper-owner={mine}",
      *self._project,
    )
    # A group has no labels, its template has.
    templates = self._argv("instance-templates", "list", *self._project)
    labels = [
      each["labels"] for each in self.shell.describe(instances) or []
    ] + [
      each.get("properties", {}).get("labels", {})
      for each in self.shell.describe(templates) or []
    ]
    return sorted(
      {
        (each["cooper-run"], each["cooper-accelerator"])
        for each in labels
        if each.get("cooper-owner") == mine
        # Templates are of no zone; those of another may be in use there.
        and each.get("cooper-zone", self.request.zone) == self.request.zone
      }
    )
