"""Small tasks that can be learned in a second: colours as moods, names before verbs; in English and in Chinese."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GOOD = {"en": ("warm", "kind", "bright", "sweet"), "zh": ("温暖", "善良", "明亮", "甜美")}
BAD = {"en": ("cold", "cruel", "dark", "sour"), "zh": ("寒冷", "残忍", "黑暗", "酸涩")}
THINGS = {"en": ("the room", "this film", "a meal", "our guide"), "zh": ("房间", "这部电影", "晚餐", "导游")}


def sentences(language: str) -> list[tuple[str, str]]:
    """Texts and their moods: 32 of each language, all different."""
    joint = "{} was {}" if language == "en" else "{}很{}"
    return [
        (joint.format(thing, word) + end, mood)
        for mood, words in (("good", GOOD[language]), ("bad", BAD[language]))
        for word in words
        for thing in THINGS[language]
        for end in ("", "." if language == "en" else "。")
    ]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def moods(path: Path, language: str = "en") -> Path:
    """A file of such texts with labels."""
    return write_jsonl(path, [{"text": text, "label": mood} for text, mood in sentences(language)])


def config(
    folder: Path, data: Path, task: str, model: str = "{kind: bert, hidden_size: 32, num_layers: 1, num_heads: 2}"
) -> Path:
    """A run on these data that takes a second."""
    path = folder / "run.yaml"
    path.write_text(
        f"name: toy\ndata: {{sources: [{data}], validation: [{data}]}}\ntokenizer: {{kind: word}}\nmodel: {model}\n"
        f"task: {task}\ntrain: {{epochs: 16, context: 64, batch_tokens: 1024, threads: 1, "
        "optimizer: {kind: adamw, lr: 3.0e-3}}\nevaluate: {every: 32}\n",
        encoding="utf-8",
    )
    return path


def turned(language: str = "en") -> list[tuple[str, str]]:
    """Texts and what is to be written for them: the mood before the thing."""
    joint, form = (" was ", "{1} was {0}") if language == "en" else ("很", "很{1}的是{0}呢")
    return [(text, form.format(*text.split(joint))) for text, _ in sentences(language)[::2]]


def pairs(path: Path, language: str = "en") -> Path:
    """A file of them."""
    return write_jsonl(path, [{"source": source, "target": target} for source, target in turned(language)])
