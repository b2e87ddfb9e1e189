"""Changes at random against their definitions, drawn from the same chance; what must never change does not."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.toy_runs import CONFIG, TRAIN, command, outcome
from yuyan.commands.companion import check_fit
from yuyan.commands.run import read_run_config
from yuyan.corpus import Batches
from yuyan.corpus.augment import Augmentation, Delete, Frequencies, Replace, Swap, TokenDropout, augmented
from yuyan.corpus.batch import Batch
from yuyan.corpus.records import Records
from yuyan.errors import ConfigError
from yuyan.objectives import Contrastive, NextToken, PrefixLM, collate
from yuyan.tokens import Special

BOS, EOS, MASK, UNK = 0, 1, 2, 3
SPECIAL = Special(bos=BOS, eos=EOS, mask=MASK, unk=UNK)
V = 40
TEXT = np.concatenate([np.full(100 - 2 * i, i) for i in range(UNK, V)])  # rarer and rarer
TOKENS = Frequencies.of([TEXT, np.array([BOS, EOS])], V, SPECIAL)
ROW = np.concatenate([[BOS], np.arange(10, 30), [EOS, BOS], np.arange(5, 25), [EOS]])
ALL: list[Augmentation] = [
    TokenDropout(rate=0.3), TokenDropout(rate=0.3, becomes="unigram"), TokenDropout(rate=0.3, becomes="mask"),
    TokenDropout(rate=0.3, becomes="unk"), Delete(rate=0.3), Swap(rate=0.3), Replace(rate=0.3),
    Replace(rate=0.3, by="same_frequency", neighbours=4),
]  # fmt: skip
NAMES = ["any", "unigram", "mask", "unk", "delete", "swap", "replace", "same frequency"]


def chance(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def next_token(row: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
    return NextToken().example(row, random)


@pytest.mark.parametrize("seed", range(20))
def test_each_is_its_definition(seed: int) -> None:
    text = set(range(UNK, V))
    dice = chance(seed).random(len(ROW)).tolist()
    hit = [d < 0.3 and int(t) in text for d, t in zip(dice, ROW, strict=True)]

    masked = TokenDropout(rate=0.3, becomes="mask").build(TOKENS)(ROW, chance(seed))
    assert masked.tolist() == [MASK if h else t for h, t in zip(hit, ROW.tolist(), strict=True)]

    left = Delete(rate=0.3).build(TOKENS)(ROW, chance(seed))
    assert left.tolist() == [t for h, t in zip(hit, ROW.tolist(), strict=True) if not h]

    random, swapped = chance(seed), ROW.tolist()
    places = [i for i, t in enumerate(swapped) if t in text]
    for a, b in random.integers(0, 40, (12, 2)).tolist():  # 0.3 of 40 tokens of text
        a, b = places[a], places[b]
        swapped[a], swapped[b] = swapped[b], swapped[a]
    assert Swap(rate=0.3).build(TOKENS)(ROW, chance(seed)).tolist() == swapped

    random = chance(seed)
    random.random(len(ROW))
    drawn = iter(random.integers(0, len(TEXT), sum(hit)).tolist())
    replaced = [int(TEXT[next(drawn)]) if h else t for h, t in zip(hit, ROW.tolist(), strict=True)]
    assert Replace(rate=0.3).build(TOKENS)(ROW, chance(seed)).tolist() == replaced


def test_what_is_put_in_has_the_frequencies_it_should_have() -> None:
    many = np.full(60_000, 20)
    for change, expected in (
        (TOKENS.unigram(), TOKENS.counts / TOKENS.counts.sum()),
        (TOKENS.uniform(), TOKENS.text / TOKENS.text.sum()),
        (TOKENS.same_frequency(4), np.isin(np.arange(V), [18, 19, 21, 22]) / 4),
    ):
        share = np.bincount(change(many, chance(0)), minlength=V) / len(many)
        assert np.abs(share - expected).max() < 0.01
        assert not share[expected == 0].any()
    rarest = Counter(TOKENS.same_frequency(4)(np.full(400, V - 1), chance(0)).tolist())
    assert set(rarest) == {V - 5, V - 4, V - 3, V - 2}


@pytest.mark.parametrize("change", ALL, ids=NAMES)
def test_control_tokens_stay_and_the_rate_is_kept(change: Augmentation) -> None:
    made = [change.build(TOKENS)(ROW, chance(seed)) for seed in range(200)]
    for ids in made:
        assert ids[np.isin(ids, [BOS, EOS])].tolist() == [BOS, EOS, BOS, EOS]
        assert ids[0] == BOS and ids[-1] == EOS
    changed = sum(40 - sum((Counter(ids.tolist()) & Counter(ROW.tolist())).values()) + 4 for ids in made) / 200 / 40
    assert 0.05 < changed < 0.35 or isinstance(change, Swap)


def test_what_is_read_loses_tokens_and_what_is_said_does_not() -> None:
    make = augmented(next_token, [TokenDropout(rate=0.5)], TOKENS)
    example, plain = make(ROW, chance(1)), next_token(ROW, chance(1))
    assert (example["labels"] == plain["labels"]).all() and (example["input_ids"] != plain["input_ids"]).sum() > 8
    make = augmented(next_token, [Replace(rate=0.5)], TOKENS)
    example = make(ROW, chance(1))
    assert (example["labels"] != plain["labels"]).any()
    assert (example["input_ids"][1:] == example["labels"][:-1]).all(), "one text, read and said"


def test_of_records_only_what_is_read_is_changed() -> None:
    ids = np.arange(10, 30)
    prompt = PrefixLM().build(Vocabulary())
    example = augmented(prompt.example, [Replace(rate=0.9)], TOKENS)({"prompt": ids, "answer": ids}, chance(0))
    labels = example["labels"][example["labels"] >= 0]
    assert labels.tolist() == [*ids.tolist(), EOS] and (example["input_ids"][1:21] != ids).sum() > 8
    pairs = Contrastive().build(Vocabulary())
    example = augmented(pairs.example, [Delete(rate=0.5)], TOKENS)({"query": ids, "positive": ids}, chance(0))
    assert len(example["query_input_ids"]) < 20 and example["document_input_ids"].shape[1] < 20
    item = {"query": ids, "positive": ids, "negatives": [ids, ids]}
    documents = augmented(pairs.example, [Replace(rate=0.5)], TOKENS)(item, chance(0))["document_input_ids"]
    changed = (documents[:, 1:-1] != ids).sum(1)
    assert (changed > 4).all(), "a wrong document is no cleaner than the right one, or that would tell it"
    example = augmented(pairs.example, [TokenDropout(rate=0.5)], TOKENS)({"query": ids, "positive": ids}, chance(0))
    assert example["document_input_ids"].shape == (1, 22)


def test_a_short_text_is_not_emptied() -> None:
    delete = Delete(rate=0.99).build(TOKENS)
    assert all(len(delete(np.array([10, 11, 12]), chance(seed))) >= 2 for seed in range(50))
    assert Swap(rate=0.5).build(TOKENS)(np.array([BOS, EOS]), chance(0)).tolist() == [BOS, EOS]


@pytest.mark.parametrize("change", ALL, ids=NAMES)
def test_neither_processes_nor_micro_batches_nor_an_interruption_matter(change: Augmentation) -> None:
    rows = Records([{"prompt": np.arange(4, 8 + i), "answer": np.arange(9, 12)} for i in range(7)], 40, seed=3)
    make = augmented(PrefixLM().build(Vocabulary()).example, [change, Swap(rate=0.2)], TOKENS)

    def rows_of(start: int, count: int, micro: int | None, rank: int = 0, world: int = 1) -> list[list[int]]:
        batches = Batches(
            rows, batch_rows=6, micro_rows=micro, example=make, collate=collate, seed=3, rank=rank, world_size=world
        )
        batches.load_state_dict(batches.state_dict() | {"rows": 6 * start})
        iterator = iter(batches)
        found = [row for update in islice(iterator, count) for part in update for row in real(part)]
        iterator.close()  # type: ignore[attr-defined]
        return found

    whole = rows_of(0, 5, None)
    assert whole[:7] != whole[7:14], "another epoch, other changes"
    assert rows_of(0, 5, 1) == whole and rows_of(2, 3, 4) == whole[12:]
    halves = [rows_of(0, 5, 2, rank, 2) for rank in range(2)]
    assert [row for n in range(5) for half in halves for row in half[3 * n : 3 * n + 3]] == whole


def real(batch: Batch) -> list[list[int]]:
    """The rows of a batch without their padding."""
    mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"], dtype=torch.bool))
    return [ids[keep.bool()].tolist() for ids, keep in zip(batch["input_ids"], mask, strict=True)]


class Vocabulary:
    """As much of a tokenizer as an objective asks for."""

    special = SPECIAL

    def __len__(self) -> int:
        return V


def test_what_cannot_be_is_refused() -> None:
    bare = Frequencies.of([TEXT], V, Special(bos=BOS, eos=EOS))
    for becomes in ("mask", "unk"):
        with pytest.raises(ConfigError, match=f"no {becomes} token"):
            TokenDropout(becomes=becomes).build(bare)  # type: ignore[arg-type]
    electra = CONFIG.parent / "electra.yaml"
    with pytest.raises(ConfigError, match="replaced_token"):
        check_fit(read_run_config(electra, ["data.augment=[{kind: token_dropout}]"]))
    check_fit(read_run_config(electra, ["data.augment=[{kind: swap}]"]))
    with pytest.raises(ConfigError, match="only token_dropout keeps every answer of this task at its place"):
        check_fit(read_run_config(CONFIG, ["task={kind: tag}", "model={kind: bert}", "data.augment=[{kind: swap}]"]))
    with pytest.raises(ConfigError, match=r"data\.augment\.0\.kind"):
        read_run_config(CONFIG, ["data.augment=[{kind: drop}]"])


def test_a_run_is_augmented_and_repeats_bit_for_bit(tmp_path: Path) -> None:
    augment = "data.augment=[{kind: token_dropout, rate: 0.2}, {kind: delete, rate: 0.05}]"
    settings = (*TRAIN, "train.steps=6", "evaluate.every=6")
    for name, more in (("plain", ()), ("one", (augment,)), ("two", (augment,))):
        assert command(*settings, *more, "--out", str(tmp_path / name)) == 0
    one, two, plain = (outcome(tmp_path / name) for name in ("one", "two", "plain"))
    assert one == two and one["hashes"] != plain["hashes"]
