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
import json
import os
import re
import sys
import types
from pathlib import Path

from cooper_jax import errors
from cooper_jax.errors import EXIT_DONE, EXIT_USER, UserError, nearest
from cooper_jax.policy import load_stage, make_policy
from cooper_jax.rollouts import generate
from cooper_jax.rollouts.prompts import Item, modes_of, trunk_of
from cooper_jax.training import workdir

TRAINED = ("grpo", "sft")  # the later stage first
AFTER = ("both", "depth", "segmentation", "adaptive")  # the first that it has
ROOMS_ONLY = "the model knows rendered rooms only, and takes this for one"
OWN_ONLY = "the model knows pictures like those of its training only"


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
  add("--stage", choices=TRAINED, help="policy of a workdir; default the last")
  add("--mode", help="adaptive (default) draws as it likes")
  add("--out", type=path, help="PNG or folder to write to; default runs/ask")
  add("--json", action="store_true", help="print one JSON object, no text")
  return parser.parse_args(argv)


def as_written(question: str) -> str:
  """In: "Which is closer, a or b?"   Out: "Which is closer , a or b ?"."""
  spaced = re.sub(r"\s*([,;:?!.])(?=\s|$)", r" \1", question)
  return " ".join(spaced.split())


def check(asked) -> None:
  """Finds what is wrong before JAX is loaded, which takes seconds."""
  from cooper_jax.data import pictures
  from cooper_jax.report import answer_files

  for number, question in enumerate(asked.question, 1):
    if not question.strip():
      raise UserError(f"question {number} is empty; write it in quotes")
    try:
      question.encode("utf-8")
    except UnicodeEncodeError as error:  # bytes of another encoding
      raise UserError(f"question {number} is no UTF-8") from error
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


def make(config, whose):
  """The policy of a config that another version may have written."""
  try:
    return make_policy(config)
  except (AttributeError, KeyError, TypeError) as error:
    raise UserError(
      f"{whose} was made by another version of cooper_jax ({error}); ask it"
      " with that version"
    ) from error


def load(asked):
  """(config, policy, its parameters, codecs, what they are)."""
  from cooper_jax import package
  from cooper_jax.stages import tokenizer

  if not asked.workdir:
    folder = package.find(asked.package)
    config = workdir.to_config(package.read_manifest(folder)["config"])
    made = make(config, f"packaged model {folder.name}")
    codecs, params = package.load(config, made, folder)
    return config, made, params, codecs, f"packaged model {folder.name}"
  config = workdir.read_config(asked.workdir)
  wanted = (asked.stage,) if asked.stage else TRAINED
  found = [workdir.record(asked.workdir, stage) for stage in wanted]
  done = [s for s, r in zip(wanted, found, strict=True) if r and r["finished"]]
  if not done:
    raise UserError(
      f"{asked.workdir} has no finished {' or '.join(wanted)}; train it with"
      " python -m cooper_jax.main"
    )
  made = make(config, asked.workdir)
  codecs = tokenizer.load(config, asked.workdir)
  params = load_stage(made, config, asked.workdir, done[0], older=True)
  return config, made, params, codecs, f"{done[0]} of {asked.workdir}"


def look(asked, config):
  """(image u8 [H, W, 3], its scene's questions, () of a photograph)."""
  from cooper_jax.data import pictures
  from cooper_jax.data.sources import DataConfig
  from cooper_jax.world import scenes

  if asked.image is not None:
    where, size = f"--image={asked.image}", config.data.image_size
    return pictures.read_image(asked.image, size, where), ()
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
  return scene.image, scene.questions


def mode_for(name: str, modes) -> str:
  if name not in modes:
    raise UserError(
      f"--mode={name}: this model has {', '.join(modes)}{nearest(name, modes)}"
    )
  return name


def choose(asked, own, modes) -> tuple[list[str], str, bool]:
  """(questions, mode, whether they are also answered at once).

  Of a scene one question that needs a map shows what the model does.
  """
  both = asked.scene is not None and not asked.question and not asked.all
  first = next(mode for mode in AFTER if mode in modes)
  mode = mode_for(asked.mode or (first if both else "adaptive"), modes)
  if asked.question:
    return asked.question, mode, both
  if both:
    own = [question for question in own if question.needs] or own
    own = own[:1]
  if not own:
    raise UserError(f"scene {asked.scene} has no questions; ask one of yours")
  twice = both and "direct" in modes and mode != "direct"
  return [question.text for question in own], mode, twice


def answers(asked) -> dict:
  """Answers the questions and writes the pictures: gives what --json prints."""
  check(asked)
  import jax

  from cooper_jax.eval import trace
  from cooper_jax.parallel import mesh
  from cooper_jax.report import answer_files
  from cooper_jax.runtime import compilation
  from cooper_jax.stages import tokenizer

  compilation.use_cache("", fallback=Path("compiled"))
  one = mesh.make_mesh(devices=jax.devices()[:1])
  with jax.set_mesh(one), compilation.effort(quick=True):
    config, policy, params, codecs, name = load(asked)
    image, own = look(asked, config)
    taught = (
      tokenizer.trained_on(asked.workdir, codecs) if asked.workdir else None
    )
    modes = modes_of(policy, config.sft.shares, taught)
    questions, mode, twice = choose(asked, own, modes)
    known, sample = trace.world_words(), types.SimpleNamespace(image=image)
    texts = [trace.as_known(as_written(text), known) for text in questions]
    items = [Item(sample, types.SimpleNamespace(text=text)) for text in texts]
    options = {"batch": 1, "buckets": config.sampling.prompt_buckets}
    refuse_long(items, policy, options["buckets"])
    view = generate.respond(policy, params, items, mode, codecs, **options)
    if twice:
      direct = generate.respond(
        policy, params, items, "direct", codecs, **options
      )
  photograph = None if asked.image is None else Path(asked.image)
  about = f"scene-{asked.scene}" if photograph is None else asked.image
  outs = answer_files.pages(
    asked.out, about, questions, f"{name} {mode}", photograph
  )
  true = {question.text: question.answer for question in own}
  photo = image if photograph is None else photographed(photograph)
  note = None if photograph is None else told_of(config.data.source)
  found = []
  for i, text in enumerate(texts):
    said = trace.read(view.text[i])
    answer = {
      "question": " ".join(questions[i].split()),
      "unknown_words": trace.unknown(text, known),
      "response": view.text[i],
      "answer": said.answer,
      "true": true.get(text),
      "malformed": said.fault,
      "places": trace.places(view.text[i]),
    }
    if twice:
      answer["at_once"] = trace.read(direct.text[i]).answer
    outs[i].parent.mkdir(parents=True, exist_ok=True)
    draw(photo, view.maps[i], codecs, answer, outs[i], note)
    drawn = [(drawn.modality, drawn.target) for drawn in view.maps[i]]
    answer["maps"] = answer_files.write_maps(outs[i], drawn, photograph)
    found.append(answer | {"picture": str(outs[i])})
  return {
    "model": name,
    "mode": mode,
    "about": about,
    "notes": [note] if note else [],
    "answers": found,
  }


def told_of(source: str) -> str:
  """What is said of a photograph to a model of these data sources."""
  return ROOMS_ONLY if source == "world" else OWN_ONLY


def refuse_long(items, policy, buckets) -> None:
  """Raises UserError for a question that is longer than any that was taught."""
  from cooper_jax.sampling import prompts

  for number, item in enumerate(items, 1):
    try:
      prompts.bucket([trunk_of(item, policy)], policy.form, buckets)
    except UserError as error:
      raise UserError(
        f"question {number} is too long for this model; shorten it ({error})"
      ) from error


def photographed(path: Path):
  """The photograph upright in its own aspect and size, if not too large.

  u8 [H, W, 3]. It has been read before, so its header is right.
  """
  import numpy as np
  from PIL import Image

  from cooper_jax.data import pictures
  from cooper_jax.report import answer_page

  where = f"--image={path}"
  wide, high = pictures.read_frame(path, where).upright
  scale = min(1.0, answer_page.LARGEST / max(wide, high))
  shape = [max(1, round(side * scale)) for side in (wide, high)]
  square = pictures.read_image(path, max(shape), where)
  picture = Image.fromarray(square).resize(shape, Image.Resampling.LANCZOS)
  return np.asarray(picture)


def draw(
  photo, maps, codecs, answer: dict, out: Path, note: str | None
) -> None:
  """The picture of an answer; with a note, maps lie over the photograph."""
  from PIL import Image

  from cooper_jax.eval import trace
  from cooper_jax.report import answer_page

  shown = [(codecs[m.modality].modality.TITLE, m.target) for m in maps]
  text = trace.numbered(answer["response"])
  lines = [(line.strip(), False) for line in trace.tell(text).splitlines()]
  lines = [line for line in lines if not line[0].startswith("answer:")]
  if "at_once" in answer:
    lines.insert(0, (f"at once: {answer['at_once'] or '(nothing)'}", True))
  end = "after drawing" if maps and "at_once" in answer else "answer"
  lines.append((f"{end}: {answer['answer'] or '(nothing)'}", True))
  if answer["true"]:
    lines.append((f"true: {answer['true']}", True))
  if answer["unknown_words"]:
    lines.append((unknown(answer), False))
  if note:
    lines.append((f"note: {note}", False))
  picture = answer_page.page(
    photo,
    shown,
    answer["places"],
    answer["question"],
    lines,
    over=note is not None,
  )
  Image.fromarray(picture).save(out, format="PNG")


def unknown(answer: dict) -> str:
  return f"note: unknown words: {', '.join(answer['unknown_words'])}"


def tell(said: dict) -> str:
  """What was answered, for a terminal."""
  from cooper_jax.eval import trace

  lines = [f"{said['model']}, mode {said['mode']}"]
  lines += [f"note: {note}" for note in said["notes"]]
  for answer in said["answers"]:
    lines += ["", answer["question"]]
    if answer["unknown_words"]:
      lines.append(f"  {unknown(answer)}")
    if "at_once" in answer:
      lines.append(
        f"  at once: {answer['at_once'] or '(nothing)'}; after drawing:"
      )
    lines.append(trace.tell(answer["response"]))
    if answer["true"]:
      lines.append(f"  true:   {answer['true']}")
    lines.append(f"  drawn:  {answer['picture']}")
  if any(answer["maps"] for answer in said["answers"]):
    lines += ["", "The maps lie beside the pictures, as .npy and .png."]
  return "\n".join(lines)


def main(argv=None) -> int:
  """Gives the exit code; prints one line where something is wrong."""
  errors.printable()
  asked = parse(argv)
  try:
    # Of --json nothing but the object goes to stdout.
    with contextlib.redirect_stdout(sys.stderr):
      said = answers(asked)
    print(json.dumps(said, indent=2) if asked.json else tell(said))
  except (UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  return EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
