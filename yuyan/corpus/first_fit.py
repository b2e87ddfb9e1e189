"""Several examples in a row, which do not see each other: first-fit, the longest first (Johnson 1973)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Item = dict[str, Any]


def first_fit(items: Sequence[Mapping[str, Any]], owners: Sequence[int], length: int) -> tuple[list[Item], list[int]]:
    """The items together in as few rows of at most `length` tokens as first-fit finds, longest first; each has a number of
    its own in `document_ids`, and the owner of a row is that of its first item.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(items)), key=lambda i: -len(items[i]["input_ids"])):
        size = len(items[number]["input_ids"])
        place = next((i for i, left in enumerate(room) if left >= size), None)
        if place is None:
            place = len(rows)
            rows.append([])
            room.append(length)
        rows[place].append(number)
        room[place] -= size
    found = [
        {
            **{key: np.concatenate([items[n][key] for n in row]) for key in ("input_ids", "scored")},
            "document_ids": np.repeat(np.arange(len(row)), [len(items[n]["input_ids"]) for n in row]),
            "bytes": sum(items[n]["bytes"] for n in row),
        }
        for row in rows
    ]
    return found, [owners[row[0]] for row in rows]
