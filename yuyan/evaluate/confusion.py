"""Which label was taken for which, drawn: a row for each true label, a column for each answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from yuyan.evaluate.chart import shorten, text_width
from yuyan.evaluate.wording import word

MOST = 30  # labels of one picture; of more, those that are mixed up most
CELL = 26
LABEL_WIDTH = 160


def confusion_charts(confusions: object, language: str) -> list[dict[str, Any]]:
    """A picture for each part that was measured: `{"labels": [...], "counts": [[...]]}` by name."""
    found = []
    for name, each in confusions.items() if isinstance(confusions, Mapping) else ():
        if each.get("counts"):
            found.append({"title": word(str(name), language), "chart": chart(each["labels"], each["counts"], language)})
    return found


def chart(labels: Sequence[str], counts: Sequence[Sequence[float]], language: str) -> Markup:
    """The matrix: how dark a cell is says which share of its row it holds."""
    chosen = _most_confused(counts) if len(labels) > MOST else list(range(len(labels)))
    left = min(LABEL_WIDTH, max(text_width(labels[i]) for i in chosen)) + 10
    width, height = left + CELL * len(chosen) + 4, CELL * len(chosen) + LABEL_WIDTH
    parts = []
    for row, truth in enumerate(chosen):
        y, whole = row * CELL, sum(counts[truth]) or 1.0
        parts.append(Markup('<text class="tick" text-anchor="end" x="{}" y="{}">{}</text>').format(
            left - 6, y + CELL * 0.65, shorten(labels[truth], LABEL_WIDTH)
        ))  # fmt: skip
        for column, answer in enumerate(chosen):
            count = counts[truth][answer]
            parts.append(_cell(left + column * CELL, y, count / whole, count, f"{labels[truth]} → {labels[answer]}"))
    for column, answer in enumerate(chosen):
        x, y = left + column * CELL + CELL * 0.65, CELL * len(chosen) + 8
        parts.append(Markup('<text class="tick" text-anchor="end" transform="translate({},{}) rotate(-90)">{}</text>').format(
            x, y, shorten(labels[answer], LABEL_WIDTH)
        ))  # fmt: skip
    note = "" if len(chosen) == len(labels) else word("most_confused", language).format(count=len(chosen))
    return Markup(
        '<div class="matrix"><svg width="{}" height="{}" role="img" aria-label="{}">{}</svg></div><p class="aside">{} {}</p>'
    ).format(
        round(width), round(height), word("confusion", language), Markup("").join(parts),
        word("explain_confusion", language), note,
    )  # fmt: skip


def _cell(x: float, y: float, share: float, count: float, said: str) -> Markup:
    text = Markup('<text class="tick middle" x="{}" y="{}">{:.0f}</text>').format(x + CELL / 2, y + CELL * 0.65, count)
    return Markup(
        '<g><title>{}: {:.0f}</title><rect class="fill s0" x="{}" y="{}" width="{}" height="{}" opacity="{:.3f}"/>{}</g>'
    ).format(said, count, x, y, CELL - 1, CELL - 1, 0.06 + 0.7 * share, text if count and count < 10_000 else "")


def _most_confused(counts: Sequence[Sequence[float]]) -> list[int]:
    """The labels in most mistakes, as truth or as answer, in their order."""
    size = len(counts)
    wrong = [sum(counts[i][j] + counts[j][i] for j in range(size) if j != i) for i in range(size)]
    return sorted(sorted(range(size), key=lambda i: (-wrong[i], i))[:MOST])
