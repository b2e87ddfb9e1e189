"""A picture of word vectors: words on the two directions in which they differ most, as one HTML file.

Every word is a dot; its name stands beside it where there is room, the more frequent first, and otherwise comes to the
pointer, with its neighbours in the full space, which the picture cannot show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from yuyan.evaluate.chart import shorten, text_width
from yuyan.evaluate.page import Figure
from yuyan.evaluate.render import render
from yuyan.evaluate.wording import word as say

WIDTH, HEIGHT, MARGIN = 1120, 760, 24
LINE = 14
"""Pixels of a name's height."""
MOST_LETTERS = 24


def space_page(
    title: str,
    words: Sequence[str],
    places: NDArray[np.float64],
    share: tuple[float, float],
    near: Mapping[str, Sequence[str]],
    vocabulary: int,
    language: str = "en",
) -> str:
    """The page for `words` at `places` (W, 2), the more important first; `share` is of the variance, by direction."""
    points, named = scatter(words, places, near)
    figures = [
        Figure(
            say("words_drawn", language), f"{len(words):,}", say("of_words", language).format(count=f"{vocabulary:,}")
        ),
        Figure(say("variance_drawn", language), f"{sum(share):.1%}", f"{share[0]:.1%} + {share[1]:.1%}"),
    ]
    return render(
        "space.html.j2", language, title=title, kicker=say("space", language), created="", sections=["space"],
        figures=figures, drawing=points, hidden=len(words) - named, width=WIDTH, height=HEIGHT,
    )  # fmt: skip


def scatter(words: Sequence[str], places: NDArray[np.float64], near: Mapping[str, Sequence[str]]) -> tuple[Markup, int]:
    """The dots and names as SVG, and how many names there was room for."""
    at = _pixels(places)
    boxes: list[tuple[float, float, float, float]] = []
    marks = [(x - 3, y - 3, x + 3, y + 3) for x, y in at.tolist()]
    dots, names = [], []
    for name, (x, y) in zip(words, at.tolist(), strict=True):
        hint = f"{name}: {', '.join(near.get(name, ()))}"
        dots.append(
            Markup('<circle class="word" cx="{:.1f}" cy="{:.1f}" r="2.5"/><circle class="target" cx="{:.1f}" cy="{:.1f}" r="9"><title>{}</title></circle>')
            .format(x, y, x, y, hint)
        )  # fmt: skip
        text = shorten(name, MOST_LETTERS)
        box = _room(x, y, text_width(text), [*boxes, *marks])
        if box is not None:
            boxes.append(box)
            names.append(Markup('<text x="{:.1f}" y="{:.1f}">{}</text>').format(box[0], box[3] - 3, text))
    return Markup("").join([*names, *dots]), len(names)


def _pixels(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """(W, 2) the middle 99 % fills the picture; what lies farther out stands at its edge. Both directions have one scale
    each, as their units mean nothing."""
    low, high = np.quantile(places, [0.005, 0.995], axis=0)
    span = np.where(high > low, high - low, 1.0)
    share = np.clip((places - low) / span, 0, 1)
    share[:, 1] = 1 - share[:, 1]
    made: NDArray[np.float64] = MARGIN + share * (np.array([WIDTH, HEIGHT]) - 2 * MARGIN)
    return made


def _room(
    x: float, y: float, wide: float, taken: Sequence[tuple[float, float, float, float]]
) -> tuple[float, float, float, float] | None:
    """A free box (left, top, right, bottom) for a name beside (x, y): right, left, above or below."""
    for left, top in ((x + 5, y - 7), (x - 5 - wide, y - 7), (x - wide / 2, y - 18), (x - wide / 2, y + 4)):
        box = (left, top, left + wide, top + LINE)
        inside = box[0] >= 0 and box[1] >= 0 and box[2] <= WIDTH and box[3] <= HEIGHT
        if inside and not any(
            box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken
        ):
            return box
    return None
