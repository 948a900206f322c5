"""Cloud TPUs by queued resources: a place in a queue, then whole slices.

The older of the two APIs: v4 to v6e, and the only one with several slices.
"""

from launch.request import (
  Request,
  State,
  Status,
  optional,
  read_status,
  refuse_taken,
)
from launch.shell import LIMIT_S, Result, Shell


class QueuedResource:
  """`gcloud compute tpus queued-resources`: a place in a queue, then slices."""

  API = "queued resources"

  def __init__(self, request: Request, shell: Shell):
    self.request, self.shell = request, shell
    self._place = [
      f"--zone={request.zone}",
      *optional(project=request.project),
      "--quiet",
    ]
    one = request.slices == 1
    # One slice is a TPU VM like any other; only several need the newer ssh.
    self._hosts = ["tpu-vm"] if one else ["queued-resources"]
    self._nodes = [] if one else ["--node=all"]

  def _argv(self, *words: str, track: str = "") -> list[str]:
    return ["gcloud", *([track] if track else []), "compute", "tpus", *words]

  def _describe(self) -> list[str]:
    return self._argv(
      "queued-resources", "describe", self.request.name, *self._place
    )

  def check_free(self) -> None:
    """Raises UserError if the name is used, by a queued resource or a node."""
    asked = self.request
    node = asked.name if asked.slices == 1 else f"{asked.name}-0"
    node = self._argv("tpu-vm", "describe", node, *self._place)
    refuse_taken(asked, self.shell, [self._describe(), node])

  def creations(self) -> list[list[str]]:
    """The commands that ask for it; each makes one thing."""
    asked = self.request
    flex = asked.capacity == "flex-start"
    nodes = [f"--node-id={asked.name}"]
    if asked.slices > 1:
      nodes = [f"--node-count={asked.slices}", f"--node-prefix={asked.name}"]
    capacity = {
      "on-demand": [],
      "spot": ["--spot"],
      "reserved": ["--reserved"],
      "flex-start": [
        "--provisioning-model=flex-start",
        f"--max-run-duration={asked.max_hours}h",
      ],
    }[asked.capacity]
    until = f"{asked.valid_hours}h" if asked.valid_hours else ""
    kind = asked.accelerator
    return [
      self._argv(
        "queued-resources",
        "create",
        asked.name,
        *nodes,
        f"--accelerator-type={kind.name}",
        f"--runtime-version={kind.generation.runtime_version}",
        *capacity,
        *optional(valid_until_duration=until),
        "--scopes=cloud-platform",
        *optional(service_account=asked.service_account),
        f"--labels={asked.labels}",
        "--async",
        *self._place,
        # Flex-start has not left this track.
        track="alpha" if flex else "",
      )
    ]

  def deletions(self) -> list[list[str]]:
    """The commands that undo `creations`, in their order."""
    name = self.request.name
    # --force takes the nodes along; without it the quota stays used.
    return [
      self._argv("queued-resources", "delete", name, "--force", *self._place)
    ]

  def status(self) -> Status:
    """Asks how it stands."""
    found = self.shell.describe(self._describe())
    if found is None:
      return Status(State.ABSENT, "absent")
    state = found.get("state", {})
    failed = state.get("failedData", {}).get("error", {})
    return read_status(state.get("state", "unknown"), failed.get("message", ""))

  def upload(self, file: str) -> None:
    """Copies a file into the home folder of every host."""
    self.shell.run(
      self._argv(
        *self._hosts,
        "scp",
        file,
        f"{self.request.name}:",
        *self._nodes,
        "--worker=all",
        *self._place,
      )
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
    nodes = self._nodes
    if nodes and worker != "all":
      nodes, worker = self._node_of(worker)
    argv = self._argv(
      *self._hosts,
      "ssh",
      self.request.name,
      *nodes,
      f"--worker={worker}",
      f"--command={command}",
      *self._place,
    )
    return [self.shell.attempt(argv, capture=capture, limit_s=limit_s)]

  def _node_of(self, worker: str) -> tuple[list[str], str]:
    """In: "5" where a slice has 4 hosts   Out: ["--node=1"], "1"."""
    node, within = divmod(int(worker), self.request.accelerator.hosts)
    return [f"--node={node}"], str(within)

  def owned(self) -> list[tuple[str, str]]:
    """Name and accelerator of what carries our label, in this zone."""
    listing = self._argv("queued-resources", "list", *self._place)
    mine = []
    for each in self.shell.describe(listing) or []:
      for spec in each.get("tpu", {}).get("nodeSpec", [])[:1]:
        labels = spec.get("node", {}).get("labels", {})
        if labels.get("cooper-owner") == self.request.owner:
          name = each["name"].rpartition("/")[2]
          mine.append((name, labels["cooper-accelerator"]))
    return sorted(mine)
