"""The parity matrix, families by directions by heads, measured against transformers; writes docs/families.md.

    python bench/families.py [--quick]

Tiny models with weights N(0, 0.3), padding in the batch, float32 on the CPU: the models of tests/parity/test_transformers.py.
`--quick` takes every eighth and leaves the page alone. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch

from yuyan.hub import read_model, write_model

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "families.md"
sys.path.insert(0, str(ROOT / "tests" / "parity"))
import test_transformers as parity  # noqa: E402


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference of two score tensors of one shape."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max())


def measure(name: str) -> dict[str, object]:
    """Both directions and the round trip of one model."""
    torch.manual_seed(0)
    theirs = parity.MODELS[name]().eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        theirs.save_pretrained(folder / "theirs")
        ours = read_model(folder / "theirs")
        family = write_model(ours, folder / "ours", special_ids={"pad_token_id": 1, "eos_token_id": 2})
        again = type(theirs).from_pretrained(folder / "ours").eval()
        before, after = theirs.state_dict(), again.state_dict()
        return {
            "name": name, "class": type(theirs).__name__, "family": family,
            "in": difference(parity.our_scores(ours), parity.their_scores(theirs)),
            "out": difference(parity.our_scores(ours), parity.their_scores(again)),
            "exact": before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before),
        }  # fmt: skip


def page(rows: list[dict[str, object]]) -> str:
    """docs/families.md."""
    import transformers

    head = (
        f"# Families: what opens here, and what opens there\n\nMade by `python bench/families.py` with transformers "
        f"{transformers.__version__} and torch {torch.__version__.split('+')[0]}: tiny models, weights N(0, 0.3) everywhere, padding in the "
        "batch, float32 on the CPU. *Theirs in ours*: the largest difference of scores when their folder is read here; *ours in "
        "theirs*: when what we wrote is read there. *Round trip*: their tensors, read and written by us, are the same bit for "
        "bit.\n\n| model | their class | `model_type` we write | theirs in ours | ours in theirs | round trip |\n|---|---|---|---|---|---|\n"
    )
    lines = [
        f"| {r['name']} | `{r['class']}` | `{r['family']}` | {r['in']:.1e} | {r['out']:.1e} | {'exact' if r['exact'] else 'differs'} |"
        for r in rows
    ]
    tail = (
        "\n\nNetworks without a family (recurrent, sinusoidal, ALiBi, ...) are written as `model_type: yuyan`, safetensors and "
        "JSON too, and read by the same function. Refused with an error that names the cause: unknown tensors or settings, NaN "
        "weights, pickles other than through `weights_only`, links that lead out of the folder (a snapshot in a hub's cache is "
        "read: its links lead to the files of the same model), and code in the folder is never run.\n\n"
        "*sequence* and *answer* of T5 are read by both sides: the decoder reads the text that the encoder read, moved right by "
        "one token, and the score of a text is taken at its last token, which must be the end mark, as T5's tokenizer makes it. "
        "Not supported, and refused by name: multiple choice (`...ForMultipleChoice`), next-sentence prediction, "
        "`GPT2DoubleHeadsModel`, and encoders used as decoders (`BertLMHeadModel`, `RobertaForCausalLM`). The judgement of "
        "sentence pairs inside `BertForPreTraining` is left out, and a note says so.\n"
    )
    return head + "\n".join(lines) + tail


def kept() -> str:
    """What another program wrote into the page: its sections."""
    found = PAGE.read_text(encoding="utf-8").partition("\n## ") if PAGE.is_file() else ("", "", "")
    return "".join(found[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    names = list(parity.MODELS)[:: 8 if options.quick else 1]
    rows = [measure(name) for name in names]
    if not options.quick:
        PAGE.write_text(page(rows) + kept(), encoding="utf-8")
    worst = max(max(float(r["in"]), float(r["out"])) for r in rows)  # type: ignore[arg-type]
    print(f"{len(rows)} models, worst difference {worst:.1e}, all round trips exact: {all(r['exact'] for r in rows)}")
    shown = [{"name": f"{r['name']}: worst difference", "unit": "score", "ours": max(r["in"], r["out"]), "peer": "transformers",  # type: ignore[type-var]
              "peer_value": 1e-5, "ratio": None, "equal_output": bool(r["exact"])} for r in rows]  # fmt: skip
    print(json.dumps({"bench": "families", "rows": shown}))


if __name__ == "__main__":
    main()
