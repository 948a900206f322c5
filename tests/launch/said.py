"""What several tests of the launcher read in what it says."""


def one_error(said):
  """The line of errors, which is one."""
  lines = [line for line in said.splitlines() if line.startswith("error: ")]
  assert len(lines) == 1 and "Traceback" not in said, said
  return lines[0]
