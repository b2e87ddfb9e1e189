"""A table and curves as pieces of HTML for a notebook: they bring their style along, and no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from yuyan.evaluate.render import visible
from yuyan.evaluate.scale import Point, clamp, thin, ticks, x_scale, y_scale

_COLOURS = ("#1f5a99", "#b5451b", "#3b7d3b", "#7a4fa3", "#8a6d00", "#00798c")
_LEFT, _RIGHT, _TOP, _BELOW = 56, 12, 10, 34


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, caption: str = "") -> Markup:
    """A table; the first `left` columns are texts, the others numbers."""

    def line(cells: Sequence[str], tag: str) -> Markup:
        parts = [
            Markup('<{0} style="text-align:{1};padding:2px 10px">{2}</{0}>').format(
                Markup(tag), "left" if index < left else "right", visible(str(cell))
            )
            for index, cell in enumerate(cells)
        ]
        return Markup("<tr>{}</tr>").format(Markup("").join(parts))

    head = Markup('<caption style="text-align:left">{}</caption>').format(visible(caption)) if caption else Markup("")
    body = Markup("").join(line(row, "td") for row in rows)
    return Markup('<div style="overflow-x:auto"><table>{}<thead>{}</thead><tbody>{}</tbody></table></div>').format(
        head, line(columns, "th"), body
    )


def html_curves(
    curves: Mapping[str, Sequence[Point]], across: str, down: str, *, width: int = 560, height: int = 220
) -> Markup:
    """The curves as one SVG, in the text colour of the page around it; nothing where there is no curve."""
    usable = {
        name: sorted((x, y) for x, y in ((clamp(x), clamp(y)) for x, y in points) if x == x and y == y)
        for name, points in curves.items()
    }
    usable = {name: thin(points, 400) for name, points in usable.items() if points}
    if not usable:
        return Markup("")
    x = x_scale([px for points in usable.values() for px, _ in points], log=False)
    y = y_scale([py for points in usable.values() for _, py in points], [])
    wide, high = width - _LEFT - _RIGHT, height - _TOP - _BELOW
    parts = [_text(_LEFT - 6, _TOP + (1 - tick.at) * high + 4, tick.label, "end") for tick in ticks(y, 4)]
    parts += [_text(_LEFT + tick.at * wide, height - 18, tick.label, "middle") for tick in ticks(x, 5)]
    parts.append(_text(width - _RIGHT, height - 3, f"{down} / {across}", "end"))
    frame = f"M{_LEFT},{_TOP}V{_TOP + high}H{_LEFT + wide}"
    parts.append(Markup('<path d="{}" fill="none" stroke="currentColor" stroke-opacity=".5"/>').format(frame))
    for number, (name, points) in enumerate(usable.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [
            f"{_LEFT + x.at(px) * wide:.1f},{_TOP + (1 - min(1.0, max(0.0, y.at(py)))) * high:.1f}" for px, py in points
        ]
        parts.append(
            Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="1.6"/>').format(
                " ".join(places), colour
            )
        )
        if len(usable) > 1:
            parts.append(_text(width - _RIGHT, _TOP + 12 + 15 * number, name, "end", colour))
    return Markup('<svg width="{0}" height="{1}" viewBox="0 0 {0} {1}" style="max-width:100%" role="img">{2}</svg>').format(
        width, height, Markup("").join(parts)
    )  # fmt: skip


def _text(x: float, y: float, text: str, anchor: str, colour: str = "currentColor") -> Markup:
    return Markup('<text x="{}" y="{}" font-size="11" text-anchor="{}" fill="{}">{}</text>').format(
        f"{x:.1f}", f"{y:.1f}", anchor, colour, visible(text)
    )
