"""Pages and lines of what a source reads: images, maps, names and metres.

python -m cooper_jax.data.show hypersim --root ~/hypersim -n 16 --out page.html
python -m cooper_jax.data.show ade20k --root ~/ADE20K --json --size=0

A page shows samples with their maps, the bars and names of their colours, and
their questions. As JSON each sample is a line: the sides of its image, metres
and pixels by class; `--size=0` at its own size, as a file holds it. What can't
be read is a line of stderr, and the command ends with 2.
"""

import argparse
import base64
import contextlib
import dataclasses
import html
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cooper_jax import plugins
from cooper_jax.data import check, mixture, splits, token_view
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import (
  EXIT_DONE,
  EXIT_USER,
  UserError,
  printable,
  unread,
)

MOST_PIXELS = 4096  # a side; more would fill the memory of a process
PAGE_SIDE = 192  # pixels a side on a page
ON_A_PAGE = 16  # samples on a page
HTML_HEAD = '<!doctype html><meta charset="utf-8"><title>'
PAGE_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:24px;color:#23262b;
background:#fcfbf8}
section{margin:0 0 28px;border-top:1px solid #e4e0d7;padding-top:10px}
figure{display:inline-block;margin:0 12px 0 0;vertical-align:top}
figcaption{font-size:13px;color:#667;max-width:260px}
i{display:inline-block;width:11px;height:11px;margin:0 4px 0 8px}
.bar{height:10px;width:100%}
.read,.learned{font:12px monospace;border:1px solid #e4e0d7;color:#99a;
white-space:pre}
.learned{color:#111;background:#e3efdf}
"""


@dataclasses.dataclass(frozen=True)
class Shown:
  """One sample as it is read: its image RGB, its maps, its questions."""

  id: str
  image: np.ndarray | None  # u8 [h, w, 3]; None where only its maps are there
  maps: dict[str, np.ndarray]
  questions: tuple = ()


def config_of(
  source: str, root: str, *, size: int = PAGE_SIDE, fields=None, maps=None
) -> DataConfig:
  """The settings that read one source from a folder, or a JSONL file.

  fields: more fields of the source's Config. maps: of `config.maps`; what the
  source itself says suits it, where none are given.
  """
  name, _, _ = source.partition(":")
  plugins.check("sources", name)
  module = plugins.find("sources", name)
  settings = {}
  if hasattr(module, "Config"):
    names = [field.name for field in dataclasses.fields(module.Config)]
    place = "root" if "root" in names else names[0]
    own = {**({place: root} if root else {}), **(fields or {})}
    settings = {name: module.Config(**own)}
  given = {
    name: dict(each) for name, each in getattr(module, "MAPS", {}).items()
  }
  for which, each in (maps or {}).items():
    given.setdefault(which, {}).update(each)
  config = DataConfig(
    source=source, settings=settings, image_size=size or PAGE_SIDE, maps=given
  )
  # What is built has its own size and classes.
  suited = getattr(module, "suited", lambda config: config)
  return suited(config)


def opened(config: DataConfig, split: str):
  """A split's samples; "all": those of every split, as they are listed."""
  module = plugins.find("sources", config.names[0])
  if split != "all":
    return mixture.open_split(config, split)
  if hasattr(module, "DATA"):
    return module.DATA.opened(config, module.DATA.listed(config))
  if hasattr(module, "everything"):
    return module.everything(config)
  return mixture.open_split(config, splits.NAMES[0])


def read(source, index: int, *, native: bool) -> Shown:
  """One sample, at its own size or as training gets it."""
  if native and hasattr(source, "native"):
    image, maps = source.native(index)
    names = getattr(source, "listed", None) or source.entries
    asked = mixture.questions_of(source, index)
    return Shown(names[index].id, np.asarray(image), maps, asked)
  sample = source[index]
  return Shown(sample.id, sample.image, sample.maps, sample.questions)


def line(shown: Shown, modules) -> dict:
  """What `--json` prints of a sample."""
  sides = None if shown.image is None else list(shown.image.shape[:2])
  found = {"id": shown.id, "image": sides}
  for name, target in shown.maps.items():
    key, value = modules[name].describe(target)
    found[key] = value
  return found


def without_image(source, index: int) -> Shown | None:
  """The maps of a sample whose image can't be read, None without any."""
  if not hasattr(source, "map_alone"):
    return None
  maps = {}
  for name in source.listed[index].maps:
    with contextlib.suppress(UserError):
      maps[name] = source.map_alone(index, name)
  return Shown(source.listed[index].id, None, maps) if maps else None


def page(
  title: str, samples: Sequence[Shown], modules, *, tokens: bool = False
) -> str:
  """One HTML file that loads nothing from anywhere.

  tokens: those of each question and its trace, too; with loss they are dark.
  """
  body = "".join(_section(each, modules, tokens) for each in samples)
  return (
    f"{HTML_HEAD}{html.escape(title)}</title>"
    f"<style>{PAGE_STYLE}</style><h1>{html.escape(title)}</h1>{body}"
  )


def check_out(out: Path) -> None:
  """UserError unless a page may be written here: over a page, or nothing.

  So no data, and no file of another command, is lost.
  """
  if out.suffix.lower() != ".html" or out.is_dir():
    raise UserError(f"--out={out}: the page is HTML; end it in .html")
  if out.exists() and not _is_page(out):
    raise UserError(
      f"--out={out} is there and is no page of this command; choose another"
    )


def _is_page(file: Path) -> bool:
  """Whether a file is a page of samples, or empty."""
  if not file.is_file():
    return False
  with file.open("rb") as raw:
    head = raw.read(1 << 16)  # a title holds a path
  style = PAGE_STYLE.split()[0].encode()
  return not head or (head.startswith(HTML_HEAD.encode()) and style in head)


def _tokens(question, maps) -> str:
  """The tokens of a question and its trace; those with loss are marked."""
  try:
    found = token_view.of_question(question, maps)
  except UserError as error:
    return f"<p>{html.escape(str(error))}</p>"
  return "<p>{}</p>".format(
    "".join(
      f"<span class={'learned' if each.learned else 'read'}>"
      f"{html.escape(each.text)}</span>"
      for each in found
    )
  )


def _section(shown: Shown, modules, tokens: bool) -> str:
  said = [_figure("image", shown.image)]
  for name, target in shown.maps.items():
    module = modules[name]
    said.append(_figure(name, module.picture(target), _key(module, target)))
  asked = "".join(
    f"<p>{html.escape(q.text)} <b>{html.escape(q.answer)}</b></p>"
    f"{_tokens(q, shown.maps) if tokens else ''}"
    for q in shown.questions
  )
  return (
    f"<section><h3>{html.escape(shown.id)}</h3>{''.join(said)}{asked}</section>"
  )


def _figure(caption: str, picture, more: str = "") -> str:
  file = io.BytesIO()
  Image.fromarray(np.asarray(picture)).save(file, "PNG")
  data = base64.b64encode(file.getvalue()).decode()
  return (
    f'<figure><img width="{PAGE_SIDE}" src="data:image/png;base64,{data}">'
    f"<figcaption>{html.escape(caption)}{more}</figcaption></figure>"
  )


def _key(module, target) -> str:
  """The names of colours, or a bar of them with its ends."""
  said = "".join(
    f'<i style="background:rgb{tuple(colour)}"></i>{html.escape(name)}'
    for colour, name in module.legend([target])
  )
  bar = module.scale([target])
  if bar:
    stops = ",".join(
      f"rgb({r},{g},{b})" for r, g, b in np.asarray(bar.colours)[::16].tolist()
    )
    said += (
      f'<div class="bar" style="background:linear-gradient(90deg,{stops})">'
      f"</div>{bar.low:.3g} to {bar.high:.3g} {html.escape(bar.unit)}"
    )
  return said


def fields(source: str, written: Sequence[str]) -> dict:
  """Fields of a source's Config, of FIELD=VALUE."""
  module = plugins.find("sources", source.partition(":")[0])
  defaults = getattr(module, "Config", lambda: None)()
  given = {}
  for each in written:
    name, _, value = each.partition("=")
    before = getattr(defaults, name, None)
    if before is None:
      raise UserError(f"--set={each}: source {source} has no setting {name!r}")
    kind = type(before)
    if kind is bool and value.lower() not in ("true", "false"):
      raise UserError(f"--set={each}: {name} is True or False")
    if kind is tuple:
      given[name] = tuple(part.strip() for part in value.split(","))
      continue
    try:
      given[name] = value.lower() == "true" if kind is bool else kind(value)
    except (ValueError, TypeError) as error:
      raise UserError(f"--set={each}: {error}") from error
  return given


def add_source(parser: argparse.ArgumentParser) -> None:
  """Words that say which source is read, and how; `asked_of` reads them."""
  add = parser.add_argument
  add("source", help=f"one of {', '.join(plugins.names('sources'))}")
  add("--root", default="", help="its folder; of jsonl its file")
  add(
    "--set", action="append", default=[], metavar="FIELD=VALUE",
    help="a setting of the source",
  )  # fmt: skip
  check.add_maps(parser)


def asked_of(asked: argparse.Namespace, *, size: int) -> DataConfig:
  """`config_of` what `add_source` added."""
  return config_of(
    asked.source,
    asked.root,
    size=size,
    fields=fields(asked.source, asked.set),
    maps=check.set_up(asked.maps),
  )


def main(argv=None) -> int:
  """Prints or writes what is read; gives the exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.data.show",
    description="Shows what a source reads of a folder.",
    epilog="Ends with 0, or with 2 where a sample can't be read.",
  )
  add_source(parser)
  add = parser.add_argument
  add("-n", type=int, help="samples, 0 = all (16; all with --json)")
  add("--split", default="all", choices=("all", *splits.NAMES))
  add("--json", action="store_true", help="prints a line a sample")
  add("--size", type=int, help="pixels a side, 0 = as the files are")
  add(
    "--tokens",
    action="store_true",
    help="of questions and traces; those with loss are marked",
  )
  add("--out", default="show.html", help="the page to write (show.html)")
  asked = parser.parse_args(argv)
  printable()
  if (asked.n or 0) < 0 or not 0 <= (asked.size or 0) <= MOST_PIXELS:
    parser.error(
      f"-n and --size are 0 or more, --size at most {MOST_PIXELS} pixels a side"
    )
  try:
    return _run(asked)
  except BrokenPipeError:
    unread()
    return EXIT_DONE
  except (UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER


def _run(asked) -> int:
  out = Path(asked.out).expanduser()
  if not asked.json:
    check_out(out)
  size = PAGE_SIDE if asked.size is None else asked.size
  config = asked_of(asked, size=size)
  source, modules, errors = opened(config, asked.split), config.modalities, 0
  most = (0 if asked.json else ON_A_PAGE) if asked.n is None else asked.n
  places = range(len(source))
  if most and most < len(source):  # spread over all
    places = np.linspace(0, len(source) - 1, most).astype(int).tolist()
  samples = []
  for index in places:
    try:
      shown = read(source, index, native=asked.size == 0)
    except UserError as error:
      print(f"error: {error}", file=sys.stderr)
      errors += 1
      shown = without_image(source, index) if asked.json else None
    if shown is not None and asked.json:
      print(json.dumps(line(shown, modules)), flush=True)
    elif shown is not None:
      samples.append(shown)
  if not asked.json:
    out.parent.mkdir(parents=True, exist_ok=True)
    title = f"{asked.source} {asked.root}"
    shown = page(title, samples, modules, tokens=asked.tokens)
    out.write_text(shown, encoding="utf-8")
    print(f"{len(samples)} of {len(source):,} samples: {out}")
  return EXIT_USER if errors else EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
