"""Questions as people write them, checked and put as the model learned them.

Needs no JAX, so that a wrong question is refused before seconds are spent.
"""

import re

from cooper_jax.errors import UserError


def as_written(question: str) -> str:
  """In: "Which is closer, a or b?"   Out: "Which is closer , a or b ?"."""
  spaced = re.sub(r"\s*([,;:?!.])(?=\s|$)", r" \1", question)
  return " ".join(spaced.split())


def listed(questions) -> list:
  """Questions as a list; UserError for what is neither a str nor several."""
  try:
    return list(questions)
  except TypeError as error:
    raise UserError(
      f"the question is of type {type(questions).__name__}; give a str, or a"
      " list of them"
    ) from error


def check(questions) -> None:
  """Raises UserError for a question that is empty, or no text."""
  for number, question in enumerate(questions, 1):
    if not isinstance(question, str):
      raise UserError(
        f"question {number} is of type {type(question).__name__}; give a str,"
        " or a list of them"
      )
    if not question.strip():
      raise UserError(f"question {number} is empty; write it in quotes")
    try:
      question.encode("utf-8")
    except UnicodeEncodeError as error:  # bytes of another encoding
      raise UserError(f"question {number} is no UTF-8") from error
