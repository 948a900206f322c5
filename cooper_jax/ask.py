"""Asks a trained model about a picture of your own, or about a scene.

  python -m cooper_jax.ask --scene=3
  python -m cooper_jax.ask --image=photo.png \\
    "Which is closer, the red ball or the blue table?"

Asks the packaged model, or that of a run. Prints the reasoning and the answer,
and writes a picture with the maps it made into runs/ask. Of a scene one
question is asked that needs a map, at once and after drawing; --all asks them
all. The model has seen rendered rooms only: of anything else it will speak as
if it were one.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
from pathlib import Path

from cooper_jax import errors
from cooper_jax.errors import EXIT_DONE, EXIT_USER, UserError


def parse(argv=None):
  """Reads the command line."""
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.ask", description=__doc__.splitlines()[0]
  )
  add, path = parser.add_argument, os.path.expanduser
  add("question", nargs="*", help="in quotes; several are asked one by one")
  about = parser.add_mutually_exclusive_group(required=True)
  about.add_argument("--image", type=path, help="a photograph or picture")
  about.add_argument(
    "--scene", type=int, metavar="N",
    help="scene N of the test split; without a question, one of its own is"
    " asked that needs a map, at once and after drawing",
  )  # fmt: skip
  add("--all", action="store_true", help="all questions of the scene")
  add(
    "--workdir", type=path, help="of a run of cooper_jax.main that trained SFT"
  )
  add(
    "--package", type=path, default="tiny",
    help="packaged model, by name or folder; of use without --workdir",
  )  # fmt: skip
  add(
    "--stage", choices=("grpo", "sft"),
    help="policy of a workdir; default the last",
  )  # fmt: skip
  add("--mode", help="adaptive (default) draws as it likes")
  add(
    "--field_of_view", type=float, metavar="DEGREES",
    help="how wide the picture sees, for a model that is told the lens;"
    " default by its EXIF, else a middle value",
  )  # fmt: skip
  add("--out", type=path, help="PNG or folder to write to; default runs/ask")
  add("--json", action="store_true", help="print one JSON object, no text")
  return parser.parse_args(argv)


def check(asked) -> None:
  """Finds what is wrong before a model is loaded, which takes seconds."""
  from cooper_jax.data import pictures
  from cooper_jax.inference import wording
  from cooper_jax.report import answer_files

  wording.check(asked.question)
  if asked.stage and not asked.workdir:
    raise UserError(
      f"--stage={asked.stage} is one of a --workdir's; a package holds one"
      " policy: drop it"
    )
  photograph = None
  if asked.image is not None:
    pictures.read_image(asked.image, 8, f"--image={asked.image}")
    photograph = Path(asked.image)
    if not asked.question:
      raise UserError("nothing is asked; add a question in quotes")
    if asked.all:
      raise UserError("--all asks the questions of a --scene; drop it")
  elif asked.scene < 0:
    raise UserError(f"--scene={asked.scene}; allowed: 0 and more")
  elif asked.all and asked.question:
    raise UserError("--all asks the scene's own questions; drop it, or yours")
  answer_files.place(asked.out, photograph)


def load(asked):
  """The model of a run, or a packaged one."""
  from cooper_jax.inference import loading

  if asked.workdir:
    return loading.load_run(asked.workdir, asked.stage)
  return loading.load_package(asked.package)


def look(asked, config):
  """What is asked about: a file, or a scene of the test split."""
  from cooper_jax.data.sources import DataConfig
  from cooper_jax.inference import images
  from cooper_jax.world import scenes

  size, fit = config.data.image_size, config.data.get("fit", "squash")
  if asked.image is not None:
    return images.read(asked.image, size, f"--image={asked.image}", fit=fit)
  count = config.data.test_scenes
  if asked.scene >= count:
    raise UserError(
      f"--scene={asked.scene}; the test split has {count} scenes, 0 to"
      f" {count - 1}"
    )
  (scene,) = scenes.generate(
    DataConfig.from_config(config).world,
    split="test",
    start=asked.scene,
    count=1,
  )
  return images.read(scene, size)


def choose(asked, own, model) -> tuple[list[str], str, bool]:
  """(questions, mode, whether they are also answered at once).

  Of a scene one question that needs a map shows what the model does.
  """
  both = asked.scene is not None and not asked.question and not asked.all
  first = model.most_drawing() if both else "adaptive"
  mode = model.check_mode(asked.mode or first, "--mode=")
  if asked.question:
    return asked.question, mode, both
  if both:
    own = [question for question in own if question.needs] or own
    own = own[:1]
  if not own:
    raise UserError(f"scene {asked.scene} has no questions; ask one of yours")
  twice = both and "direct" in model.modes and mode != "direct"
  return [question.text for question in own], mode, twice


def answers(asked) -> tuple[dict, list]:
  """Answers the questions and writes the pictures.

  Gives what --json prints, and the `Answer`s.
  """
  check(asked)
  from cooper_jax.inference import views
  from cooper_jax.report import answer_files

  model = load(asked)
  views.check(asked.field_of_view, model.config, "--field_of_view=")
  image = look(asked, model.config)
  image = views.told(image, asked.field_of_view, model.config)
  own = image.sample.questions if image.sample else ()
  questions, mode, twice = choose(asked, own, model)
  # One by one: so an answer is the same to the digit whatever else is asked.
  found = model.ask(image, questions, mode=mode, batch=1)
  if twice:
    direct = model.ask(image, questions, mode="direct", batch=1)
    found = [
      dataclasses.replace(each, at_once=other.text)
      for each, other in zip(found, direct, strict=True)
    ]
  about = f"scene-{asked.scene}" if image.path is None else asked.image
  rest = f"{model.name} {mode}"
  if asked.field_of_view is not None:
    rest += f" {asked.field_of_view!r} degrees"
  outs = answer_files.pages(asked.out, about, questions, rest, image.path)
  said = {
    "model": model.name,
    "mode": mode,
    "about": about,
    "notes": list(found[0].notes),
    "answers": [written(*each) for each in zip(found, outs, strict=True)],
  }
  return said, found


def written(answer, out: Path) -> dict:
  """Writes the picture of an answer and its maps; what --json says of it."""
  from cooper_jax.report import answer_files

  out.parent.mkdir(parents=True, exist_ok=True)
  answer.save(out)
  drawn = [(drawn.modality, drawn.target) for drawn in answer.drawn]
  once = {} if answer.at_once is None else {"at_once": answer.at_once}
  return {
    "question": answer.question,
    "unknown_words": list(answer.unknown_words),
    "response": answer.response,
    "answer": answer.parts.answer,
    "true": answer.true,
    "malformed": answer.parts.fault,
    "places": answer.places,
    **once,
    "maps": answer_files.write_maps(out, drawn, answer.path),
    "picture": str(out),
  }


def tell(said: dict, found) -> str:
  """What was answered, for a terminal."""
  lines = [f"{said['model']}, mode {said['mode']}"]
  lines += [f"note: {note}" for note in said["notes"]]
  for answer, told in zip(found, said["answers"], strict=True):
    lines += ["", answer.tell(), f"  drawn:  {told['picture']}"]
  if any(answer.drawn for answer in found):
    lines += ["", "The maps are beside the pictures, as .npy and .png."]
  return "\n".join(lines)


def main(argv=None) -> int:
  """Gives the exit code; prints one line where something is wrong."""
  errors.printable()
  asked = parse(argv)
  try:
    # Of --json nothing but the object goes to stdout.
    with contextlib.redirect_stdout(sys.stderr):
      said, found = answers(asked)
    print(json.dumps(said, indent=2) if asked.json else tell(said, found))
  except (UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  return EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
