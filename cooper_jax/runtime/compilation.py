"""Compiling: the cache in the user's home, and what has no room."""

import contextlib
import hashlib
import os
import platform
from pathlib import Path


def user_cache() -> Path:
  """The folder of what a later run need not make again."""
  home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
  return Path(home) / "cooper_jax"


def machine_kind() -> str:
  """Eight digits for the CPU's kind: its instructions, as far as is known.

  Compiled CPU code uses the instructions of the CPU it was made on; a home
  folder shared by machines must not mix them.
  """
  kind = platform.machine() + platform.processor()
  try:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    kind += next((line for line in lines if line.startswith("flags")), "")
  except OSError:
    pass
  return hashlib.sha256(kind.encode()).hexdigest()[:8]


def fills_memory(error: Exception) -> bool:
  """Whether a device's memory is too small for a program.

  A kernel without room in a TPU core's own memory (VMEM) reads alike, and is a
  fault of the kernel.
  """
  said = str(error)
  full = "RESOURCE_EXHAUSTED" in said or "Out of memory" in said
  return full and "vmem" not in said.lower()


def default_cache() -> Path:
  """Gives a folder of this kind of machine in the user's cache."""
  return user_cache() / f"compiled-{machine_kind()}"


def use_cache(folder: str, fallback) -> str:
  """Switches JAX's compilation cache on; "off" leaves it as it is.

  In order: the folder asked for, JAX_COMPILATION_CACHE_DIR, the default, and
  `fallback` if that can't be written. Returns the folder, or "off".
  """
  import jax

  if folder == "off":
    return "off"
  asked = folder or os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
  path = Path(asked).expanduser() if asked else default_cache()
  try:
    path.mkdir(parents=True, exist_ok=True)
    writable = os.access(path, os.W_OK)
  except OSError:
    writable = False
  if not writable:
    path = Path(fallback)
    path.mkdir(parents=True, exist_ok=True)
  jax.config.update("jax_compilation_cache_dir", str(path))
  # Everything: many small functions make up a start.
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
  return str(path)


@contextlib.contextmanager
def effort(*, quick: bool):
  """Where `quick`, leaves out what takes the compiler long.

  Right where few steps are run. On CPU the machine code is then plain (LLVM's
  costly passes are skipped); the operations and their order are the same.
  """
  import jax

  name = "jax_disable_most_optimizations"
  before = jax.config.values[name]
  jax.config.update(name, quick or before)
  try:
    yield
  finally:
    jax.config.update(name, before)
