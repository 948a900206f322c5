"""Conversations about an image, as LLaVA and Qwen keep them, as plain lines.

  {"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\\nIs
   it red?"}, {"from": "gpt", "value": "Yes"}]}
  {"images": ["a.jpg"], "messages": [{"role": "user", "content": [{"type":
   "image"}, {"type": "text", "text": "Is it red?"}]}, {"role": "assistant",
   "content": "Yes"}]}

Each question with its answer becomes a record of its own about the same image;
what a system prompt says is left out. Keys that only such files have, as the
image's sides, are left out too.
"""

from typing import Any

ASKS, ANSWERS, SYSTEM = ("human", "user"), ("gpt", "assistant"), "system"
# Key of the list -> keys of who speaks and of what is said.
FORMS = {"conversations": ("from", "value"), "messages": ("role", "content")}
TAG = "<image>"


def form_of(record: dict[str, Any]) -> str:
  """The key of the conversation in a record, "" without one; null is none."""
  return next((key for key in FORMS if record.get(key) is not None), "")


def expand(
  record: dict[str, Any], known: tuple[str, ...]
) -> list[dict[str, Any]]:
  """A record for each question of a conversation; others are as they are.

  known: keys that a line may have. Raises ValueError, one line, for what is
  no conversation of questions and answers about one image, and for another
  conversation, a question or an answer beside one.
  """
  key = form_of(record)
  if not key:
    return [{k: value for k, value in record.items() if k not in FORMS}]
  more = [k for k in FORMS if k != key and record.get(k) is not None]
  more += [k for k in ("question", "answer") if record.get(k) not in (None, "")]
  if more:
    raise ValueError(
      f"{key!r} stands beside {' and '.join(map(repr, more))}: one of them"
      " would be lost; write a line, or name a column, for one alone"
    )
  who, what = FORMS[key]
  turns = record[key]
  if not isinstance(turns, list) or not turns:
    raise ValueError(f"{key!r} should be a list of turns")
  said, images = [], []
  for turn in turns:
    if not isinstance(turn, dict) or who not in turn or what not in turn:
      raise ValueError(f"a turn of {key!r} needs {who!r} and {what!r}")
    text, own = _text(turn[what], key)
    images += own
    if turn[who] != SYSTEM:
      said.append((turn[who], text.replace(TAG, " ").strip()))
  pairs = list(zip(said[::2], said[1::2]))
  alike = all(a[0] in ASKS and b[0] in ANSWERS for a, b in pairs)
  if len(said) % 2 or not alike:
    raise ValueError(
      f"{key!r} should be a question ({' or '.join(ASKS)}) and its answer"
      f" ({' or '.join(ANSWERS)}) in turn"
    )
  rest = {k: v for k, v in record.items() if k in known and k != "image"}
  image = _image([record.get("image"), record.get("images"), images])
  return [
    {**rest, "image": image, "question": asked, "answer": answer}
    for (_, asked), (_, answer) in pairs
  ]


def _text(content: Any, key: str) -> tuple[str, list[str]]:
  """(text, paths of images) of what a turn says."""
  if isinstance(content, str):
    return content, []
  if not isinstance(content, list):
    raise ValueError(f"what a turn of {key!r} says is a string, or a list")
  texts, images = [], []
  for part in content:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
      texts.append(part["text"])
    elif kind == "image":
      images += [part["image"]] if "image" in part else []
    else:
      raise ValueError(f"a part of {key!r} has type {kind!r}; read are text and"
                       " image")  # fmt: skip
  return " ".join(texts), images


def _image(written: list) -> str:
  """The one path of all that name images."""
  flat = []
  for each in written:
    flat += each if isinstance(each, list) else [each]
  named = list(dict.fromkeys(each for each in flat if each is not None))
  if len(named) != 1 or not isinstance(named[0], str):
    raise ValueError(
      f"a conversation about {len(named)} images: one is read, as 'image', as"
      " 'images' or in the first question"
    )
  return named[0]
