"""Check of own data: every error of every line and file, and what it holds.

python -m cooper_jax.data.check own/lines.jsonl --out=sheet.png

Nothing is trained and nothing is written but the sheet. Ends with 2 where
anything is wrong, so that a script can stop there. A path may hold {split}.
"""

import argparse
import collections
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from cooper_jax import modalities
from cooper_jax.data import fitting, kept_files, mixture, survey
from cooper_jax.data.entries import JsonlSource
from cooper_jax.data.sources import DataConfig, jsonl
from cooper_jax.errors import (
  EXIT_DONE,
  EXIT_USER,
  UserError,
  nearest,
  printable,
  unread,
)
from cooper_jax.pictures import drawing
from cooper_jax.sequences import lens
from cooper_jax.tokenizers.text import TextTokenizer

TILE_SIDE, GAP, TEXT_HEIGHT, MARGIN = 128, 6, 34, 12  # pixels of the sheet
COLUMNS = 3  # samples side by side
INK, QUIET, PAPER = (35, 38, 43), (110, 114, 122), (252, 251, 248)


def counts(found: dict[str, survey.Survey]) -> dict:
  """All that is counted, flat enough for JSON; found: split -> Survey."""
  entries = [e for each in found.values() for e in each.entries]
  asked = [(e, q) for e in entries for q in e.questions]
  result = {
    "files": [str(each.path) for each in found.values()],
    "images": len(entries),
    "questions": len(asked),
    "answer_types": _tally(q.answer_type for _, q in asked),
    "families": _tally(q.family for _, q in asked),
    "reasoning": sum(bool(q.reasoning) for _, q in asked),
    "maps": {n: survey.have(entries, n) for n in modalities.names()},
    **{title: value for title, value, _ in overviews(found)},
    "splits": {
      split: {
        "images": len(each), "questions": sum(len(e.questions) for e in each)
      }
      for split, each in survey.by_split(found).items()
    },
    "notes": survey.repeated(found),
    "longest_question": longest(asked),
  }  # fmt: skip
  errors = [error for each in found.values() for error in each.errors]
  return result | {"errors": errors + too_long(found)}


def overviews(found: dict[str, survey.Survey]) -> list[tuple]:
  """(title, JSON value, words) of the maps of each modality."""
  return [
    module.overview(
      [s for each in found.values() for s in each.summaries[name]]
    )
    for name, module in own(found).items()
  ]


def own(found: dict[str, survey.Survey]) -> dict:
  """The modalities as all the files were read."""
  return dict(next(iter(found.values())).modalities)


def longest(asked) -> dict | None:
  """The question of the most tokens, as a prompt counts them."""
  if not asked:
    return None
  text = TextTokenizer.load()
  # No token has less than a byte, so few need to be counted.
  order = sorted(asked, key=lambda pair: -len(pair[1].text.encode()))
  best = None
  for entry, question in order:
    if best and len(question.text.encode()) + 1 <= best["tokens"]:
      break
    tokens = len(text.encode(" " + question.text.strip()))
    if best is None or tokens > best["tokens"]:
      best = {
        "tokens": tokens, "characters": len(question.text),
        "image": entry.image, "line": entry.line,
      }  # fmt: skip
  return best


def too_long(found: dict[str, survey.Survey]) -> list[str]:
  """Questions that no prompt of the default settings has room for."""
  text, room, errors = TextTokenizer.load(), default_room(), []
  for each in found.values():
    for entry in each.entries:
      for question in entry.questions:
        said = question.text.strip()
        if len(said.encode()) + 1 <= room:
          continue  # no token has less than a byte
        tokens = len(text.encode(" " + said))
        if tokens > room:
          errors.append(
            f"{each.path}:{entry.line}: a question of its image takes"
            f" {tokens:,} tokens, the default prompts have room for {room};"
            " ask less, or train with larger config.sampling.prompt_buckets"
          )
  return errors


def _tally(values) -> dict[str, int]:
  return dict(collections.Counter(values).most_common())


def default_room() -> int:
  """Tokens of a question that the largest default prompt has room for."""
  from configs import base

  config = base.get_base("long", ("sft",))
  vision = config.model.vision
  cell = vision.patch * max(vision.merge, 1)
  cells = (config.data.image_size // cell) ** 2
  told = 0
  if config.data.tell_lens:
    told = len(TextTokenizer.load().encode(f" {lens.LONGEST_LENS}"))
  return max(config.sampling.prompt_buckets) - cells - 1 - told  # <user>


def lines_of(found: dict, maps: list[tuple], most: int) -> list[str]:
  """What is printed of `counts`, with at most `most` errors (0: all).

  maps: the overviews of the modalities.
  """
  listed = lambda pairs: ", ".join(f"{n} {c:,}" for n, c in pairs.items())  # noqa: E731
  lines = [f"data          {', '.join(found['files'])}"]
  lines.append(
    f"images        {found['images']:,}, with {listed(found['maps'])}"
  )
  lines.append(
    f"questions     {found['questions']:,}, {found['reasoning']:,} with a trace"
  )
  if found["questions"]:
    lines.append(f"answers       {listed(found['answer_types'])}")
    lines.append(f"families      {listed(found['families'])}")
  lines += [f"{title:13s} {words}" for title, _, words in maps if words]
  for split, each in found["splits"].items():
    lines.append(
      f"{split:13s} {each['images']:,} images, {each['questions']:,} questions"
    )
  lines += [f"note          {note}" for note in found["notes"]]
  if found["longest_question"]:
    best, room = found["longest_question"], default_room()
    fits = "fits" if best["tokens"] <= room else "is too long for"
    lines.append(
      f"longest       {best['characters']:,} characters, {best['tokens']:,}"
      f" tokens (the image of line {best['line']}); it {fits} the default"
      f" prompts, of {room} tokens"
    )
  errors = found["errors"]
  shown = errors[: most or None]
  lines += [f"errors        {len(errors):,}" if errors else "no errors"]
  lines += [f"  {error}" for error in shown]
  if len(shown) < len(errors):
    lines.append(f"  and {len(errors) - len(shown):,} more (--errors=0: all)")
  return lines


def sheet(samples, titles, modules) -> np.ndarray:
  """A contact sheet u8 [H, W, 3]: image and maps under a title.

  modules: name -> modality, as it was set up to read the maps.
  """
  font = ImageFont.load_default(size=11)
  columns = max(1, min(COLUMNS, len(samples)))
  rows = -(-len(samples) // columns)
  shown = 1 + len(modalities.names())
  across = shown * TILE_SIDE + (shown - 1) * GAP + 2 * MARGIN
  down = TILE_SIDE + TEXT_HEIGHT + GAP
  page = Image.new("RGB", (columns * across, rows * down + MARGIN), PAPER)
  pen = ImageDraw.Draw(page)
  for i, (sample, (name, asked)) in enumerate(
    zip(samples, titles, strict=True)
  ):
    x = (i % columns) * across + MARGIN
    y = (i // columns) * down + MARGIN // 2
    pen.text((x, y), _cut(name, font, across), fill=INK, font=font)
    pen.text((x, y + 14), _cut(asked, font, across), fill=QUIET, font=font)
    pictures = [("", sample.image)]
    for which, module in modules.items():
      target = module.read(sample)
      drawn = None if target is None else module.picture(target)
      pictures.append((which, drawn))
    for k, (which, picture) in enumerate(pictures):
      left, top = x + k * (TILE_SIDE + GAP), y + TEXT_HEIGHT
      if picture is None:
        box = (left, top, left + TILE_SIDE - 1, top + TILE_SIDE - 1)
        pen.rectangle(box, outline=(220, 218, 212))
        pen.text((left + 8, top + 8), f"{which}: none", QUIET, font)
      else:
        shown = Image.fromarray(np.asarray(picture))
        if max(shown.size) != TILE_SIDE:  # of another shape than the square
          shown = ImageOps.contain(shown, (TILE_SIDE, TILE_SIDE))
        page.paste(shown, (left, top))
  return np.asarray(page)


def _cut(text: str, font, width: int) -> str:
  """As much of a text as a column holds; what the font lacks as "?"."""
  text = text.encode("latin-1", "replace").decode("latin-1")
  room = width - 2 * MARGIN
  text = text[: room + 1]  # no letter has less than a pixel
  if font.getlength(text) <= room:
    return text
  while text and font.getlength(text + "...") > room:
    text = text[:-1]
  return text + "..."


def chosen(found: dict[str, survey.Survey], count: int):
  """Samples spread over the files, read, and a title each: (name, question)."""
  every = [(each, entry) for each in found.values() for entry in each.sound]
  places = np.linspace(0, len(every) - 1, min(count, len(every)))
  samples, titles = [], []
  for each, entry in (every[i] for i in np.unique(places.astype(int))):
    modules = each.modalities
    source = JsonlSource(
      each.path, [entry], TILE_SIDE, fit=each.fit, modalities=modules
    )
    samples.append(source[0])
    span = spans(samples[-1], modules)
    asked = entry.questions[:1]
    titles.append(
      (
        f"{entry.id} (line {entry.line}){span}",
        "".join(f"{q.text.strip()}  {q.answer}" for q in asked),
      )
    )
  return samples, titles


def spans(sample, modules) -> str:
  """The range that the colours of its maps stand for.  ", 0.9 to 7.5 m" """
  said = ""
  for module in modules.values():
    found = module.scale([module.read(sample)])
    said += (
      f", {found.low:.2g} to {found.high:.2g} {found.unit}" if found else ""
    )
  return said


def set_up(settings: Sequence[str]) -> dict[str, dict]:
  """Fields by modality, of NAME.FIELD=VALUE; UserError where it has none."""
  given: dict[str, dict] = {}
  defaults = modalities.default_settings()
  for each in settings:
    named, _, value = each.partition("=")
    name, _, field = named.partition(".")
    before = _settable(defaults.get(name)).get(field)
    if before is None:
      allowed = [f"{n}.{f}" for n, d in defaults.items() for f in _settable(d)]
      raise UserError(
        f"--maps={each}: write NAME.FIELD=VALUE, a setting of config.maps;"
        f" allowed are {', '.join(allowed)}{nearest(named, allowed)}"
      )
    try:
      given.setdefault(name, {})[field] = type(before)(value)
    except ValueError as error:
      raise UserError(f"--maps={each}: {error}") from error
  return given


def add_maps(parser: argparse.ArgumentParser) -> None:
  """The word whose values `set_up` reads."""
  parser.add_argument(
    "--maps",
    action="append",
    default=[],
    metavar="NAME.FIELD=VALUE",
    help="a setting of config.maps; as often as there are any",
  )


def _settable(settings) -> dict[str, float | str]:
  """Field -> default of a modality's Config, of those that are one word."""
  fields = dataclasses.asdict(settings) if settings is not None else {}
  return {n: v for n, v in fields.items() if isinstance(v, (float, str))}


def opening_errors(
  written: str, maps=None, fit: str = fitting.SQUASH
) -> list[str]:
  """What a run would refuse when it opens the splits, files aside.

  maps: what `config.maps` sets, by modality; fit: as `config.data.fit`.
  """
  path = {"jsonl": jsonl.Config(path=written)}
  config = DataConfig(source="jsonl", settings=path, maps=maps or {}, fit=fit)
  errors = []
  for split in survey.splits.NAMES:
    try:
      mixture.open_split(config, split)
    except UserError as error:
      errors.append(str(error))
  return list(dict.fromkeys(errors))


def main(argv=None) -> int:
  """Prints what was found; gives the exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.data.check",
    description="Checks own data: all errors of all lines and files, counts,"
    " ranges of depth, classes, sizes of the splits.",
    epilog="Ends with 0, or with 2 where anything is wrong.",
  )
  parser.add_argument("file", help="the JSONL file; may hold {split}")
  parser.add_argument("--out", help="PNG of a contact sheet to write")
  parser.add_argument(
    "--rows", type=int, default=24, help="samples on the sheet (24)"
  )
  parser.add_argument(
    "--errors", type=int, default=50, help="errors shown, 0 = all (50)"
  )
  parser.add_argument(
    "--json", action="store_true", help="prints all of it as JSON"
  )
  add_maps(parser)
  parser.add_argument(
    "--fit",
    default=fitting.SQUASH,
    help="config.data.fit of the run (squash)",
  )
  asked = parser.parse_args(argv)
  printable()
  try:
    fitting.check(asked.fit)
    maps = set_up(asked.maps)
    modules = {n: modalities.set_up(n, maps.get(n)) for n in modalities.names()}
    found = {
      split: survey.look(path, own=modules, fit=asked.fit)
      for split, path in survey.paths_of(asked.file).items()
    }
    result = counts(found)
    if not result["errors"]:
      result["errors"] = opening_errors(asked.file, maps, asked.fit)
    if asked.json:
      print(json.dumps(result, indent=2), flush=True)
    else:
      lines = lines_of(result, overviews(found), max(0, asked.errors))
      print("\n".join(lines), flush=True)
    if asked.out:
      draw(found, Path(asked.out).expanduser(), max(1, asked.rows))
  except BrokenPipeError:
    unread()
  except (UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  return EXIT_USER if result["errors"] else EXIT_DONE


def draw(found: dict[str, survey.Survey], out: Path, rows: int) -> None:
  """Writes the contact sheet; UserError where that is a file that is read."""
  if out.suffix.lower() != ".png" or out.is_dir():
    raise UserError(f"--out={out}: the sheet is a PNG; end it in .png")
  for each in found.values():
    kept_files.keep_off(out, kept_files.of_lines(each.path))
  samples, titles = chosen(found, rows)
  if samples:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(drawing.png(sheet(samples, titles, own(found))))


if __name__ == "__main__":
  sys.exit(main())
