"""Tests run on CPU with eight devices; what is not spread uses the first.

Eight devices cost a one-device computation nothing (measured: same CPU
seconds for a matrix product and for 3,000 small calls).
"""

import collections
import gc
import os
import pathlib
import signal

import pytest

from cooper_jax.runtime import malloc
from tests import compiling

FAKE_DEVICES = 8

os.environ.setdefault("JAX_PLATFORMS", "cpu")
compiling.use(FAKE_DEVICES)

# Between runs, compiled code is kept beside pytest's own cache, by process:
# JAX does not guard a file that one writes while another reads it. Which test
# files a process gets varies, so a second run is warm in part.
_CACHE = pathlib.Path(__file__).parent.parent / ".pytest_cache" / "compiled"
_CACHE /= os.environ.get("PYTEST_XDIST_WORKER", "alone")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
# Small programs, too: writing them costs nothing that could be measured, and
# a function that a second test makes anew compiles them anew.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

malloc.keep_freed()

# Tracing makes many objects that stay; looking through them for garbage took 6
# percent of it at Python's own threshold of 700.
gc.set_threshold(50_000, 20, 20)

# A shell starts what it runs in the background with SIGINT ignored, and so
# would be the processes that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory):
  """No test passes, or fails, by what a former run kept."""
  os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("user_cache"))


def pytest_collection_modifyitems(items):
  """Files of few tests come first.

  Theirs are the long ones, and launch/test.sh deals out whole files: left to
  the end, one would run while the other processes have nothing to do.
  """
  tests_of = collections.Counter(item.path for item in items)
  items.sort(key=lambda item: tests_of[item.path])


def pytest_collection_finish():
  gc.freeze()  # modules and test items: none of them is ever garbage
