"""A soft alignment, drawn: a row for each token that was written, a column for each that was read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from yuyan.evaluate.chart import shorten, text_width
from yuyan.evaluate.render import visible

CELL = 24
LABEL_WIDTH = 150


def alignment_chart(source: Sequence[str], target: Sequence[str], weights: np.ndarray) -> Markup:
    """The matrix (T, S) as an SVG of its own, in the text colour of the page around it: the darker, the more was read."""
    left, top = (_room(names) for names in (target, source))
    width, height = left + CELL * len(source) + 4, top + CELL * len(target) + 4
    parts = [_label(left - 6, top + CELL * (row + 0.65), name, "end") for row, name in enumerate(target)]
    parts += [
        _label(0, 0, name, "start", f"translate({left + CELL * (column + 0.65):.0f},{top - 6:.0f}) rotate(-90)")
        for column, name in enumerate(source)
    ]
    for row, column in np.ndindex(weights.shape):
        share = float(weights[row, column])
        parts.append(
            Markup(
                '<g><title>{} ← {}: {:.0%}</title><rect x="{:.0f}" y="{:.0f}" width="{}" height="{}" '
                'fill="#1f5a99" opacity="{:.3f}"/></g>'
            ).format(target[row], source[column], share, left + CELL * column, top + CELL * row, CELL - 1, CELL - 1,
                     0.04 + 0.96 * share)
        )  # fmt: skip
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{0:.0f}" height="{1:.0f}" viewBox="0 0 {0:.0f} {1:.0f}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13" fill="currentColor">{2}</svg>'
    ).format(width, height, Markup("").join(parts))


def _room(names: Sequence[str]) -> float:
    return min(LABEL_WIDTH, max(map(text_width, names), default=0)) + 12


def _label(x: float, y: float, name: str, anchor: str, transform: str = "") -> Markup:
    return Markup('<text x="{:.0f}" y="{:.0f}" text-anchor="{}"{}>{}</text>').format(
        x, y, anchor, Markup(' transform="{}"').format(transform) if transform else "",
        visible(shorten(name, LABEL_WIDTH)),
    )  # fmt: skip
