"""What a tokenizer makes of a text: tokens by language, what it cannot write, what it never uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from yuyan.tokens.tokenizer import Tokenizer

LONGEST_SHOWN = 20
_BATCH = 1 << 20  # characters


@dataclass
class Share:
    """Texts of one language: sums. `exact` counts texts that come back as they were, `unknown` tokens that are unk."""

    texts: int = 0
    characters: int = 0
    bytes: int = 0
    tokens: int = 0
    unknown: int = 0
    exact: int = 0

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes a token stands for: more is a shorter sequence for the model."""
        return self.bytes / max(1, self.tokens)

    @property
    def tokens_per_character(self) -> float:
        """For scripts where a character is much of a word."""
        return self.tokens / max(1, self.characters)

    @property
    def unknown_rate(self) -> float:
        """Share of the tokens that are unk."""
        return self.unknown / max(1, self.tokens)

    def plain(self) -> dict[str, Any]:
        """As data for JSON."""
        rates = {"bytes_per_token": self.bytes_per_token, "tokens_per_character": self.tokens_per_character}
        return asdict(self) | rates | {"unknown_rate": self.unknown_rate}


@dataclass
class TokenReport:
    """A tokenizer on some texts. `used` of `vocab_size` tokens occurred; `longest` are the longest tokens, as text."""

    vocab_size: int
    fingerprint: str
    languages: dict[str, Share] = field(default_factory=dict)
    used: int = 0
    longest: list[str] = field(default_factory=list)

    @property
    def total(self) -> Share:
        """All languages together."""
        names = list(asdict(Share()))
        return Share(**{name: sum(vars(share)[name] for share in self.languages.values()) for name in names})

    def plain(self) -> dict[str, Any]:
        """As data for JSON."""
        languages = {name: share.plain() for name, share in self.languages.items()}
        own = {"vocab_size": self.vocab_size, "fingerprint": self.fingerprint, "used": self.used}
        return own | {"longest": self.longest, "total": self.total.plain(), "languages": languages}


def report_on(tokenizer: Tokenizer, texts: Iterable[tuple[str, str]]) -> TokenReport:
    """Encode `texts`, pairs of a language and a text, and count. Languages come out by size, the largest first."""
    seen = np.zeros(len(tokenizer), np.int64)
    languages: dict[str, Share] = {}
    for batch in _batches(texts):
        encoded = tokenizer.encode_batch([text for _, text in batch])
        for (language, text), ids in zip(batch, encoded, strict=True):
            share = languages.setdefault(language, Share())
            share.texts += 1
            share.characters += len(text)
            share.bytes += len(text.encode())
            share.tokens += len(ids)
            share.unknown += tokenizer.unknown(ids)
            share.exact += tokenizer.decode(ids) == text
            seen += np.bincount(np.array(ids, np.int64), minlength=len(seen))
    ordered = dict(sorted(languages.items(), key=lambda item: (-item[1].bytes, item[0])))
    return TokenReport(
        len(tokenizer), tokenizer.fingerprint, ordered, used=int((seen > 0).sum()), longest=longest_tokens(tokenizer)
    )


def longest_tokens(tokenizer: Tokenizer, count: int = LONGEST_SHOWN) -> list[str]:
    """The tokens that stand for most characters: of a small corpus they show what was learnt by heart."""
    ids = [i for i in range(len(tokenizer)) if i not in tokenizer.special.control and i != tokenizer.special.unk]
    texts = [tokenizer.decode([i]) for i in ids]
    return sorted(texts, key=lambda text: (-len(text), text))[:count]


def _batches(texts: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    size = 0
    for pair in texts:
        batch.append(pair)
        size += len(pair[1])
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
