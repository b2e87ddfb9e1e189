"""Which tensor of theirs becomes which of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from yuyan import console
from yuyan.errors import CheckpointCorrupt, DataError
from yuyan.hub.family import Family
from yuyan.hub.names import Row, find_theirs, list_names, their_names
from yuyan.models.network import Network

OURS = "yuyan"
"""What `config.json` calls our own layout."""
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""What weights are stored as; numbers of fewer bits mean nothing without scales that are elsewhere."""


class Plan:
    """Which tensor of theirs becomes which of ours: checked by name and shape first, filled after."""

    def __init__(self, family: Family | None, network: Network, wanted: dict[str, tuple[int, ...]], folder: Path):
        self.family, self.wanted, self.folder = family, wanted, folder
        self.table: Sequence[Row] = family.table(network) if family else [Row(name, name) for name in wanted]
        self.unknown: list[str] = []
        self.left_out: dict[str, list[str]] = {}
        self.found: dict[str, str] = {}
        self.ours: dict[str, Tensor] = {}
        self.copies: list[tuple[str, Tensor, str]] = []

    def _row(self, name: str) -> tuple[Row, dict[str, str]] | None:
        """The row of a name in any of its spellings: without the prefix, or with TensorFlow's names of a norm."""
        new = name.removesuffix(".gamma") + ".weight" if name.endswith(".gamma") else name
        new = new.removesuffix(".beta") + ".bias" if new.endswith(".beta") else new
        return find_theirs(self.table, new) or (
            find_theirs(self.table, self.family.prefix + new) if self.family and self.family.prefix else None
        )

    def _names(self, row: Row, values: dict[str, str]) -> list[str]:
        return [pattern.format(**values) for pattern in row.names]

    def expect(self, name: str, shape: tuple[int, ...]) -> None:
        """Note that the files have this tensor."""
        match = self._row(name)
        if match is None:
            self.unknown.append(name)
            return
        row, values = match
        ours = self._names(row, values)
        if not ours:
            if row.left_out:
                self.left_out.setdefault(row.left_out, []).append(name)
            return
        if row.tied and ours[0] not in self.wanted:
            return
        for our in ours:
            if our not in self.wanted:
                self.unknown.append(name)
                return
            if our in self.found:
                raise DataError(f"{self.folder}: {name} and {self.found[our]} are both {our}")
            self.found[our] = name
        with torch.device("meta"):
            made = row.change.load(torch.empty(shape))
        for our, part in zip(ours, made, strict=True):
            if tuple(part.shape) != self.wanted[our]:
                raise DataError(
                    f"{self.folder}: {name}: shape {shape} does not fit the config, which makes {our} {self.wanted[our]}"
                )

    def finish(self) -> None:
        """Raise DataError naming the tensors that are missing or too many."""
        kind = self.family.model_type if self.family else OURS
        if self.unknown:
            raise DataError(f"{self.folder}: no tensor of a {kind} model as configured: {list_names(self.unknown)}")
        if missing := [name for name in self.wanted if name not in self.found]:
            named = [self._theirs(name) for name in missing]
            raise DataError(f"{self.folder}: missing from the weights: {list_names(list(dict.fromkeys(named)))}")
        for what, names in self.left_out.items():
            console.say(f"note: {self.folder}: left out: {list_names(names)}: {what}")

    def _theirs(self, name: str) -> str:
        made = their_names(self.table, self.wanted)
        return next((theirs for theirs, (_, ours) in made.items() if name in ours), name)

    def take(self, name: str, tensor: Tensor, dtype: torch.dtype | None = None) -> None:
        """Keep a tensor under our name, its numbers as `dtype`. Raises DataError or CheckpointCorrupt."""
        match = self._row(name)
        assert match is not None, name
        row, values = match
        ours = self._names(row, values)
        if not ours:
            return
        if tensor.dtype not in FLOATS:
            kinds = " or ".join(_name(kind) for kind in FLOATS)
            raise DataError(f"{self.folder}: {name}: stored as {_name(tensor.dtype)}; weights must be {kinds}")
        tensor = tensor if dtype is None else tensor.to(dtype)
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointCorrupt(self.folder / name, "finite numbers", "NaN or infinity")
        if row.tied and ours[0] not in self.wanted:
            self.copies.append((name, tensor, row.tied.format(**values)))
        else:
            self.ours.update(zip(ours, row.change.load(tensor), strict=True))

    def tensors(self) -> dict[str, Tensor]:
        """All of ours. Raises DataError if a tensor that should be a copy is not."""
        for name, tensor, original in self.copies:
            if not torch.equal(tensor, self.ours[original]):
                raise DataError(
                    f"{self.folder}: {name} should be a copy of {self.found[original]} and is not: "
                    "set tie_word_embeddings to false in config.json if the model was trained so"
                )
        return self.ours


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
