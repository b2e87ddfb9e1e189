"""How sure a ladder is of its order: the documents that two rungs were scored on, one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yuyan.commands.ladder import DOCUMENTS, LadderOrder, _difference
from yuyan.metrics import difference_interval
from yuyan.text import DataConfig


def rungs(out: Path, **bits: np.ndarray) -> dict[str, Any]:
    """A ladder of such rungs, whose documents have 100 bytes each."""
    found = []
    for name, each in bits.items():
        (out / "rungs" / name).mkdir(parents=True)
        (out / "rungs" / name / DOCUMENTS).write_text(json.dumps([[float(b), 100.0] for b in each]))
        kind = "ngram" if name == "kn5" else name
        found.append({"name": name, "kind": kind, "bits_per_byte": each.mean() / 100, "folder": f"rungs/{name}"})
    return {"rungs": found}


def test_a_small_difference_on_every_document_is_certain(tmp_path: Path) -> None:
    hard = np.random.default_rng(0).uniform(100, 300, 40)  # documents differ far more than the rungs
    ladder = rungs(tmp_path, kn5=hard + 2, gpt=hard)
    ones = np.full(40, 100.0)
    assert _difference(tmp_path, ladder) == [*difference_interval((hard, ones), (hard + 2, ones))]
    assert _difference(tmp_path, ladder) == pytest.approx([0.02, 0.02])
    (tmp_path / "rungs" / "gpt" / DOCUMENTS).unlink()  # a rung of an earlier version
    assert _difference(tmp_path, ladder) is None
    assert _difference(tmp_path, {"rungs": ladder["rungs"][:1]}) is None


def test_more_time_is_offered_for_the_text_it_was_given(tmp_path: Path) -> None:
    """Only the demo, whose text lies in its own folder, ends with a folder of one's own."""
    mine = LadderOrder(
        data=DataConfig(sources=(Path("my texts"),), documents="line"), title="mine", budget=300.0, rungs=("kn5", "gpt")
    )
    out = tmp_path / "ladders" / "mine"
    assert mine.longer(out) == "yuyan ladder 'my texts' --budget 900s --rungs kn5,gpt --set 'documents=\"line\"'"
    assert mine.command(out).endswith(f"--budget 300s --rungs kn5,gpt --set 'documents=\"line\"' --out {out} --resume")
    demo = LadderOrder(data=DataConfig(sources=(out / "python.jsonl",)), title="demo", budget=300.0)
    assert demo.longer(out).startswith("yuyan ladder YOUR_FOLDER --budget 10m")
