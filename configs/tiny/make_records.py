"""Records made of the bundled stories: how a line goes on, and how it does not.

python configs/tiny/make_records.py > configs/tiny/answers.jsonl
"""

from __future__ import annotations

import json
from pathlib import Path

STORIES = Path(__file__).with_name("stories.txt")
COUNT = 160


def records() -> list[dict[str, str]]:
    """The first half of a line as the prompt; the second as it is, and with its words (or characters) in reverse."""
    lines = [line for line in STORIES.read_text(encoding="utf-8").splitlines() if len(line) >= 20]
    found = []
    for line in lines[:COUNT]:
        space = " " if " " in line else ""
        words = line.split(" ") if space else list(line)
        cut = len(words) // 2
        answer, wrong = space.join(words[cut:]), space.join(reversed(words[cut:]))
        found.append({"prompt": space.join(words[:cut]) + space, "answer": answer, "rejected": wrong})
    return found


if __name__ == "__main__":
    for record in records():
        print(json.dumps(record, ensure_ascii=False))
