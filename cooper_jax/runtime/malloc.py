"""Memory allocator: memory that a step freed is kept for the next step."""

import ctypes
import sys

# Of malloc.h; the values are glibc's.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed() -> bool:
  """Stops glibc from returning freed memory to the system; True if it does.

  XLA on CPU allocates the temporaries of a step anew at every call, hundreds
  of megabytes that glibc would map and unmap: the kernel then clears each page
  again at every step, which took a quarter of the time of a training step on
  a virtual machine. The process stays as large as it once was.

  Only the main arena keeps what is freed under these settings, hence one
  arena. Call it before threads start, for arenas that exist stay. Elsewhere
  than on glibc nothing happens.
  """
  if not sys.platform.startswith("linux"):
    return False
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is None:
    return False
  settings = {
    _MMAP_MAX: 0,
    _TRIM_THRESHOLD: 2**31 - 1,
    _TOP_PAD: 2**26,
    _ARENA_MAX: 1,
  }
  return all([mallopt(name, value) for name, value in settings.items()])
