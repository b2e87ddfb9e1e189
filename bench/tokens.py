"""Tokenizers, token shards and packing, against the libraries called directly: `python bench/tokens.py [--quick]`.

Training: MB of text a second for the same kind and size. The cuts differ, so the vocabularies do; what they are worth is
beside the speed, as bytes a token on held-out text. Encoding: the same vocabulary on both sides, and the ids must be
equal. Packing: rows of the same epoch, which must be equal too. Ours and the peer take turns; the best time of each counts.
A peer that is not installed is left out, and the line says so. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers

from yuyan.corpus import Batches, Packed, Shards, write_shards
from yuyan.corpus.order import DOCUMENTS, OFFSET, ROWS, number_below, permutation
from yuyan.text.document import Document
from yuyan.tokens import Tokenizer, train_tokenizer
from yuyan.tokens.pattern import LOSSLESS
from yuyan.tokens.train import BytePairConfig, CharConfig, UnigramConfig

VOCABULARY, ALL = 16_000, 2_000_000_000
Work = Callable[[], Any]


class Corpora(NamedTuple):
    """Documents to train on and one held-out text, English and Chinese."""

    english: list[str]
    english_held: str
    chinese: list[str]
    chinese_held: str


class Row(NamedTuple):
    """One comparison."""

    name: str
    unit: str
    ours: float
    peer: str
    peer_value: float
    equal_output: bool | None
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.ours / self.peer_value

    def show(self) -> None:
        equal = {True: "equal", False: "NOT EQUAL", None: ""}[self.equal_output]
        print(f"{self.name:34} {self.ours:12,.2f} {self.unit:12} {self.peer_value:12,.2f} {self.peer:34}"
              f" x{self.ratio:5.2f} {equal} {self.note}", flush=True)  # fmt: skip

    def plain(self) -> dict[str, Any]:
        return self._asdict() | {"ratio": round(self.ratio, 3)}


def data_folder() -> Path:
    """Where the measuring data is: $YUYAN_DATA, else `../shared/data` beside the repository."""
    return Path(os.environ.get("YUYAN_DATA") or Path(__file__).parents[2] / "shared" / "data")


def corpora(folder: Path, share: float) -> Corpora:
    """WikiText-2 by article and Tang poems by poem, the first `share` of each."""
    with zipfile.ZipFile(folder / "lm" / "wikitext-2.zip") as archive:
        parts = [archive.read(f"wikitext-2/wiki.{part}.tokens").decode() for part in ("train", "valid")]
    articles = ["\n = " + article for article in parts[0].split("\n \n = ")]
    with gzip.open(folder / "lm" / "tang_poetry.jsonl.gz", "rt", encoding="utf-8") as file:
        poems = [json.loads(line)["text"] for line in file]
    cut = len(poems) * 9 // 10
    english, chinese = articles[: int(len(articles) * share)], poems[: int(cut * share)]
    return Corpora(english, parts[1][: int(len(parts[1]) * share)], chinese, "\n\n".join(poems[cut:]))


def megabytes(texts: list[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


class Race(NamedTuple):
    """The best wall time of each, what they returned last, and ours against the peer in processor time."""

    ours: float
    peer: float
    result: Any
    expected: Any
    note: str


def race(ours: Work, peer: Work, times: int) -> Race:
    """Run both, taking turns. Processor time is less disturbed by whatever else runs on the machine."""
    wall, processor, results = [float("inf")] * 2, [float("inf")] * 2, [None, None]
    for _ in range(times):
        for i, work in enumerate((ours, peer)):
            started, used = time.perf_counter(), time.process_time()
            results[i] = work()
            processor[i] = min(processor[i], time.process_time() - used)
            wall[i] = min(wall[i], time.perf_counter() - started)
    return Race(*wall, *results, f"(x{processor[1] / processor[0]:.2f} in CPU time)")


# ---------------------------------------------------------------- training


def plain_bpe(texts: list[str]) -> tokenizers.Tokenizer:
    """Byte-level BPE as the library's own documentation trains it, with GPT-2's cuts."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=VOCABULARY, min_frequency=2, initial_alphabet=alphabet, show_progress=False),
    )
    return inner


def plain_unigram(texts: list[str]) -> tokenizers.Tokenizer:
    """Unigram as the library's own documentation trains it."""
    inner = tokenizers.Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    inner.train_from_iterator(
        texts,
        trainers.UnigramTrainer(
            vocab_size=VOCABULARY, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        ),
    )
    return inner


def sentencepiece_unigram(texts: list[str]) -> Any:
    """Unigram by SentencePiece, with the coverage of ours."""
    import sentencepiece

    with tempfile.TemporaryDirectory() as folder:
        lines = (line for text in texts for line in text.split("\n") if line.strip())
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines, model_prefix=f"{folder}/m", vocab_size=VOCABULARY, model_type="unigram",
            character_coverage=0.9995, num_threads=os.cpu_count(), max_sentence_length=100_000, minloglevel=2,
            hard_vocab_limit=False,
        )  # fmt: skip
        return sentencepiece.SentencePieceProcessor(model_file=f"{folder}/m.model")


def bench_training(data: Corpora, times: int) -> list[Row]:
    rows = []
    unigram = UnigramConfig(vocab_size=VOCABULARY, sample_bytes=ALL)
    peers: list[tuple[str, Any, str, Callable[[list[str]], Any]]] = [
        ("BPE", BytePairConfig(vocab_size=VOCABULARY, sample_bytes=ALL), "tokenizers, GPT-2 cuts", plain_bpe),
        ("Unigram", unigram, "tokenizers UnigramTrainer", plain_unigram),
    ]
    if installed("sentencepiece"):
        peers.append(("Unigram", unigram, "sentencepiece", sentencepiece_unigram))
    for kind, config, name, plain in peers:
        for language, texts, held in (
            ("English", data.english, data.english_held), ("Chinese", data.chinese, data.chinese_held),
        ):  # fmt: skip
            if kind == "Unigram":  # the peers need minutes for more
                texts = texts[: len(texts) // 5]
            size = megabytes(texts)

            def work(texts: list[str] = texts, config: Any = config) -> Tokenizer:
                return train_tokenizer(texts, config)

            def peer(texts: list[str] = texts, plain: Any = plain) -> Any:
                return plain(texts)

            mine, theirs, tokenizer, other, cpu = race(work, peer, times)
            size_held = len(held.encode())
            ids = other.encode(held)
            count = len(ids if isinstance(ids, list) else ids.ids)
            note = f"bytes/token {size_held / len(tokenizer.encode(held)):.3f}, peer {size_held / count:.3f} {cpu}"
            rows.append(
                Row(f"train {kind} {language} {size:.1f} MB", "MB/s", size / mine, name, size / theirs, None, note)
            )
            rows[-1].show()
    return rows


# ---------------------------------------------------------------- encoding


def tiktoken_of(tokenizer: Tokenizer) -> Any:
    """The same byte-level BPE in tiktoken: a token's rank is its id less the order of the single bytes."""
    import tiktoken

    control = tokenizer.special.control
    tokens = [tokenizer.pieces.first[i] for i in range(len(tokenizer)) if i not in control]
    return tiktoken.Encoding(
        "ours", pat_str=LOSSLESS, mergeable_ranks={token: i for i, token in enumerate(tokens)}, special_tokens={}
    )


def bench_encoding(data: Corpora, times: int) -> list[Row]:
    texts = data.english + data.chinese
    tokenizer = train_tokenizer(texts, BytePairConfig(vocab_size=VOCABULARY))
    inner = tokenizers.Tokenizer.from_str(tokenizer._inner.to_str())
    inner.encode_special_tokens = True
    threads = os.cpu_count() or 1
    rows = []

    def add(name: str, what: list[str], ours: Work, peer: str, theirs: Work) -> None:
        mine, other, ids, ids_of_peer, cpu = race(ours, theirs, times)
        size = megabytes(what)
        rows.append(Row(name, "MB/s", size / mine, peer, size / other, ids == ids_of_peer, cpu))
        rows[-1].show()

    for name, some in (("English articles", data.english), ("Chinese poems", data.chinese)):
        add(f"encode BPE {name}", some, lambda some=some: tokenizer.encode_batch(some), "tokenizers.encode_batch",
            lambda some=some: [e.ids for e in inner.encode_batch(some, add_special_tokens=False)])  # fmt: skip
        if installed("tiktoken"):
            theirs = tiktoken_of(tokenizer)
            add(f"encode BPE {name}", some, lambda some=some: tokenizer.encode_batch(some), f"tiktoken, {threads} threads",
                lambda some=some, theirs=theirs: theirs.encode_ordinary_batch(some, num_threads=threads))  # fmt: skip
    one = "\n".join(data.english)
    add("encode BPE one long text", [one], lambda: tokenizer.encode(one), "tokenizers.encode",
        lambda: inner.encode(one, add_special_tokens=False).ids)  # fmt: skip
    unspaced = "".join(data.chinese).translate({ord(c): None for c in "，。！？\n "})[:1_000_000]
    add("encode BPE 1e6 Han, no spaces", [unspaced], lambda: tokenizer.encode(unspaced), "tokenizers.encode",
        lambda: inner.encode(unspaced, add_special_tokens=False).ids)  # fmt: skip
    characters = train_tokenizer([one], CharConfig())
    numbers = {character: i for i, character in enumerate(characters.vocabulary)}
    add("encode characters", [one], lambda: characters.encode(one), "[numbers[c] for c in text]",
        lambda: [numbers[c] for c in one])  # fmt: skip
    ids = tokenizer.encode(one)
    add("decode BPE", [one], lambda: tokenizer.decode(ids), "tokenizers.decode", lambda: inner.decode(ids))
    return rows


# ---------------------------------------------------------------- shards, packing, batches


def concatenated(shards: Shards, length: int, bos: int, eos: int, epoch: int) -> np.ndarray:
    """The rows of an epoch the plain way: join all documents in memory, wrap around, cut, shuffle."""
    order = permutation(len(shards), 0, epoch, DOCUMENTS)
    joined = np.concatenate([part for i in order for part in ([bos], shards.document(int(i)), [eos])]).astype(np.int64)
    count = -(-len(joined) // length)
    ring = np.resize(np.roll(joined, -number_below(len(joined), 0, epoch, OFFSET)), count * length + 1)
    rows = np.lib.stride_tricks.sliding_window_view(ring, length + 1)[::length]
    return rows[permutation(count, 0, epoch, ROWS)]


def bench_packing(data: Corpora, folder: Path, times: int) -> list[Row]:
    texts = data.english + data.chinese
    tokenizer = train_tokenizer(texts, BytePairConfig(vocab_size=VOCABULARY))
    size, started = megabytes(texts), time.perf_counter()
    shards = write_shards((Document(str(i), text) for i, text in enumerate(texts)), tokenizer, folder / "shards")
    print(
        f"write shards: {size / (time.perf_counter() - started):.2f} MB/s, {len(shards):,} documents, {shards.tokens:,} tokens"
    )
    bos, eos = tokenizer.special.bos or 0, tokenizer.special.eos or 0
    rows = []
    for length in (256, 1024):
        packed = Packed(shards, length, seed=0, bos=bos, eos=eos)
        batch = max(1, 16_384 // length)

        def ours(packed: Packed = packed, batch: int = batch) -> np.ndarray:
            packed._epochs.clear()  # the order of the epoch is a part of the work
            parts = [packed.rows(0, np.arange(i, min(i + batch, len(packed)))) for i in range(0, len(packed), batch)]
            return np.concatenate(parts)

        mine, theirs, mined, found, cpu = race(ours, lambda n=length: concatenated(shards, n, bos, eos, 0), times)
        equal = bool(np.array_equal(mined, found))
        tokens = f"{packed.tokens / mine / 1e6:.0f} M tokens/s {cpu}"
        rows.append(Row(f"rows of {length}, one epoch", "rows/s", len(packed) / mine, "join all, cut, shuffle",
                        len(packed) / theirs, equal, tokens))  # fmt: skip
        rows[-1].show()
        rows.append(bench_batches(packed, times))
        rows[-1].show()
    return rows


class _Dataset(torch.utils.data.Dataset[Any]):
    def __init__(self, packed: Packed):
        self.packed = packed

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = torch.from_numpy(self.packed.row(0, index))
        return {"input_ids": row[:-1], "labels": row[1:]}


def bench_batches(packed: Packed, times: int) -> Row:
    """Micro-batches as tensors, one epoch, beside a DataLoader over the same rows, one a call."""
    batch = max(1, 16_384 // packed.length)
    count = len(packed) // batch

    def ours() -> torch.Tensor:
        iterator = iter(Batches(packed, batch_rows=batch, seed=0))
        found = torch.cat([next(iterator)[0]["labels"] for _ in range(count)])
        iterator.close()  # type: ignore[attr-defined]
        return found

    def theirs() -> torch.Tensor:
        loader = torch.utils.data.DataLoader(_Dataset(packed), batch_size=batch, drop_last=True)
        return torch.cat([update["labels"] for update in loader])

    mine, other, found, expected, cpu = race(ours, theirs, times)
    return Row(f"batches of {packed.length}, one epoch", "rows/s", count * batch / mine, "torch DataLoader, same rows",
               count * batch / other, bool(torch.equal(found, expected)), cpu)  # fmt: skip


# ---------------------------------------------------------------- the whole


def installed(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the text, each once")
    quick = parser.parse_args().quick
    if not data_folder().is_dir():
        sys.exit(f"no data at {data_folder()}: set YUYAN_DATA to the folder with lm/wikitext-2.zip")
    for name in ("tiktoken", "sentencepiece"):
        if not installed(name):
            print(f"{name} is not installed: its rows are left out (pip install {name})")
    torch.set_num_threads(1)
    data = corpora(data_folder(), 0.1 if quick else 1.0)
    times = 1 if quick else 3
    rows = bench_encoding(data, times)
    with tempfile.TemporaryDirectory() as folder:
        rows += bench_packing(data, Path(folder), times)
    rows += bench_training(data, times=1)
    print(json.dumps({"bench": "tokens", "rows": [row.plain() for row in rows]}))


if __name__ == "__main__":
    main()
