"""What several tests of the launcher say, and read in what it says."""

import time

RUN = ["--", "--config=configs/grpo.py", "--workdir=gs://bucket/runs/demo"]
QUOTA = "ERROR: (gcloud) RESOURCE_EXHAUSTED: Quota limit 'TPUV6E' exceeded"
DENIED = "ERROR: (gcloud) PERMISSION_DENIED: may not create nodes"
# As gcloud compute has them: the reason stands below.
IN_USE = """ERROR: (gcloud.compute.instance-templates.delete) Could not delete:
 - The instance_template resource 'demo' is already being used by 'group'
"""
STOCKOUT = """ERROR: (gcloud.compute.instances.create) Could not fetch resource:
---
code: ZONE_RESOURCE_POOL_EXHAUSTED
errorDetails:
- help:
    links:
    - description: Troubleshooting documentation
      url: https://cloud.google.com/compute/docs/resource-error
message: The zone 'projects/p/zones/us-east5-b' does not have enough resources
  available to fulfill the request.
"""


def one_error(said):
  """The line of errors, which is one."""
  lines = [line for line in said.splitlines() if line.startswith("error: ")]
  assert len(lines) == 1 and "Traceback" not in said, said
  return lines[0]


def wait_for(ready, seconds=20):
  """Waits until something has happened in another process."""
  end = time.monotonic() + seconds
  while not ready():
    assert time.monotonic() < end, "it did not happen"
    time.sleep(0.02)
