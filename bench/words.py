"""The field's history on words: `python bench/words.py [--quick] [--corpus brown] [--seconds 400] [--models lstm,gpt] [--seeds 0,1,2]`.

Brown under Bengio's split rule: one stream of words, 17,905 types (bench/brown.py), numbered by frequency in the training part. KN5 and KN3 are counted;
nplm (n = 5, 30 features, 100 hidden units), rnn, gru, lstm (1 x 384, vectors of 192, tied, dropout 0.4) and gpt are trained
for so many CPU-seconds each, one thread, with a sampled softmax (2,048 shared draws) and, all but gpt, a carried state;
the weights that did best on the validation part are measured on the test part, by the scores of all words, alone and mixed
with KN5 (nplm also with KN3, as in the paper), the weight tuned on the validation part. The peer is the test perplexity of KN5 in the same run; in the paper
(Bengio et al. 2003, table 1) the neural model reached 276 alone and 252 mixed, beside its Kneser-Ney with 321.
`--corpus wikitext` takes WikiText-2 at word level (33,278 types) and a wider LSTM, for an hour or so (`--seconds 3600`).
`--quick`: 8 s each on the first 60,000 words, measured on 5,000; otherwise each result is a line of bench/results/words.jsonl, of
which `python bench/ladders.py` makes a table. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from brown import Words, read_brown, read_wikitext

import yuyan  # noqa: F401  (before torch: it chooses how threads wait)
from yuyan.corpus import Batches, Packed
from yuyan.corpus.continued import Continued
from yuyan.evaluate.likelihood import token_log_probs
from yuyan.evaluate.mixture import best_weight, mixed
from yuyan.models.classic import Gru, Lstm, Nplm, Rnn
from yuyan.models.network import NetworkModule
from yuyan.models.ngram import NGram
from yuyan.models.presets import Gpt
from yuyan.nn.cache import Carried
from yuyan.nn.sampled_softmax import SampledSoftmax
from yuyan.objectives import NextToken, collate
from yuyan.tokens.special import Special
from yuyan.train import (
    AdamW,
    Learner,
    MasterWeights,
    PlainStep,
    Plan,
    State,
    WarmupStableDecay,
    parameter_kinds,
    resolve,
    train,
)

RECURRENT = {"hidden_size": 384, "embedding_size": 192, "dropout": 0.4}
MODELS: dict[str, tuple[Any, float]] = {
    "nplm": (Nplm(order=5, embedding_size=30, hidden_size=100), 2e-3),
    "rnn": (Rnn(**RECURRENT), 1e-3),
    "gru": (Gru(**RECURRENT), 3e-3),
    "lstm": (Lstm(**RECURRENT), 3e-3),
    "gpt": (Gpt(hidden_size=192, num_layers=4, num_heads=6, dropout=0.3), 2e-3),
}
WIDER = {"hidden_size": 640, "embedding_size": 320, "dropout": 0.5}
WIDER_MODELS: dict[str, tuple[Any, float]] = {
    "gru": (Gru(**WIDER), 3e-3),
    "lstm": (Lstm(**WIDER), 3e-3),
    "gpt": (Gpt(hidden_size=320, num_layers=5, num_heads=10, dropout=0.2), 1.5e-3),
}
RESULTS = Path(__file__).parent / "results" / "words.jsonl"
COUNTED = (1, 2, 3, 5)
LENGTH, ROWS, LOOKS, LOOK_TOKENS = 64, 32, 8, 20_000


class OneText:
    """A stream of ids in the place of shards: one document."""

    folder = Path("brown")

    def __init__(self, ids: np.ndarray):
        self.flat, self.offsets = ids, np.array([0, len(ids)])

    def __len__(self) -> int:
        return 1


def by_frequency(words: Words) -> Words:
    """The same words, numbered by how often they occur in the training part."""
    order = np.argsort(-np.bincount(words.train, minlength=len(words.vocabulary)), kind="stable")
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    return Words(
        number[words.train], number[words.validation], number[words.test], [words.vocabulary[i] for i in order]
    )


def log_probs(model: NetworkModule, ids: np.ndarray, before: int, context: int | None) -> np.ndarray:
    """Of every word of a part that follows the word `before`."""
    return token_log_probs(model, [ids], bos=before, eos=0, context=context)[0][:-1]


def begin(preset: Any, rate: float, words: Words, seed: int) -> State:
    torch.manual_seed(seed)
    objective = NextToken(softmax=SampledSoftmax(negatives=2048))
    network = preset.build(len(words.vocabulary), seed)
    learner = Learner(network, objective)
    kinds = parameter_kinds(learner)
    weights = MasterWeights(learner, resolve("auto", torch.device("cpu")))
    carries = not isinstance(preset, Gpt)
    rows: Any = (
        Continued(OneText(words.train), LENGTH, ROWS, seed=seed, special=Special())  # type: ignore[arg-type]
        if carries
        else Packed(OneText(words.train), LENGTH, seed=seed, bos=None, eos=None)  # type: ignore[arg-type]
    )
    batches = Batches(rows, batch_rows=ROWS, example=objective.example, collate=collate, seed=seed)
    carried = Carried(ROWS, len(rows)) if carries else None
    network.carried = carried
    optimizer = AdamW(lr=rate, weight_decay=0.1, beta2=0.98).build(weights.masters, kinds)
    return State(learner, weights, optimizer, batches, carried=carried)


def trained(preset: Any, rate: float, words: Words, seconds: float, seed: int) -> tuple[NetworkModule, State]:
    """The best of LOOKS looks at the validation part, by the average of its first words."""
    state = begin(preset, rate, words, seed)
    step = PlainStep(
        Plan(seconds=seconds), WarmupStableDecay(warmup=0.03, decay=0.6), clip=1.0, clock=time.process_time
    )
    best, kept, next_look = math.inf, dict[str, torch.Tensor](), seconds / LOOKS
    updates = train(state, state.batches, step)
    network = preset.build(len(words.vocabulary), seed)
    for update in updates:
        done = step.plan.done(state)
        if update.seconds >= next_look or done:
            next_look = update.seconds + seconds / LOOKS
            network.load_state_dict(
                {k.removeprefix("model."): v.detach() for k, v in state.weights.masters.items()}, strict=False
            )
            look = words.validation[:LOOK_TOKENS]
            nats = -log_probs(network.eval(), look, int(words.train[-1]), context_of(preset)).mean()
            print(
                f"  {preset.kind} {update.seconds:6.1f} s  step {update.step}  sampled {update.loss:.3f}  "
                f"validation {math.exp(nats):.1f}",
                flush=True,
            )
            if nats < best:
                best, kept = nats, {k: v.clone() for k, v in network.state_dict().items()}
            step.start_clock()  # a look is no training
        if done:
            break
    network.load_state_dict(kept)
    return network, state


def context_of(preset: Any) -> int | None:
    return LENGTH if isinstance(preset, Gpt) else None


def rows_of(
    words: Words, models: dict[str, tuple[Any, float]], seconds: float, seeds: list[int], corpus: str
) -> list[dict[str, Any]]:
    """Train and measure all; with a `corpus` each result is kept under its name."""
    starts = np.array([0, len(words.train)])
    counted = {
        order: NGram.fit(words.train, starts, order=order, vocab_size=len(words.vocabulary)) for order in COUNTED
    }
    parts = (words.validation, words.test)
    known = {order: [model.log_probs(ids) for ids in parts] for order, model in counted.items()}
    perplexity = {order: float(np.exp(-each[1].mean())) for order, each in known.items()}
    print("  ".join(f"KN{order} {value:.1f}" for order, value in perplexity.items()), flush=True)
    keep(corpus, [{"model": f"kn{order}", "seed": 0, "test": round(value, 2)} for order, value in perplexity.items()])
    rows = []
    for name, (preset, rate) in models.items():
        for seed in seeds:
            network, state = trained(preset, rate, words, seconds, seed)
            context, before = context_of(preset), (int(words.train[-1]), int(words.validation[-1]))
            ours = [log_probs(network, ids, first, context) for ids, first in zip(parts, before, strict=True)]
            alone = float(np.exp(-ours[1].mean()))
            both = {}
            for order in (3, 5) if name == "nplm" else (5,):
                weight = best_weight(ours[0], known[order][0])
                both[f"with KN{order}"] = float(np.exp(-mixed(ours[1], known[order][1], weight).mean()))
            epochs = state.tokens / len(words.train)
            print(
                f"{name} seed {seed}: test {alone:.1f} ({100 * (1 - alone / perplexity[5]):.1f} % under KN5), "
                + ", ".join(f"{what} {value:.1f}" for what, value in both.items())
                + f" (weight {weight:.2f}); {state.seconds:.0f} CPU-s, {epochs:.1f} epochs, {state.step} updates",
                flush=True,
            )
            found = {"alone": alone, **both}
            keep(corpus, [{
                "model": name, "seed": seed, "test": round(alone, 2), "seconds": round(state.seconds), "epochs": round(epochs, 1),
                "updates": state.step, **{what: round(value, 2) for what, value in both.items()},
            }])  # fmt: skip
            for what, value in found.items():
                rows.append({
                    "name": f"{name}, {what}, seed {seed}", "unit": "perplexity", "ours": value, "peer": "KN5, ours",
                    "peer_value": perplexity[5], "ratio": perplexity[5] / value, "equal_output": None,
                })  # fmt: skip
    return rows


def keep(corpus: str, results: list[dict[str, Any]]) -> None:
    if corpus:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"corpus": corpus, **result}) + "\n" for result in results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=400.0)
    parser.add_argument("--corpus", choices=["brown", "wikitext"], default="brown")
    parser.add_argument("--models", default="")
    parser.add_argument("--seeds", default="0")
    options = parser.parse_args()
    torch.set_num_threads(1)
    words = by_frequency(read_brown() if options.corpus == "brown" else read_wikitext())
    models = MODELS if options.corpus == "brown" else WIDER_MODELS
    chosen = options.models.split(",") if options.models else list(models)
    if options.quick:
        words = Words(words.train[:60_000], words.validation[:5_000], words.test[:5_000], words.vocabulary)
    seconds = 8.0 if options.quick else options.seconds
    seeds = [int(seed) for seed in options.seeds.split(",")]
    kept = "" if options.quick else options.corpus
    rows = rows_of(words, {name: models[name] for name in chosen}, seconds, seeds, kept)
    print(json.dumps({"bench": "words", "corpus": options.corpus, "seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main()
