"""One process, two or four, each with all weights or a part of each: the same losses, gradient norms and weights.

The batches are so uneven that a mean of means would be far off, and so few that each process cuts its part differently.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from processes import all_together
from safetensors.torch import load_file

Cut = tuple[int, str, int]  # processes, how the weights are held, rows of a micro-batch
WHOLE: Cut = (1, "ddp", 8)


def check(out: Path, model: str, cuts: list[Cut]) -> None:
    jobs: list[tuple[int, str, dict[str, Any]]] = [
        (size, "toy_processes.trained",
         {"out": str(out), "name": f"{size}{kind}{rows}", "model": model, "kind": kind, "micro_rows": rows})
        for size, kind, rows in (WHOLE, *cuts)
    ]  # fmt: skip
    ended = all_together(out, jobs)
    expected, weights = ended[0].results[0], load_file(out / "1ddp8.safetensors")
    assert expected[0]["gradient_norm"] > 0.1, "clipping is at work"
    for (size, kind, rows), one in zip(cuts, ended[1:], strict=True):
        assert one.codes == [0] * size, one.said
        for found in one.results:
            for ours, theirs in zip(found, expected, strict=True):
                assert (ours["step"], ours["count"], ours["tokens"]) == (
                    theirs["step"], theirs["count"], theirs["tokens"])  # fmt: skip
                assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
                assert ours["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=2e-5)
        got = load_file(out / f"{size}{kind}{rows}.safetensors")
        assert got.keys() == weights.keys()
        for name, tensor in weights.items():
            torch.testing.assert_close(got[name], tensor, rtol=1e-4, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_two_processes(tmp_path: Path) -> None:
    check(tmp_path, "gpt", [(2, "ddp", 2), (2, "fsdp", 4)])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gpt", "lstm"])
def test_two_and_four_processes(tmp_path: Path, model: str) -> None:
    """8 x 1, 4 x 2, 1 x 8 rows in all, over processes."""
    cuts: list[Cut] = [(1, "fsdp", 1), (2, "ddp", 4), (2, "ddp", 1), (2, "fsdp", 1), (4, "ddp", 2), (4, "fsdp", 1)]
    check(tmp_path, model, cuts)
