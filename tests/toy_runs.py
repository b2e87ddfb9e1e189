"""Small runs that laws and journeys are tried on: a text, a corpus of it in shards, a training session, the command line."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from yuyan.cli import main
from yuyan.corpus import Batches, Packed, Shards, write_shards
from yuyan.corpus.continued import Continued
from yuyan.models.classic import Lstm, Nplm
from yuyan.models.presets import Gpt
from yuyan.nn.cache import Carried
from yuyan.objectives import NextToken
from yuyan.text.document import Document
from yuyan.tokens import Tokenizer, train_tokenizer
from yuyan.tokens.train import CharConfig
from yuyan.train import (
    AdamW,
    Average,
    Averaging,
    Learner,
    MasterWeights,
    OptimizerConfig,
    PlainStep,
    Plan,
    State,
    Update,
    WarmupStableDecay,
    parameter_kinds,
)
from yuyan.train import train as updates_of

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "tiny" / "gpt.yaml"
STORIES = ROOT / "configs" / "tiny" / "stories.txt"
# 16 updates of a GPT in half a second, with dropout; saved at every third and the last, looked at every fourth.
SETTINGS = (
    "train.steps=16", "train.context=32", "train.batch_tokens=128", "train.threads=1", "train.save_steps=3",
    "evaluate.every=4", "evaluate.tokens=500", "model.hidden_size=32", "model.dropout=0.2",
)  # fmt: skip

TRAIN = ("train", str(CONFIG), *SETTINGS)


def command(*words: str) -> int:
    """Run `yuyan WORDS` in this process; the exit code."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["yuyan", *words])
        main()
    return int(ended.value.code or 0)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything under a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def refused(
    capsys: pytest.CaptureFixture[str], *words: str, code: int = 2, said: str, place: Path | None = None
) -> None:
    """The command ends with `code` and one line that matches `said`, and changes nothing in `place`."""
    before = None if place is None else tree(place)
    capsys.readouterr()
    assert command(*words) == code
    out, err = capsys.readouterr()
    assert out == "", "nothing on standard output"
    lines = [line for line in err.splitlines() if not line.startswith(("warning: ", "memory: about "))]
    assert len(lines) == 1, err
    assert lines[0].startswith("yuyan: ")
    assert re.search(said, lines[0]), f"{lines[0]!r} does not say {said!r}"
    if place is not None:
        assert tree(place) == before, "nothing half-written"


class Toy(NamedTuple):
    """A text as tokens."""

    tokenizer: Tokenizer
    shards: Shards


def toy_corpus(folder: Path, *, mask: bool = False) -> Toy:
    """About 1,500 tokens in 20 documents."""
    lines = STORIES.read_text(encoding="utf-8").splitlines()
    texts = ["\n".join(lines[i : i + 2])[:80] for i in range(0, 80, 4)]
    tokenizer = train_tokenizer(texts, CharConfig(vocab_size=120, mask=mask))
    return Toy(tokenizer, write_shards((Document(str(i), t, {}) for i, t in enumerate(texts)), tokenizer, folder))


MODELS = {
    "gpt": Gpt(hidden_size=16, num_layers=2, num_heads=2, dropout=0.2),
    "lstm": Lstm(hidden_size=16, num_layers=2, dropout=0.2),
    "nplm": Nplm(hidden_size=16, embedding_size=8, dropout=0.2),
}


def begin(
    toy: Toy, model: str = "gpt", dtype: torch.dtype = torch.float32, *, context: int = 24,
    optimizer: OptimizerConfig = AdamW(lr=1e-2), ema: Averaging | None = None, carry: bool = False,
) -> State:  # fmt: skip
    """A run before its first step: 6 rows an update, eleven updates and a half an epoch."""
    torch.manual_seed(0)
    learner = Learner(MODELS[model].build(len(toy.tokenizer), 0), NextToken())
    kinds = parameter_kinds(learner)
    weights = MasterWeights(learner, dtype)
    special = toy.tokenizer.special
    rows = Packed(toy.shards, context, seed=0, bos=special.bos, eos=special.eos)
    if carry:
        rows = Continued(toy.shards, context, 6, seed=0, special=special)
    batches = Batches(rows, batch_rows=6, micro_rows=3, seed=0)
    average = None if ema is None else Average(ema, weights.masters)
    carried = Carried(6, len(rows)) if carry else None
    learner.model.carried = carried  # type: ignore[assignment]
    return State(learner, weights, optimizer.build(weights.masters, kinds), batches, average, carried=carried)


def advance(state: State, until: int, of: int) -> list[Update]:
    """Take the updates up to number `until` of a run of `of` updates."""
    step = PlainStep(Plan(steps=of), WarmupStableDecay(warmup=0.1))
    found = []
    if state.step < until:
        for update in updates_of(state, state.batches, step):  # type: ignore[arg-type]
            found.append(update)
            if update.step == until:
                break
    return found


def plain(update: Update) -> tuple[Any, ...]:
    """What a log line says, without the clock."""
    return update._replace(seconds=0.0)


def tensors(state: State) -> dict[str, torch.Tensor]:
    """Every tensor of a run: master weights, working weights, the optimizer's memory."""
    named = {f"master {name}": p.detach() for name, p in state.weights.masters.items()}
    named |= {f"working {name}": p.detach() for name, p in state.learner.named_parameters()}
    for name, master in state.weights.masters.items():
        named |= {f"{name}: {key}": value for key, value in state.optimizer.state[master].items()}
    if state.average is not None:
        named |= {f"average {name}": value for name, value in state.average.tensors.items()}
    return named


def differences(one: State, other: State) -> list[str]:
    """Names of the tensors that are not equal bit for bit."""
    a, b = tensors(one), tensors(other)
    return [
        name for name in sorted(a.keys() | b.keys()) if name not in a or name not in b or not _equal(a[name], b[name])
    ]


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())


def outcome(folder: Path) -> dict[str, Any]:
    """What a finished run came to, without the clock: hashes of the model and the last state, the log, the scores."""
    last = max((folder / "state").iterdir(), key=lambda entry: int(entry.name))
    files = [folder / "model" / "model.safetensors", last / "weights.safetensors", last / "optimizer.safetensors"]
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for record in log:
        for key in ("seconds", "tokens_per_second", "step_seconds", "waited", "memory", "mfu", "look_seconds"):
            record.pop(key, None)
    report = json.loads((folder / "reports" / f"{last.name}.json").read_text())
    report.pop("seconds")
    hashes = {file.parent.name + "/" + file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return {"hashes": hashes, "log": log, "report": report}


def remains(folder: Path) -> list[str]:
    """What a process left half-written under `folder`."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if ".tmp-" in path.name or ".old-" in path.name
    )
