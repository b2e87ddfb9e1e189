"""Charts as inline SVG, written by hand: curves with axes and legend, bars with error bars.

Across, places are percentages, down, they are pixels: so a chart fills whatever width it is given while its type keeps
its size. Only the curves themselves are stretched (a nested `svg` with `preserveAspectRatio="none"`, strokes not
scaled). Colours and type come from the page's style sheet through classes; every text and number that enters goes
through `Markup.format`, which escapes it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from yuyan.evaluate.quantities import MISSING, decimal, duration, significant
from yuyan.evaluate.scale import Point, Scale, Tick, clamp, smooth, thin, tick_label, ticks, x_scale, y_scale
from yuyan.evaluate.wording import word

WIDTH = 1000  # of the stretched drawing; any number would do
MOST_POINTS = 1200  # of one curve: more cannot be seen
MOST_TARGETS = 60  # of one curve: places that answer to the pointer
MOST_MARKERS = 40  # a curve of so few measurements shows each
LABEL_GAP = 16  # pixels between direct labels

Colour = Literal["s0", "s1", "s2", "s3", "s4", "s5", "g0", "g1", "g2"]


@dataclass(frozen=True, slots=True)
class Axis:
    """What is measured along a side."""

    title: str
    log: bool = False
    time: bool = False  # seconds, written as a clock would
    whole: bool = False  # numbers of things
    from_zero: bool = False  # what is small beside all of it is not to look large
    silent: bool = False  # the title stands elsewhere already


@dataclass(frozen=True, slots=True)
class Line:
    """A curve; `band` holds (x, low, high), the interval around it."""

    label: str
    points: Sequence[Point]
    colour: Colour = "s0"
    band: Sequence[tuple[float, float, float]] = ()
    faint: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """A horizontal line at `value`."""

    label: str
    value: float
    colour: Colour = "g0"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its name, its length with an interval, and what is written at its end and below."""

    label: str
    value: float
    low: float = math.nan
    high: float = math.nan
    colour: Colour = "s0"
    tag: str = ""
    note: str = ""
    text: str = ""
    detail: str = ""


def with_mean(line: Line, blocks: int = 60) -> list[Line]:
    """A noisy curve as itself, faint, under the means of its blocks; a short one as it is."""
    points = [(x, clamp(y)) for x, y in line.points]
    if len(points) < 4 * blocks:
        return [line]
    return [
        Line("", line.points, line.colour, faint=True),
        Line(line.label, smooth(points, len(points) // blocks), line.colour),
    ]


# ---------------------------------------------------------------- curves


def line_chart(
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    *,
    references: Sequence[Reference] = (),
    height: int = 300,
    language: str = "en",
) -> Markup:
    """Curves over `x`, with horizontal `references`; one line of text where there is nothing to draw."""
    usable = [_usable(line, x.log) for line in lines]
    drawn = [line for line in usable if any(not math.isnan(p[1]) for p in line.points)]
    references = [Reference(r.label, clamp(r.value), r.colour) for r in references if not math.isnan(clamp(r.value))]
    if not drawn:
        return Markup('<p class="nothing">{}</p>').format(word("no_curve", language))
    across = x_scale((px for line in drawn for px, _ in line.points), log=x.log)
    edges = [edge for line in drawn for _, low, high in line.band for edge in (low, high)]
    heights = [*(py for line in drawn for _, py in line.points), *edges]
    down = y_scale(heights, [*(r.value for r in references), *([0.0] if y.from_zero else ())])
    y_ticks = ticks(down, 5)
    labels = _direct_labels(drawn, references, down, height)
    left = 10 + max((text_width(tick.label) for tick in y_ticks), default=0)
    right = 18 + max((text_width(text) for _, text, _ in labels), default=0)
    return Markup(
        '<div class="chart" style="--left:{}px;--right:{}px">{}{}'
        '<svg class="plot" height="{}" role="img" aria-label="{}">{}{}{}{}{}</svg>'
        '<p class="x-title">{}</p>{}</div>'
    ).format(
        round(left), round(right), _legend(drawn, references, bool(labels)),
        Markup("") if y.silent else Markup('<p class="y-title">{}</p>').format(y.title),
        height, _description(drawn, references, y), _grid(y_ticks, height), _x_axis(across, x, height, language),
        _drawing(drawn, references, across, down, height), _targets(drawn, x, across, down, height, language),
        _label_texts(labels), x.title, _left_out(lines, drawn, down, language),
    )  # fmt: skip


def _usable(line: Line, log: bool) -> Line:
    """In order, without points that have no place across, NaN for values that cannot be drawn."""
    points = [(clamp(px), clamp(py)) for px, py in line.points]
    points = sorted(((px, py) for px, py in points if not math.isnan(px) and (px > 0 or not log)), key=lambda p: p[0])
    band = [(clamp(px), clamp(low), clamp(high)) for px, low, high in line.band]
    band = sorted(b for b in band if not any(map(math.isnan, b)) and (b[0] > 0 or not log))
    return Line(line.label, thin(points, MOST_POINTS), line.colour, band, line.faint)


def _grid(y_ticks: Sequence[Tick], height: int) -> Markup:
    parts = [
        Markup('<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/><text class="tick end" x="-8" y="{1}">{2}</text>')
        .format(_pixel((1 - tick.at) * height), _pixel((1 - tick.at) * height + 4), tick.label)
        for tick in y_ticks
    ]  # fmt: skip
    return Markup("").join(parts)


def _x_axis(across: Scale, x: Axis, height: int, language: str) -> Markup:
    parts = [Markup('<line class="axis" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(height)]
    for tick in ticks(across, 6 if height > 200 else 3, time=x.time, whole=x.whole, language=language):
        parts.append(
            Markup('<line class="axis" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><text class="tick middle" x="{0}" y="{3}">{4}</text>')
            .format(_share(tick.at), height, height + 5, height + 20, tick.label)
        )  # fmt: skip
    return Markup("").join(parts)


def _drawing(lines: Sequence[Line], references: Sequence[Reference], across: Scale, down: Scale, height: int) -> Markup:
    def place(px: float, py: float) -> str:
        # Far outside the picture a number may be too large for the renderer; a little outside looks the same.
        return f"{_pixel(across.at(px) * WIDTH)},{_pixel(max(-9.0, min(10.0, 1 - down.at(py))) * height)}"

    parts = []
    for line in lines:
        if line.band:
            outline = [place(px, high) for px, _, high in line.band]
            outline += [place(px, low) for px, low, _ in reversed(line.band)]
            parts.append(Markup('<polygon class="band {}" points="{}"/>').format(line.colour, " ".join(outline)))
    for reference in references:
        points = f"0,{_pixel((1 - down.at(reference.value)) * height)} h{WIDTH}"
        parts.append(Markup('<path class="curve reference {}" d="M{}"/>').format(reference.colour, points))
    for line in sorted(lines, key=lambda line: not line.faint):
        faint = " faint" if line.faint else ""
        for stretch in _stretches(line.points):
            path = "M" + "L".join(place(px, py) for px, py in stretch)
            parts.append(Markup('<path class="curve {}{}" d="{}"/>').format(line.colour, faint, path))
    return Markup(
        '<svg width="100%" height="{0}" viewBox="0 0 {1} {0}" preserveAspectRatio="none">{2}</svg>'
    ).format(height, WIDTH, Markup("").join(parts))  # fmt: skip


def _stretches(points: Sequence[Point]) -> Iterable[list[Point]]:
    """The runs of at least two drawable points; a gap is a gap."""
    run: list[Point] = []
    for point in (*points, (math.nan, math.nan)):
        if not math.isnan(point[1]):
            run.append(point)
            continue
        if len(run) > 1:
            yield run
        run = []


def _targets(lines: Sequence[Line], x: Axis, across: Scale, down: Scale, height: int, language: str) -> Markup:
    """Markers where there are few points, and invisible discs that say their values to the pointer."""
    parts = []
    for line in lines:
        inside = [p for p in line.points if not math.isnan(p[1]) and down.holds(p[1])]
        if line.faint or not inside:
            continue
        if len(line.points) <= MOST_MARKERS:
            for px, py in inside:
                at = _share(across.at(px)), _pixel((1 - down.at(py)) * height)
                parts.append(Markup('<circle class="marker {}" cx="{}" cy="{}" r="2.5"/>').format(line.colour, *at))
        every = math.ceil(len(inside) / MOST_TARGETS)
        for px, py in [*inside[::every], inside[-1]]:
            where = duration(px, language) if x.time else significant(px, 6)
            said = f"{line.label}{': ' if line.label else ''}{significant(py)} ({where})"
            at = _share(across.at(px)), _pixel((1 - down.at(py)) * height)
            parts.append(
                Markup('<circle class="target" cx="{}" cy="{}" r="8"><title>{}</title></circle>').format(*at, said)
            )
    return Markup("").join(parts)


# ---------------------------------------------------------------- the names of curves


def _legend(lines: Sequence[Line], references: Sequence[Reference], labelled: bool) -> Markup:
    """Names above the chart: for narrow windows where names also stand beside the curves, else always."""
    entries: list[tuple[Line | Reference, float]] = [(line, _last(line)) for line in lines if line.label]
    entries += [(reference, reference.value) for reference in references]
    if len(entries) < 2:
        return Markup("")
    parts = []
    for entry, value in entries:
        kind = " reference" if isinstance(entry, Reference) else ""
        parts.append(
            Markup(
                '<li><svg width="22" height="8" aria-hidden="true"><path class="curve {}{}" d="M0,4h22"/></svg>'
                "{} <b>{}</b></li>"
            ).format(entry.colour, kind, entry.label, significant(value))
        )
    return Markup('<ul class="legend{}">{}</ul>').format(" spare" if labelled else "", Markup("").join(parts))


def _last(line: Line) -> float:
    return next((py for _, py in reversed(line.points) if not math.isnan(py)), math.nan)


def _direct_labels(
    lines: Sequence[Line], references: Sequence[Reference], down: Scale, height: int
) -> list[tuple[float, str, Colour]]:
    """(pixel, name, colour) beside the ends of the curves, moved apart; none where one name or too many."""
    wanted = [(_last(line), line.label, line.colour) for line in lines if line.label]
    wanted += [(reference.value, reference.label, reference.colour) for reference in references]
    if len(wanted) < 2 or len(wanted) * LABEL_GAP > height:
        return []
    wanted.sort(key=lambda label: -label[0])
    places: list[float] = []
    for value, _, _ in wanted:
        ideal = (1 - max(0.0, min(1.0, down.at(value)))) * height
        places.append(max(ideal, places[-1] + LABEL_GAP) if places else ideal)
    limit = float(height)
    for index in reversed(range(len(places))):  # push back up what ran out at the bottom
        places[index] = min(places[index], limit)
        limit = places[index] - LABEL_GAP
    return [(place, shorten(name, 24), colour) for place, (_, name, colour) in zip(places, wanted, strict=True)]


def _label_texts(labels: Sequence[tuple[float, str, Colour]]) -> Markup:
    return Markup("").join(
        Markup('<text class="label {}" x="100%" dx="8" y="{}">{}</text>').format(colour, _pixel(place + 4), text)
        for place, text, colour in labels
    )


def _description(lines: Sequence[Line], references: Sequence[Reference], y: Axis) -> str:
    """What a reader who cannot see the chart is told."""
    ends = [f"{line.label} {significant(_last(line))}".strip() for line in lines if not line.faint]
    ends += [f"{reference.label} {significant(reference.value)}" for reference in references]
    return f"{y.title}: {'; '.join(ends)}"


def _left_out(given: Sequence[Line], drawn: Sequence[Line], down: Scale, language: str) -> Markup:
    """A line that owns up to what the chart does not show."""
    broken = sum(math.isnan(clamp(py)) for line in given for _, py in line.points)
    outside = sum(not math.isnan(py) and not down.holds(py) for line in drawn for _, py in line.points)
    said = []
    if outside:
        top = tick_label(down.high, down.high - down.low)
        said.append(
            word("outside", language).format(count=outside, low=tick_label(down.low, down.high - down.low), high=top)
        )
    if broken:
        said.append(word("broken", language).format(count=broken))
    return Markup('<p class="aside">{}</p>').format(" ".join(said)) if said else Markup("")


# ---------------------------------------------------------------- bars


def bar_chart(bars: Sequence[Bar], *, title: str, most: float | None = None, language: str = "en") -> Markup:
    """Horizontal bars from zero, to `most` if it is given, with error bars; each with its name, its value and a note."""
    if not bars:
        return Markup('<p class="nothing">{}</p>').format(word("no_rungs", language))
    scale = _bar_scale(bars) if most is None else Scale(0.0, most)
    rows = Markup("").join(_bar_row(bar, scale) for bar in bars)
    axis = Markup("").join(
        Markup('<text class="tick middle" x="{}" y="14">{}</text>').format(_share(tick.at), tick.label)
        for tick in ticks(scale, 5)
    )
    return Markup(
        '<ol class="bars">{}<li class="bars-axis" aria-hidden="true"><div class="bar"><svg height="20">{}</svg></div>'
        '<p class="bars-title">{}</p></li></ol>'
    ).format(rows, axis, title)


def _bar_scale(bars: Sequence[Bar]) -> Scale:
    """From zero to a tick beyond the longest; a bar many times the middle one does not set the scale."""
    values = sorted(v for v in (clamp(bar.value) for bar in bars) if v >= 0)
    if not values or values[-1] == 0:
        return Scale(0.0, 1.0)
    limit = 6 * values[(len(values) - 1) // 2] or values[-1]
    ends = [limit]
    for value, high in ((clamp(bar.value), clamp(bar.high)) for bar in bars):
        if 0 <= value <= limit:
            ends += [value, min(max(value, high), 2 * limit)]  # NaN is never the larger
    return y_scale([0.0], [0.0, max(ends[1:], default=limit)])


def _bar_row(bar: Bar, scale: Scale) -> Markup:
    value = clamp(bar.value)
    parts = [
        Markup('<line class="grid" x1="{0}" x2="{0}" y1="-4" y2="26"/>').format(_share(tick.at))
        for tick in ticks(scale, 5)
    ]
    if value >= 0:
        parts.append(
            Markup('<rect class="fill {}" x="0" y="2" width="{}" height="18" rx="2"/>').format(
                bar.colour, _share(min(1.0, scale.at(value)))
            )
        )
        if value > scale.high:
            parts.append(Markup('<svg class="beyond" x="100%"><path d="M-14,4l7,7l-7,7"/></svg>'))
        parts.append(_whisker(clamp(bar.low), clamp(bar.high), scale))
    return Markup(
        '<li{}><p class="bar-name"><span>{}</span>{}</p>'
        '<div class="bar"><svg height="22" role="img" aria-label="{}"><title>{}</title>{}</svg></div>'
        '<p class="bar-value"><b>{}</b> <span>{}</span></p>{}</li>'
    ).format(
        Markup(' class="best"') if bar.tag else "", bar.label, Markup(' <i class="tag">{}</i>').format(bar.tag) if bar.tag else "",
        _bar_said(bar), _bar_said(bar), Markup("").join(parts), bar.text or decimal(bar.value), bar.detail,
        Markup('<p class="bar-note">{}</p>').format(bar.note) if bar.note else "",
    )  # fmt: skip


def _bar_said(bar: Bar) -> str:
    return (
        f"{bar.label}: {bar.text or decimal(bar.value)}{f' ({bar.detail})' if bar.detail not in ('', MISSING) else ''}"
    )


def _whisker(low: float, high: float, scale: Scale) -> Markup:
    """The error bar: a line over the end of the bar, with caps."""
    if math.isnan(low) or math.isnan(high) or high < low or high < 0 or low > scale.high:
        return Markup("")
    ends = _share(max(0.0, scale.at(low))), _share(min(1.0, scale.at(high)))
    halo = Markup('<line class="halo" x1="{0}" x2="{1}" y1="11" y2="11"/>').format(*ends)
    return Markup(
        '<g class="whisker">{2}<line x1="{0}" x2="{1}" y1="11" y2="11"/><line x1="{0}" x2="{0}" y1="6" y2="16"/>'
        '<line x1="{1}" x2="{1}" y1="6" y2="16"/></g>'
    ).format(*ends, halo)


# ---------------------------------------------------------------- measures


def text_width(text: str, size: float = 12) -> float:
    """About how many pixels `text` takes; a Chinese character is as wide as it is high."""
    return sum(size * (1.0 if unicodedata.east_asian_width(c) in "WF" else 0.58) for c in text)


def shorten(text: str, width: int) -> str:
    """At most `width` Latin letters' worth of `text`."""
    if text_width(text, 1) <= 0.58 * width:
        return text
    while text and text_width(text, 1) > 0.58 * (width - 1):
        text = text[:-1]
    return text.rstrip() + "…"


def _share(at: float) -> str:
    return f"{100 * at:.2f}%"


def _pixel(value: float) -> str:
    return f"{value:.1f}"
