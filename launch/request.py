"""What is asked of a cloud, and how it can stand, in words of our own."""

import dataclasses
import enum

from cooper_jax.errors import UserError
from launch.catalog import Accelerator
from launch.shell import Shell

CAPACITIES = ("on-demand", "spot", "reserved", "flex-start")


class State(enum.Enum):
  """What is left of the differences between two APIs."""

  ABSENT = "absent"
  WAITING = "waiting"
  ACTIVE = "active"
  SUSPENDED = "suspended"
  FAILED = "failed"
  DELETING = "deleting"


STATES = {
  State.WAITING: "CREATING ACCEPTED WAITING_FOR_RESOURCES PROVISIONING STAGING"
  " REPAIRING PENDING",
  State.ACTIVE: "ACTIVE RUNNING",
  State.SUSPENDED: "SUSPENDING SUSPENDED STOPPING STOPPED TERMINATED PREEMPTED",
  State.FAILED: "FAILED",
  State.DELETING: "DELETING",
}
_STATE = {
  word: state for state, text in STATES.items() for word in text.split()
}


@dataclasses.dataclass(frozen=True)
class Status:
  """A state, in the cloud's own words beside ours."""

  state: State
  words: str = ""
  detail: str = ""  # why, where the cloud says so


def read_status(words: str, detail: str = "") -> Status:
  # A state that is new to us is waited for; the wait has its own limit.
  return Status(_STATE.get(words, State.WAITING), words.lower(), detail)


@dataclasses.dataclass(frozen=True)
class Request:
  """What is asked of the cloud, under which name."""

  name: str
  accelerator: Accelerator
  zone: str
  project: str = ""
  slices: int = 1
  capacity: str = "on-demand"
  reservation: str = ""
  service_account: str = ""
  owner: str = "nobody"
  commit: str = "unknown"
  valid_hours: int = 0  # how long to stand in the queue, 0 for no limit
  max_hours: int = 0  # how long to run, 0 for no limit

  @property
  def region(self) -> str:
    """In: us-east5-b   Out: us-east5."""
    return self.zone.rpartition("-")[0]

  @property
  def hosts(self) -> int:
    """Of all slices together."""
    return self.slices * self.accelerator.hosts

  @property
  def topology(self) -> str:
    """As --topology of cooper_jax.main takes it."""
    several = f",num_slices={self.slices}" if self.slices > 1 else ""
    return self.accelerator.topology + several

  @property
  def labels(self) -> str:
    """By these `clean` finds what is ours."""
    return (
      f"cooper-owner={self.owner},cooper-run={self.name},"
      f"cooper-accelerator={self.accelerator.name},cooper-zone={self.zone},"
      f"cooper-commit={self.commit[:12]}"
    )


def optional(**flags: str | int) -> list[str]:
  """In: project="p", reservation=""   Out: ["--project=p"]."""
  return [
    f"--{name.replace('_', '-')}={value}"
    for name, value in flags.items()
    if value
  ]


def refuse_taken(asked: Request, shell: Shell, lookups: list[list[str]]):
  """Raises UserError if any of the lookups finds something."""
  for lookup in lookups:
    if shell.describe(lookup) is not None:
      raise UserError(
        f'the name "{asked.name}" is in use in {asked.zone}; choose another,'
        f" or free it: python -m launch.tpu delete {asked.name}"
        f" --accelerator={asked.accelerator.name} --zone={asked.zone}"
      )
