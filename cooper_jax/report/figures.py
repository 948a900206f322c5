"""Small SVG figures for the report: curves and interval plots.

Drawn by hand so that they are a few kilobytes, follow the page's light, dark
and print colours through CSS classes, and keep their labels legible on a
phone. No script, no library.
"""

import html
import math

import numpy as np

WIDTH, HEIGHT = 340, 178
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 24
MOST_POINTS = 240  # per line; more can not be seen at this width


def curve(steps, values, *, title):
  """One metric against the step: the raw line faint, its mean path bold.

  Values that are not finite leave gaps. Returns an SVG string.
  """
  steps = np.asarray(steps, np.float64)
  values = np.asarray(values, np.float64)
  finite = np.isfinite(values)
  if not finite.any():
    return _svg(WIDTH, HEIGHT, title, _text(WIDTH / 2, HEIGHT / 2, "no data"))
  shown = values[finite]
  if len(shown) > 20:  # one early spike must not flatten all that follows
    low, high = np.percentile(shown, [0.5, 99])
    low, high = min(low, shown[-1]), max(high, shown[-1])
  else:
    low, high = shown.min(), shown.max()
  ticks = nice_ticks(low, high)
  low, high = min(low, ticks[0]), max(high, ticks[-1])
  first, last = steps.min(), max(steps.max(), steps.min() + 1)

  def x(step):
    return LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT)

  def y(value):
    share = (np.clip(value, low, high) - low) / (high - low)
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

  parts = []
  for tick in ticks:
    parts.append(
      f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}"'
      f' y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
    )
    parts.append(_text(LEFT - 6, y(tick) + 4, short(tick), "end"))
  parts.append(_text(LEFT, HEIGHT - 6, short(first), "start"))
  parts.append(_text(WIDTH - RIGHT, HEIGHT - 6, short(last), "end"))
  parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "step"))
  bold = smooth(values)
  if len(shown) > 12:
    parts.append(f'<path class="raw" d="{_path(x, y, steps, values)}"/>')
  parts.append(f'<path class="mean" d="{_path(x, y, steps, bold)}"/>')
  if len(shown) == 1:
    parts.append(
      f'<circle class="dot" cx="{x(steps[finite][0]):.1f}"'
      f' cy="{y(shown[0]):.1f}" r="3.5"/>'
    )
  return _svg(WIDTH, HEIGHT, title, "".join(parts))


def intervals(rows, marks, *, title):
  """Scores in [0, 1] with their 95 % intervals, one row per label.

  `rows` is a list of (label, scores, baselines): scores a list of
  (class, value, (low, high) or None), baselines a list of (class, value);
  `marks` names the classes for the legend, in order.
  """
  left, right, step, head = 112, 14, 30, 22
  width, height = 420, head + step * len(rows) + 8

  def x(value):
    return left + min(max(value, 0.0), 1.0) * (width - left - right)

  parts = []
  for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
    parts.append(
      f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}"'
      f' y1="{head}" y2="{height - 6}"/>'
    )
    parts.append(_text(x(tick), head - 7, f"{100 * tick:.0f}"))
  for i, (label, scores, baselines) in enumerate(rows):
    middle = head + step * i + step / 2
    parts.append(_text(left - 10, middle + 4, label, "end", "label"))
    for name, value in baselines:
      parts.append(_mark(name, x(value), middle, step))
    for j, (name, value, interval) in enumerate(scores):
      at = middle + (j - (len(scores) - 1) / 2) * 9
      if interval is not None:
        parts.append(
          f'<line class="whisker {name}" x1="{x(interval[0]):.1f}"'
          f' x2="{x(interval[1]):.1f}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
      parts.append(
        f'<circle class="point {name}" cx="{x(value):.1f}" cy="{at:.1f}"'
        ' r="4"/>'
      )
  figure = _svg(width, height, title, "".join(parts))
  return figure + legend(marks)


def legend(marks):
  """The key under an interval plot: (class, words) pairs."""
  items = []
  for name, words in marks:
    if name.startswith("score"):
      drawn = f'<circle class="point {name}" cx="8" cy="8" r="4"/>'
    else:
      drawn = _mark(name, 8, 8, 16)
    items.append(
      f'<span><svg class="key" viewBox="0 0 16 16" aria-hidden="true">'
      f"{drawn}</svg>{html.escape(words)}</span>"
    )
  return f'<p class="legend">{"".join(items)}</p>'


def smooth(values, share=0.06):
  """A centred running mean over `share` of the curve, gaps left out."""
  values = np.asarray(values, np.float64)
  half = int(len(values) * share / 2)
  if half == 0:
    return values
  finite = np.isfinite(values)
  sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
  counts = np.concatenate([[0], np.cumsum(finite)])
  index = np.arange(len(values))
  low = np.maximum(index - half, 0)
  high = np.minimum(index + half + 1, len(values))
  count = counts[high] - counts[low]
  mean = (sums[high] - sums[low]) / np.maximum(count, 1)
  return np.where(count > 0, mean, np.nan)


def nice_ticks(low, high, count=4):
  """Round numbers that cover [low, high] in about `count` steps."""
  if not high > low:
    pad = abs(low) * 0.1 or 1.0
    low, high = low - pad, high + pad
  rough = (high - low) / count
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
  first = math.floor(low / step + 1e-9)
  last = math.ceil(high / step - 1e-9)
  return [i * step for i in range(first, last + 1)]


def short(value):
  """A number in at most five characters where that is honest."""
  if value == 0:
    return "0"
  size = abs(value)
  for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
    if size >= limit:
      unit = 1e3 if letter == "k" else limit
      return f"{value / unit:.4g}{letter}"
  if size < 1e-3:
    mantissa, power = f"{value:.1e}".split("e")
    return f"{float(mantissa):g}e{int(power)}"
  return f"{value:.4g}"


def _path(x, y, steps, values):
  stride = max(1, len(steps) // MOST_POINTS)
  keep = sorted({*range(0, len(steps), stride), len(steps) - 1})
  pieces, pen = [], "M"
  for i in keep:
    if not math.isfinite(values[i]):
      pen = "M"
      continue
    pieces.append(f"{pen}{x(steps[i]):.1f} {y(values[i]):.1f}")
    pen = "L"
  return "".join(pieces)


def _mark(name, x, y, step):
  """A baseline: a line as tall as its row, styled by its class."""
  half = step / 2 - 2
  return (
    f'<line class="mark {name}" x1="{x:.1f}" x2="{x:.1f}"'
    f' y1="{y - half:.1f}" y2="{y + half:.1f}"/>'
  )


def _text(x, y, words, anchor="middle", style=""):
  kind = f' class="{style}"' if style else ""
  return (
    f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
    f"{html.escape(words)}</text>"
  )


def _svg(width, height, title, inner):
  return (
    f'<svg viewBox="0 0 {width} {height}" role="img">'
    f"<title>{html.escape(title)}</title>{inner}</svg>"
  )
