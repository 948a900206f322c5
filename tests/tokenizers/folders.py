"""Tiny folders of downloaded models: byte-level text, and Llama's kind."""

import json

import tokenizers
from tokenizers import (
  AddedToken,
  decoders,
  models,
  normalizers,
  pre_tokenizers,
  processors,
  trainers,
)

CORPUS = [
  "Which is closer , the red ball or the blue box ?",
  "measure the depth find the objects yes no 1 2 3 4.5 m",
  "How far is the green table from the camera ? It is 2.4 m away .",
] * 4
ENDS = "<|im_end|>"
TEMPLATE = """\
{%- for message in messages %}
  {%- if message.role == 'system' and not loop.first %}
    {{- raise_exception('system comes first') }}
  {%- endif %}
{{ '<|im_start|>' + message['role'] + '\\n' }}
{{- message['content'] }}{{ eos_token }}
{% endfor %}
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def byte_level() -> dict:
  """As Qwen's and Llama 3's: bytes as letters, then pairs of them."""
  made = tokenizers.Tokenizer(models.BPE())
  made.normalizer = normalizers.NFC()
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  made.decoder = decoders.ByteLevel()
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  made.train_from_iterator(
    CORPUS,
    trainers.BpeTrainer(
      vocab_size=320, initial_alphabet=alphabet, show_progress=False
    ),
  )
  made.add_special_tokens(["<|endoftext|>", "<|im_start|>", ENDS])
  made.add_tokens([AddedToken("<think>", special=False)])
  return json.loads(made.to_str())


def sentencepiece() -> dict:
  """As Llama 2's and Mistral's: a space before, and bytes where no letter is.

  Their files put the space with a normaliser and strip it in decoding.
  """
  said = _pieces()
  said["normalizer"] = {
    "type": "Sequence",
    "normalizers": [
      {"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
  }
  said["pre_tokenizer"] = None
  return said


def metaspace() -> dict:
  """As what `transformers` 4.40 and later write of them."""
  said = _pieces()
  said["pre_tokenizer"] = {
    "type": "Metaspace",
    "replacement": "▁",
    "prepend_scheme": "first",
    "split": False,
  }
  return said


def old_metaspace() -> dict:
  """As what `transformers` before 4.40 wrote, without a scheme."""
  said = _pieces()
  part = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
  said["pre_tokenizer"] = said["decoder"] = part
  fallback = {"type": "ByteFallback"}
  said["decoder"] = {"type": "Sequence", "decoders": [fallback, part]}
  return said


def unigram() -> dict:
  """As SentencePiece's other kind, which is refused: every piece is found."""
  pieces = ["<unk>", "</s>", "▁", *CORPUS[0].split(), *map(chr, range(33, 127))]
  pieces = list(dict.fromkeys(pieces))
  scores = [(piece, -float(len(pieces) - i)) for i, piece in enumerate(pieces)]
  made = tokenizers.Tokenizer(models.Unigram(scores, unk_id=0))
  made.pre_tokenizer = pre_tokenizers.Metaspace()
  made.decoder = decoders.Metaspace()
  made.add_special_tokens(["<unk>", "</s>"])
  return json.loads(made.to_str())


def _pieces() -> dict:
  made = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
  made.pre_tokenizer = pre_tokenizers.Metaspace()
  alphabet = [chr(c) for c in range(33, 127)]
  made.train_from_iterator(
    CORPUS,
    trainers.BpeTrainer(
      vocab_size=480,
      special_tokens=["<unk>", "<s>", "</s>"],
      initial_alphabet=alphabet,
      show_progress=False,
    ),
  )
  said = json.loads(made.to_str())
  table, merges = said["model"]["vocab"], said["model"]["merges"]
  names = [n for n, _ in sorted(table.items(), key=lambda pair: pair[1])]
  byte_names = [f"<0x{b:02X}>" for b in range(256)]
  names = [*names[:3], *byte_names, *names[3:]]
  said["model"]["vocab"] = {name: i for i, name in enumerate(names)}
  said["model"]["merges"] = merges
  said["decoder"] = {
    "type": "Sequence",
    "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
      {"type": "ByteFallback"},
      {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
  }
  made = tokenizers.Tokenizer.from_str(json.dumps(said))
  made.post_processor = processors.TemplateProcessing(
    single="<s> $A", special_tokens=[("<s>", names.index("<s>"))]
  )
  return json.loads(made.to_str())


KINDS = {
  "byte_level": (byte_level, ENDS),
  "sentencepiece": (sentencepiece, "</s>"),
  "metaspace": (metaspace, "</s>"),
  "old_metaspace": (old_metaspace, "</s>"),
}


def write(folder, kind="byte_level", *, rows=None, template=TEMPLATE, **more):
  """Writes a folder of a kind; rows: of its embedding; more: settings."""
  make, ends = KINDS[kind]
  said = make()
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "tokenizer.json").write_text(json.dumps(said))
  settings = {"eos_token": ends, "chat_template": template} | more
  (folder / "tokenizer_config.json").write_text(json.dumps(settings))
  if rows is not None:
    (folder / "config.json").write_text(json.dumps({"vocab_size": rows}))
  return folder


def change(folder, name, **changes) -> None:
  """Changes keys of a JSON file of a folder."""
  path = folder / name
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))
