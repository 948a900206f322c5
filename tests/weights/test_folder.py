"""What is wrong with a folder is one line, and nothing is left of it."""

import json

import numpy as np
import pytest

from cooper_jax.weights import convert
from tests.weights import released

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
NORM = "model.norm.weight"


def header(path, change, data=None):
  """Rewrites the header of a file: change(header); data(bytes) its rest."""
  file = (path / SINGLE).read_bytes()
  length = int.from_bytes(file[:8], "little")
  found, rest = json.loads(file[8 : 8 + length]), file[8 + length :]
  text = json.dumps(change(found) or found).encode()
  rest = data(rest) if data else rest
  (path / SINGLE).write_bytes(len(text).to_bytes(8, "little") + text + rest)


def too_long(path):
  file = (path / SINGLE).read_bytes()
  (path / SINGLE).write_bytes((10**9).to_bytes(8, "little") + file[8:])


def cut(path):
  file = (path / SINGLE).read_bytes()
  (path / SINGLE).write_bytes(file[:-5])


def nearly_nothing(path):
  (path / SINGLE).write_bytes(b"\0\0\0")


def pickled_inside(path):
  (path / SINGLE).write_bytes(b"PK\x03\x04" + b"\0" * 99)


def no_json(path):
  text = b'{"a": '
  (path / SINGLE).write_bytes(len(text).to_bytes(8, "little") + text)


def twice(path):
  file = (path / SINGLE).read_bytes()
  length = int.from_bytes(file[:8], "little")
  key = f'"{NORM}":'.encode()
  empty = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
  text = b"{" + key + empty + file[9 : 8 + length]
  (path / SINGLE).write_bytes(
    len(text).to_bytes(8, "little") + text + file[8 + length :]
  )


def overlap(path):
  def change(found):
    del found["__metadata__"]
    second = sorted(found, key=lambda k: found[k]["data_offsets"])[1]
    low, high = found[second]["data_offsets"]
    found[second]["data_offsets"] = [low - 4, high - 4]

  header(path, change)


def gap(path):
  def change(found):
    del found["__metadata__"]
    last = max(found, key=lambda k: found[k]["data_offsets"])
    low, high = found[last]["data_offsets"]
    found[last]["data_offsets"] = [low + 4, high + 4]

  header(path, change, lambda rest: rest + b"\0" * 4)


def more(path):
  header(path, lambda found: None, lambda rest: rest + b"\0" * 7)


def another_size(path):
  header(path, lambda found: found[NORM].update(shape=[23]))


def negative(path):
  header(path, lambda found: found[NORM].update(shape=[-24]))


def endless(path):
  header(path, lambda found: found[NORM].update(shape=[10**4000] * 3))


def many_axes(path):
  header(path, lambda found: found[NORM].update(shape=[10**39] * 200))


def utf_16(path):
  file = (path / SINGLE).read_bytes()
  length = int.from_bytes(file[:8], "little")
  text = file[8 : 8 + length].decode().encode("utf-16-le")
  (path / SINGLE).write_bytes(
    len(text).to_bytes(8, "little") + text + file[8 + length :]
  )


def no_dtype(path):
  header(path, lambda found: found[NORM].update(dtype="F2"))


def dtype_list(path):
  header(path, lambda found: found[NORM].update(dtype=["F32"]))


def two_lines(path):
  header(path, lambda found: found.update({"a\nb": found.pop(NORM)}))


def metadata_of_numbers(path):
  header(path, lambda found: found.update(__metadata__={"format": 1}))


def pointer(path):
  (path / SINGLE).write_bytes(
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
  )


def web_page(path):
  (path / SINGLE).write_bytes(b"<!DOCTYPE html>\n<html></html>")


def config_pointer(path):
  (path / "config.json").write_text(
    "version https://git-lfs.github.com/spec/v1"
  )


def config_page(path):
  (path / "config.json").write_text("\n <html></html>")


def field_of_two_lines(path):
  config = json.loads((path / "config.json").read_text("utf-8"))
  released.write_json(path / "config.json", config | {"a\nb": 1})


def link_to_itself(path):
  (path / SINGLE).unlink()
  (path / SINGLE).symlink_to(SINGLE)


def tokenizer_link(path):
  (path / "tokenizer.json").symlink_to("tokenizer.json")


def tokenizer_folder(path):
  (path / "tokenizer.json").mkdir()


def licence_link_out(path):
  (path.parent / "NOTICE").write_text("")
  (path / "NOTICE").symlink_to("../NOTICE")


def no_tokenizer(path):
  (path / "tokenizer.json").write_text("{}")


def head_of_six(path):
  """Heads of six channels, which the rules of RoPE allow and ours do not."""
  config = json.loads((path / "config.json").read_text("utf-8"))
  released.write_json(path / "config.json", config | {"head_dim": 6})


def endless_width(path):
  config = json.loads((path / "config.json").read_text("utf-8"))
  released.write_json(path / "config.json", config | {"hidden_size": 10**40})


def index_beside(path):
  tensors = released.write(path.parent / "other", "llama")
  released.write_tensors(path, tensors, 3)


def quantised(path):
  rows = released.ROWS * released.WIDTH
  header(
    path,
    lambda found: found["model.embed_tokens.weight"].update(
      dtype="F8_E4M3", shape=[4 * released.ROWS, rows // released.ROWS]
    ),
  )


def lost_pickle(path):
  (path / SINGLE).rename(path / "pytorch_model.bin")


def lost(path):
  (path / SINGLE).rename(path / "adapter_model.safetensors")


def no_files(path):
  (path / SINGLE).unlink()


def no_config(path):
  (path / "config.json").unlink()


def config_twice(path):
  (path / "config.json").write_text('{"a": 1, "a": 2}', "utf-8")


def link_out(path):
  (path / SINGLE).rename(path.parent / "elsewhere.safetensors")
  (path / SINGLE).symlink_to("../elsewhere.safetensors")


def index(change):
  """An index of three files, changed: change(path, weight_map)."""

  def apply(path):
    tensors = released.write(path.parent / "other", "llama")
    released.write_tensors(path, tensors, 3)
    (path / SINGLE).unlink()
    found = json.loads((path / INDEX).read_text("utf-8"))
    change(path, found["weight_map"])
    released.write_json(path / INDEX, found)

  return apply


def shard(number):
  return f"model-0000{number}-of-00003.safetensors"


def unknown(path):
  tensors = released.random_tensors(released.CASES["llama"][0])
  tensors["model.layers.2.mlp.up_proj.weight"] = np.ones((2, 2), "f4")
  released.write_tensors(path, tensors)


def missing(path):
  tensors = released.random_tensors(released.CASES["llama"][0])
  del tensors["model.layers.1.mlp.up_proj.weight"]
  released.write_tensors(path, tensors)


def another_width(path):
  config = json.loads((path / "config.json").read_text("utf-8"))
  config["intermediate_size"] = 21
  released.write_json(path / "config.json", config)


def no_embedding(path):
  released.write_tensors(path, {"transformer.wte": np.ones((2, 2), "f4")})


# What is done to a folder -> what is said.
BAD = [
  (too_long, "header would have 1,000,000,000 bytes"),
  (cut, "it ends 5 bytes before"),
  (nearly_nothing, "the file has 3"),
  (pickled_inside, "is a pickle under a safetensors name; reading a pickle"),
  (no_json, "is damaged: Expecting value"),
  (twice, f"{NORM} is given twice"),
  (overlap, "overlaps model."),
  (gap, "4 bytes between"),
  (more, "7 bytes behind"),
  (another_size, "needs 92 bytes and has 96"),
  (negative, "has shape [-24]"),
  (endless, "is damaged: it has a number of 4,001 digits"),
  (many_axes, f"is damaged: {NORM} has shape [1000"),
  (utf_16, "is damaged: Expecting"),
  (no_dtype, "of dtype 'F2'; allowed"),
  (dtype_list, f"{NORM} is of dtype ['F32']; allowed"),
  (two_lines, r"damaged: 'a\nb' is no name"),
  (metadata_of_numbers, "its __metadata__ is no object of strings"),
  (pointer, f"{SINGLE} is a pointer of Git LFS"),
  (web_page, f"{SINGLE} is a web page"),
  (config_pointer, "config.json is a pointer of Git LFS"),
  (config_page, "config.json is a web page"),
  (field_of_two_lines, r"no JSON: 'a\nb' is no name"),
  (link_to_itself, f"{SINGLE} is a symbolic link to itself"),
  (tokenizer_link, "tokenizer.json is a link to itself"),
  (tokenizer_folder, "tokenizer.json is no file; download it again"),
  (licence_link_out, "NOTICE is a symbolic link out of the folder"),
  (no_tokenizer, "no tokenizer"),
  (endless_width, "config.json is no JSON: it has a number of 41 digits"),
  (head_of_six, "config.json: config.model.head_dim is 6"),
  (index_beside, f"has {SINGLE}, and {INDEX}, which does not name it"),
  (quantised, "of dtype F8_E4M3 (quantised?); allowed: F32, BF16, F16"),
  (lost_pickle, "only pytorch_model.bin; reading a pickle can run any code"),
  (lost, f"neither {SINGLE} nor {INDEX}, only adapter_model.safetensors"),
  (no_files, f"neither {SINGLE} nor {INDEX}; get the folder whole"),
  (no_config, "config.json does not exist"),
  (config_twice, "is no JSON: a is given twice"),
  (link_out, "is a symbolic link out of the folder"),
  (index(lambda _, m: m.update({NORM: "../x"})), "names the file '../x'"),
  (index(lambda _, m: m.update({NORM: "/x"})), "names the file '/x'"),
  (index(lambda _, m: m.update({NORM: ".."})), "names the file '..'"),
  (index(lambda _, m: m.update({NORM: "x\ny"})), r"names the file 'x\ny'"),
  (index(lambda _, m: m.update({NORM: 3})), "is in 3, which is no name"),
  (index(lambda _, m: m.clear()), "has no weight_map"),
  (index(lambda _, m: m.pop(NORM)), f"but {INDEX} does not list it"),
  (index(lambda _, m: m.update({NORM: shard(3)})), f"is not in {shard(3)}"),
  (index(lambda _, m: m.update(a=shard(1))), f"a is not in {shard(1)}"),
  (
    index(lambda path, _: (path / shard(2)).unlink()),
    f"{shard(2)} does not exist",
  ),
  (
    index(
      lambda path, _: (path / shard(2)).write_bytes(
        (path / shard(1)).read_bytes()
      )
    ),
    f"is given twice, in {shard(1)} and in {shard(2)}",
  ),
  (unknown, "has model.layers.2.mlp.up_proj.weight, which the family llama"),
  (missing, "lacks model.layers.1.mlp.up_proj.weight, which"),
  (another_width, "mlp.gate_proj.weight has shape [20, 24], by"),
  (no_embedding, "has no embedding; looked for model.embed_tokens.weight"),
]


@pytest.mark.parametrize(("damage", "said"), BAD)
def test_bad_input_is_one_line_and_nothing_is_made(
  damage, said, tmp_path, capsys
):
  released.write(tmp_path / "a", "llama")
  damage(tmp_path / "a")
  before = sorted(f.name for f in tmp_path.iterdir())
  code = convert.main([f"--from={tmp_path}/a", f"--to={tmp_path}/b"])
  shown = capsys.readouterr()
  assert (code, shown.out) == (2, "")
  assert said in shown.err and shown.err.count("\n") == 1
  assert sorted(f.name for f in tmp_path.iterdir()) == before


def test_a_file_in_place_of_a_folder(tmp_path, capsys):
  released.write(tmp_path / "a", "llama")
  pickle = tmp_path / "model.pt"
  pickle.write_bytes(b"\x80\x02")
  for file, said in (
    (tmp_path / "a" / SINGLE, "is no folder; give the folder that it is in"),
    (pickle, "is a pickle"),
    (tmp_path / "none", "is no folder\n"),
    ("~nobody-here/a", "~nobody-here/a is no folder\n"),
  ):
    assert convert.main([f"--from={file}", f"--to={tmp_path}/b"]) == 2
    assert said in capsys.readouterr().err


def test_files_that_the_index_does_not_name_are_ignored_and_said(
  tmp_path, capsys
):
  released.write(tmp_path / "a", "qwen2")
  (tmp_path / "a/model-00001-of-00009.safetensors").write_bytes(b"stale")
  assert convert.main([f"--from={tmp_path}/a", f"--to={tmp_path}/b"]) == 0
  said = capsys.readouterr().out
  assert "note: model-00001-of-00009.safetensors is ignored" in said
  assert not (tmp_path / "b/model-00001-of-00009.safetensors").exists()


def test_a_link_inside_the_folder_is_followed(tmp_path):
  released.write(tmp_path / "a", "llama")
  (tmp_path / "a" / SINGLE).rename(tmp_path / "a/weights")
  (tmp_path / "a" / SINGLE).symlink_to("weights")
  assert convert.main([f"--from={tmp_path}/a", f"--to={tmp_path}/b"]) == 0
  assert not (tmp_path / "b" / SINGLE).is_symlink()
