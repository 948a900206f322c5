"""Weights are read slice by slice, into the devices that hold them."""

import contextlib
import io
import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax import policy
from cooper_jax.parallel import processes
from cooper_jax.parallel.mesh import MeshConfig, make_mesh
from cooper_jax.training import telemetry
from cooper_jax.training.manifest import flatten
from cooper_jax.weights import folder, importing, starting, streaming
from tests import compiling
from tests.weights import released, released_codes, starts

ROOT = pathlib.Path(__file__).parents[2]
LIMIT = 900  # seconds
MIB = 2**20
MORE = 200 * 10**6  # bytes above its shards and the largest tensor


@pytest.fixture(scope="module")
def here(tmp_path_factory):
  """Folders of text and of a tower."""
  path = tmp_path_factory.mktemp("hub")
  starts.write_text(path / "text")
  starts.write_vision(path / "vision")
  return path


def test_on_several_devices_are_the_values_that_are_on_the_host(here):
  named = {f"init.{role}": str(here / role) for role in ("text", "vision")}
  named |= {"model.mixture_of_transformers": True}
  config = starts.make(here / "work", named)
  shape = MeshConfig(data=2, fsdp=4)
  with jax.set_mesh(make_mesh(shape)):
    abstract = policy.abstract_params(policy.make_policy(config))
    found, table = starting.build(config, abstract)
    host = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract)
    wanted, _ = starting.build(config, host)
  found, wanted = flatten(found), flatten(wanted)
  abstract, several = flatten(abstract), 0
  for row in table:
    if row.imported or not row.initialised.startswith("drawn, as"):
      leaf = found[row.path]
      assert leaf.sharding == abstract[row.path].sharding
      several += not leaf.is_fully_replicated
      np.testing.assert_array_equal(leaf, wanted[row.path], row.path)
    else:
      assert found[row.path] is abstract[row.path]
  assert several > 10


@pytest.mark.parametrize("name", ["bagel", "janus_vqgan", "emu3_vqgan"])
def test_every_slice_is_that_of_the_whole(name, tmp_path):
  """Of each way in which a tensor becomes a leaf."""
  if name == "bagel":
    from tests.weights import released_pictures

    released_pictures.write_bagel(tmp_path / "a")
  else:
    released_codes.write(tmp_path / "a", name)
  planned = importing.plan(folder.open_folder(tmp_path / "a"))
  rng = np.random.default_rng(0)
  for path, leaf in importing.read(planned).items():
    stream = streaming.of_folder(planned, path)
    assert stream.shape == leaf.shape
    ends = [np.sort(rng.integers(0, n + 1, 2)) for n in leaf.shape]
    index = tuple(slice(int(a), int(max(a + 1, b))) for a, b in ends)
    index = tuple(
      each if each.start < size else slice(0, size)
      for each, size in zip(index, leaf.shape)
    )
    found = stream.read(index, np.float32)
    np.testing.assert_array_equal(found, leaf[index].astype(np.float32))


def test_a_corner_and_rows_behind_are_sliced_alike():
  table = np.random.default_rng(1).normal(size=(25, 6)).astype(np.float32)
  stream = streaming.Stream(table.shape, 0, lambda _, index: table[index])
  cells = [5 * row + column for row in range(3) for column in range(3)]
  corner = streaming.corner(stream, 9)
  index = (slice(2, 8), slice(1, 4))
  np.testing.assert_array_equal(
    corner.read(index, np.float32), table[cells][index]
  )
  longer = streaming.extended(stream, 4000, lambda: np.random.default_rng(3))
  whole = longer.read((slice(None), slice(None)), np.float32)
  np.testing.assert_array_equal(whole[:25], table)
  own = whole[25:]
  np.testing.assert_allclose(own.mean(axis=0), table.mean(axis=0), atol=0.1)
  np.testing.assert_allclose(own.std(axis=0), table.std(axis=0), rtol=0.1)
  for rows in ((0, 10), (20, 30), (30, 4000)):
    index = (slice(*rows), slice(2, 5))
    np.testing.assert_array_equal(longer.read(index, np.float32), whole[index])


def test_how_far_it_is_is_said_in_bytes(here, monkeypatch):
  said, written = [], io.StringIO()
  monkeypatch.setattr(
    telemetry.Progress, "advance", lambda self, n=1: said.append((n, self))
  )
  planned = importing.plan(folder.open_folder(here / "text"))
  streams = {path: streaming.of_folder(planned, path) for path in planned.keys}
  tree = {
    path: jax.ShapeDtypeStruct(stream.shape, jnp.bfloat16)
    for path, stream in streams.items()
  }
  with contextlib.redirect_stderr(written):
    found = streaming.place(streams, tree)
  total = sum(array.nbytes for array in found.values())
  assert sum(n for n, _ in said) == said[0][1].total == total
  assert all(array.dtype == jnp.bfloat16 for array in found.values())
  progress = telemetry.Progress(2 * 10**9, "weights", stream=written, unit="B")
  progress.done = 10**9
  progress.say(progress._counted(progress.done))
  assert "1.00 GB" in written.getvalue()


def write_large(path):
  """A folder like Qwen3's of more than 2 GB in bfloat16; its largest tensor."""
  starts.write_text(path)
  config = released.text("qwen3", True, **starts.SIZES)
  config |= {
    "vocab_size": 40_000,
    "hidden_size": 2048,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
  }
  released.write_json(path / "config.json", config)
  from cooper_jax.weights import headers, qwen

  sizes = qwen.config(config, "config.json")
  entries = {}
  for name in qwen.names(sizes).values():
    for layer in range(name.layers or 1):
      key = name.pattern.format(prefix="model.", layer=layer)
      entries[key] = ("BF16", name.shape)
  noise = np.random.default_rng(0).normal(0, 0.02, 2**20)
  noise = noise.astype(jnp.bfloat16)
  made = 0

  def data(key):
    nonlocal made
    made += 1
    count = int(np.prod(entries[key][1]))
    return np.resize(np.roll(noise, made), count).reshape(entries[key][1])

  file = path / "model.safetensors"
  headers.write_file(file, entries, data, {"format": "pt"})
  assert file.stat().st_size > 2 * 10**9
  return max(2 * int(np.prod(shape)) for _, shape in entries.values())


@pytest.mark.slow
def test_a_large_folder_fits_beside_its_shards(tmp_path):
  """Two processes of four devices each; the folder is of 2 GB."""
  largest = write_large(tmp_path / "large")
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  flags = f"{compiling.QUICK} --xla_force_host_platform_device_count=4"
  words = [str(tmp_path / "large"), str(tmp_path / "work")]
  running = [
    subprocess.Popen(
      [sys.executable, "-m", "tests.weights.stream_pair", *words],
      cwd=ROOT,
      env=os.environ
      | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
      | dict(zip(processes.GIVEN, (address, "2", str(i)), strict=True)),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]
  try:
    ends = [process.communicate(timeout=LIMIT) for process in running]
  finally:
    for process in running:
      process.kill()
      process.wait()
    (tmp_path / "large/model.safetensors").unlink()
  assert [p.returncode for p in running] == [0, 0], ends
  for out, _ in ends:
    found = json.loads(out.splitlines()[-1])
    print(found, largest)
    assert found["gap"] == 0.0
    assert found["own"] > 1.9 * 10**9
    assert found["risen"] <= found["own"] + largest + MORE
