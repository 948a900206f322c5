"""Speed of the world: scenes that one core makes a second, end to end.

  python -m cooper_jax.world.tools.bench --sizes=64,128 --seconds=3

Everything counts: drawing numbers, layout, rendering with shadows and
antialiasing, maps, questions, gold reasoning. CPU seconds of one process, so
other work on the machine does not enter (its use of the caches does).
"""

from __future__ import annotations

import argparse
import math
import sys
import time

from cooper_jax.errors import EXIT_DONE, EXIT_USER, UserError, printable
from cooper_jax.world.config import WorldConfig
from cooper_jax.world.layout import sample
from cooper_jax.world.questions import assemble, labels, measure, select
from cooper_jax.world.render import render
from cooper_jax.world.scenes import BATCH_SCENES, generate


def scenes_per_second(config: WorldConfig, seconds: float) -> dict:
  """Scenes, questions and per-step milliseconds of one core."""
  generate(config, split="train", start=0, count=BATCH_SCENES)
  steps = {"layout": 0.0, "render": 0.0, "facts": 0.0, "words": 0.0}
  scenes = questions = 0
  begin = time.process_time()
  while time.process_time() - begin < seconds:
    t0 = time.process_time()
    drawn = sample.sample(
      config, split="train", start=scenes, count=BATCH_SCENES
    )
    t1 = time.process_time()
    pictures = render.render(drawn, config)
    t2 = time.process_time()
    known = measure.gather(drawn, pictures, config)
    t3 = time.process_time()
    picks = select.choose(drawn, known, config, "train")
    text = labels.Words(known)
    asked = assemble.questions(
      picks, text, most=config.max_questions, split="train"
    )
    for b in range(BATCH_SCENES):
      assemble.grounding(text, b)
    t4 = time.process_time()
    for name, spent in zip(steps, (t1 - t0, t2 - t1, t3 - t2, t4 - t3)):
      steps[name] += spent
    scenes += BATCH_SCENES
    questions += sum(map(len, asked))
  total = sum(steps.values())
  return {
    "scenes": scenes / total,
    "questions": questions / total,
    **{name: 1e3 * spent / scenes for name, spent in steps.items()},
  }


def main(argv=None) -> int:
  """Prints a line a size; gives the exit code."""
  printable()
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.world.tools.bench",
    description=__doc__.splitlines()[0],
  )
  parser.add_argument("--sizes", default="64,128")
  parser.add_argument("--seconds", type=float, default=3.0)
  options = parser.parse_args(argv)
  try:
    if not 0 < options.seconds < math.inf:
      raise UserError(f"--seconds={options.seconds:g}: give some above 0")
    sizes = options.sizes.split(",")
    if not all(size.strip().isdecimal() for size in sizes):
      raise UserError(
        f"--sizes={options.sizes}: write whole numbers, as in 64,128"
      )
    configs = [WorldConfig(image_size=int(size)) for size in sizes]
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  for config in configs:
    rate = scenes_per_second(config, options.seconds)
    steps = ", ".join(
      f"{name} {rate[name]:.2f}"
      for name in ("layout", "render", "facts", "words")
    )
    print(
      f"{config.image_size:>4} px: {rate['scenes']:.0f} scenes and"
      f" {rate['questions']:.0f} questions per core second (ms: {steps})"
    )
  return EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
