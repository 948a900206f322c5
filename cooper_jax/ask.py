"""Asks a trained model about a picture of your own, or about a scene.

  python -m cooper_jax.ask --image=photo.png \\
    "Which is closer, the red ball or the blue table?"
  python -m cooper_jax.ask --workdir=runs/demo --scene=3

Asks the packaged model, or that of a run. Prints the reasoning and the answer,
and draws the maps it made beside the picture. The model has seen rendered rooms
only: of anything else it will speak as if it were one.
"""

import argparse
import os
import re
import sys
import types
from pathlib import Path

from cooper_jax import errors
from cooper_jax import workdir as workdirs
from cooper_jax.errors import EXIT_DONE, EXIT_USER, UserError, nearest

TRAINED = ("grpo", "sft")  # the later stage first
PLACE = re.compile(r"<at ([\d.]+) ([\d.]+)>")


def parse(argv=None):
  """Reads the command line."""
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.ask", description=__doc__.splitlines()[0]
  )
  add = parser.add_argument
  add("question", nargs="*", help="in quotes; several are asked one by one")
  about = parser.add_mutually_exclusive_group(required=True)
  about.add_argument("--image", help="PNG, JPEG, WEBP or BMP")
  about.add_argument(
    "--scene", type=int, metavar="N",
    help="scene N of the test split; without a question, its own are asked",
  )  # fmt: skip
  add(
    "--workdir",
    type=os.path.expanduser,
    help="of a run of cooper_jax.main that has trained SFT",
  )
  add(
    "--package",
    default="tiny",
    help="packaged model, by name or folder; of use without --workdir",
  )
  add("--stage", choices=TRAINED, help="policy of a workdir; default the last")
  add("--mode", default="adaptive", help="adaptive (default) draws as it likes")
  add("--out", help="PNG to write; default <image>-answer.png")
  return parser.parse_args(argv)


def as_written(question: str) -> str:
  """In: "Which is closer, a or b?"   Out: "Which is closer , a or b ?"."""
  spaced = re.sub(r"\s*([,;:?!.])(?=\s|$)", r" \1", question)
  return " ".join(spaced.split())


def check(asked) -> None:
  """Finds what is wrong before JAX is loaded, which takes seconds."""
  from cooper_jax.data import pictures

  if asked.image is not None:
    pictures.read_image(Path(asked.image), 8, f"--image={asked.image}")
    if not asked.question:
      raise UserError("nothing is asked; add a question in quotes")
  elif asked.scene < 0:
    raise UserError(f"--scene={asked.scene}; allowed: 0 and more")
  pages(asked, len(asked.question))


def pages(asked, count: int) -> list[Path]:
  """The picture that each question's answer is drawn to."""
  about = Path(f"scene-{asked.scene}" if asked.image is None else asked.image)
  out = Path(asked.out or about.with_name(f"{about.stem}-answer.png"))
  if out.suffix.lower() != ".png":
    raise UserError(f"--out={out}: the picture is a PNG; end it in .png")
  if not out.parent.is_dir():
    raise UserError(f"--out={out}: there is no folder {out.parent}")
  if count == 1:
    return [out]
  return [out.with_name(f"{out.stem}-{i}.png") for i in range(1, count + 1)]


def make(config, whose):
  """The policy of a config that another version may have written."""
  from cooper_jax import policy

  try:
    return policy.make(config)
  except (AttributeError, KeyError, TypeError) as error:
    raise UserError(
      f"{whose} was made by another version of cooper_jax ({error}); ask it"
      " with that version"
    ) from error


def load(asked):
  """(config, policy, its parameters, codecs, what they are)."""
  from cooper_jax import package, policy
  from cooper_jax.stages import tokenizer

  if not asked.workdir:
    folder = package.find(asked.package)
    config = workdirs.to_config(package.read_manifest(folder)["config"])
    made = make(config, f"packaged model {folder.name}")
    codecs, params = package.load(config, made, folder)
    return config, made, params, codecs, f"packaged model {folder.name}"
  config = workdirs.read_config(asked.workdir)
  wanted = (asked.stage,) if asked.stage else TRAINED
  found = [workdirs.record(asked.workdir, stage) for stage in wanted]
  done = [s for s, r in zip(wanted, found, strict=True) if r and r["finished"]]
  if not done:
    raise UserError(
      f"{asked.workdir} has no finished {' or '.join(wanted)}; train it with"
      " python -m cooper_jax.main"
    )
  made = make(config, asked.workdir)
  codecs = tokenizer.load(config, asked.workdir)
  params = policy.load_stage(made, config, asked.workdir, done[0], older=True)
  return config, made, params, codecs, f"{done[0]} of {asked.workdir}"


def look(asked, config):
  """(image u8 [H, W, 3], questions, their true answers or None)."""
  from cooper_jax.data import pictures
  from cooper_jax.data.scenes import world
  from cooper_jax.data.sources import DataConfig

  if asked.image is not None:
    where, size = f"--image={asked.image}", config.data.image_size
    image = pictures.read_image(Path(asked.image), size, where)
    return image, asked.question, [None] * len(asked.question)
  (scene,) = world.generate(
    DataConfig.from_config(config).world,
    split="test",
    start=asked.scene,
    count=1,
  )
  true = {question.text: question.answer for question in scene.questions}
  texts = asked.question or list(true)
  return scene.image, texts, [true.get(as_written(text)) for text in texts]


def answer(asked) -> None:
  """Answers the questions, prints and draws."""
  check(asked)
  import jax

  from cooper_jax import compilation
  from cooper_jax.eval import asking
  from cooper_jax.parallel import mesh as meshes

  compilation.use_cache("", fallback=Path("compiled"))
  one = meshes.make_mesh(devices=jax.devices()[:1])
  with jax.set_mesh(one), compilation.effort(quick=True):
    config, policy, params, codecs, name = load(asked)
    modes = asking.modes_of(policy, config.sft.shares)
    if asked.mode not in modes:
      raise UserError(
        f"--mode={asked.mode}: this model has {', '.join(modes)}"
        f"{nearest(asked.mode, modes)}"
      )
    image, questions, true = look(asked, config)
    outs = pages(asked, len(questions))
    sample = types.SimpleNamespace(image=image)
    items = [
      asking.Item(sample, types.SimpleNamespace(text=as_written(question)))
      for question in questions
    ]
    view = asking.respond(
      policy,
      params,
      items,
      asked.mode,
      codecs,
      batch=1,
      buckets=config.sampling.prompt_buckets,
    )
  print(f"{name}, mode {asked.mode}")
  for i, (question, out) in enumerate(zip(questions, outs, strict=True)):
    draw(image, view.text[i], view.maps[i], codecs, out)
    known = f"\n  true:   {true[i]}" if true[i] else ""
    print(f"\n{question}\n{tell(view.text[i])}{known}\n  drawn:  {out}")


def tell(text: str) -> str:
  """The response for a terminal: a line a thought, places numbered."""
  from cooper_jax.eval import view

  numbers = iter(range(1, 1000))
  text = PLACE.sub(lambda _: f"[{next(numbers)}]", text)
  found, rest = view.turns(text)
  lines = []
  for turn in found:
    lines.append(f"  thinks: {turn.thought}")
    drew = turn.action != "answer"
    lines.append(
      f"  draws:  {turn.action}" if drew else f"  answer: {turn.content}"
    )
  if rest:  # answered at once, or cut off
    at_once = re.fullmatch(r"<answer>(.*)</answer>", rest)
    lines.append(f"  answer: {at_once[1].strip()}" if at_once else f"  {rest}")
  return "\n".join(lines)


def draw(image, text, maps, codecs, out: Path) -> None:
  """The picture with the places that were named, and the maps beside it."""
  import matplotlib

  matplotlib.use("Agg")
  import matplotlib.pyplot as plt

  from cooper_jax.eval import drawing

  shown = {codecs[m.modality].modality.TITLE: m.target for m in maps}
  places = [(float(y), float(x)) for y, x in PLACE.findall(text)]
  figure = drawing.plot_maps(image, shown, "input", places)
  figure.savefig(out, dpi=150)
  plt.close(figure)


def main(argv=None) -> int:
  """Gives the exit code; prints one line where something is wrong."""
  errors.printable()
  try:
    answer(parse(argv))
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  except OSError as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  return EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
