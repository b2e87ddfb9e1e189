"""Training a tokenizer: byte-level BPE, WordPiece, Unigram, words, characters, over the `tokenizers` library.

Training reads a sample of the text that fits in memory, is the same for the same seed, and says what it did: how much
text it saw, whether the text allowed the wanted vocabulary, what the vocabulary does not cover.
Control tokens take the last ids and are in no model's own vocabulary, so no text can become one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import regex
import tokenizers
from pydantic import Field
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from yuyan.config import Config, Seed
from yuyan.console import interruptible, warn
from yuyan.errors import ConfigError, DataError
from yuyan.tokens.pattern import BLOCKS, LOSSLESS, SPACES, TIDY, WORDS
from yuyan.tokens.sample import Sample, sample_texts
from yuyan.tokens.special import BOS, EOS, MASK, PAD, UNK, sentinel
from yuyan.tokens.tokenizer import Tokenizer
from yuyan.tokens.unigram import estimate_unigram

BYTES = 256
_PIECE = regex.compile(LOSSLESS, regex.V1)  # the library's own cutting gives no counts
MEGABYTE = 1_000_000
DENSE = 8  # memory of training on a byte of Chinese, measured in bytes of English


class _Common(Config):
    mask: bool = False
    """Whether there is a `<mask>` token, for masked language models."""
    sentinels: int = Field(0, ge=0, le=1000)
    """How many `<extra_id_N>` tokens there are, for span corruption."""
    sample_bytes: int = Field(64 * MEGABYTE, ge=1000, le=2_000 * MEGABYTE)
    """Read at most so much of the text, chosen at random; the default takes about 1 GB of memory. For BPE and Unigram
    Chinese and Japanese count eightfold: without spaces few pieces repeat, and memory goes by distinct pieces."""
    seed: Seed = 0
    """Which sample."""


class BytePairConfig(_Common):
    """Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019): any text, and back exactly."""

    kind: Literal["bpe"] = "bpe"
    vocab_size: int = Field(8192, ge=1)
    """Tokens in all, with the control tokens; at least 256 and those."""
    min_frequency: int = Field(2, ge=1)
    """A pair is merged only if it occurs so often."""


class UnigramConfig(_Common):
    """Unigram language model (Kudo 2018): the likeliest of all cuts. Characters outside the vocabulary become unk."""

    kind: Literal["unigram"] = "unigram"
    vocab_size: int = Field(8192, ge=1)
    """Tokens in all, with the control tokens."""
    coverage: float = Field(0.9995, gt=0, le=1)
    """Share of the text that its characters must cover; the rarest ones beyond it are unk."""


class WordPieceConfig(_Common):
    """WordPiece (Devlin et al. 2019): longest match first within a word. White space is not kept."""

    kind: Literal["wordpiece"] = "wordpiece"
    vocab_size: int = Field(8192, ge=1)
    """Tokens in all, with the control tokens."""
    coverage: float = Field(0.9995, gt=0, le=1)
    """Share of the text that its characters must cover; the rarest ones beyond it are unk."""
    lowercase: bool = False
    """Write everything in small letters first."""


class WordConfig(_Common):
    """Whole words; a word outside the vocabulary is unk. White space is not kept."""

    kind: Literal["word"] = "word"
    vocab_size: int = Field(20_000, ge=1)
    """Tokens in all, with the control tokens; the most frequent words are kept."""
    split: Literal["words", "spaces"] = "words"
    """Cut at words and punctuation, or only at white space, for text that has been cut into words before."""
    lowercase: bool = False
    """Write everything in small letters first."""


class CharConfig(_Common):
    """Single characters; one outside the vocabulary is unk."""

    kind: Literal["char"] = "char"
    vocab_size: int | None = Field(None, ge=1)
    """Tokens in all, with the control tokens; null for all characters of the text."""


TokenizerConfig = Annotated[
    BytePairConfig | WordPieceConfig | UnigramConfig | WordConfig | CharConfig, Field(discriminator="kind")
]


@dataclass(frozen=True)
class TrainReport:
    """What a training did. Sizes in bytes are of UTF-8; `notes` are sentences for the user."""

    kind: str
    vocab_size: int
    wanted: int | None
    documents: int
    bytes_seen: int
    bytes_used: int
    seed: int
    seconds: float
    notes: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As data for JSON."""
        return asdict(self)


class Trained(NamedTuple):
    """A tokenizer and what was done to get it."""

    tokenizer: Tokenizer
    report: TrainReport


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Train, and say on the console what was not as wanted. Raises ConfigError or DataError."""
    trained = train_with_report(texts, config)
    for note in trained.report.notes:
        warn(note)
    return trained.tokenizer


def train_with_report(texts: Iterable[str], config: TokenizerConfig) -> Trained:
    """Train a tokenizer of `config` on a sample of `texts`; the same texts and config, the same tokenizer.

    Raises ConfigError if `vocab_size` is less than the kind needs for this text, naming the least that would do, and
    DataError if there is no text.
    """
    started = time.monotonic()
    control = _control_names(config)
    _check_room(config, len(control))
    dense = DENSE if isinstance(config, BytePairConfig | UnigramConfig) else 1
    sample = sample_texts(texts, config.sample_bytes, config.seed, dense=dense)
    if not any(text.strip() for text in sample.texts):
        raise DataError("no text to train a tokenizer on: every document is empty or white space")
    inner, notes = interruptible(partial(_TRAIN[type(config)], sample, config, len(control)))
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in control.values()])
    tokenizer = Tokenizer(inner.to_str(), _settings(control))
    _check_size(tokenizer, config)
    if config.vocab_size is not None and len(tokenizer) < config.vocab_size:
        notes.append(
            f"the text allows a vocabulary of only {len(tokenizer):,} tokens; {config.vocab_size:,} were wanted"
        )
    report = TrainReport(
        kind=config.kind, vocab_size=len(tokenizer), wanted=config.vocab_size, documents=sample.documents_seen,
        bytes_seen=sample.bytes_seen, bytes_used=sample.bytes_used, seed=config.seed,
        seconds=time.monotonic() - started, notes=notes,
    )  # fmt: skip
    return Trained(tokenizer, report)


# ---------------------------------------------------------------- what all kinds share


def _control_names(config: TokenizerConfig) -> dict[str, str]:
    """Control tokens by role, in the order of their ids; unk is the model's own and comes first of all ids."""
    names = {} if isinstance(config, BytePairConfig) else {"unk": UNK}
    names |= {"pad": PAD, "bos": BOS, "eos": EOS}
    if config.mask:
        names["mask"] = MASK
    return names | {f"sentinel {n}": sentinel(n) for n in range(config.sentinels)}


def _settings(control: dict[str, str]) -> dict[str, Any]:
    """A `tokenizer_config.json`. `split_special_tokens` is what makes `transformers` read `</s>` in a text as text."""
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    settings |= {f"{role}_token": name for role, name in control.items() if " " not in role}
    if extra := [name for role, name in control.items() if " " in role]:
        settings["additional_special_tokens"] = extra
    return settings


def _check_room(config: TokenizerConfig, control: int) -> None:
    least = control + (BYTES if isinstance(config, BytePairConfig) else 1)
    if config.vocab_size is not None and config.vocab_size < least:
        what = (
            f"the 256 bytes and {control} control tokens" if least > BYTES else f"{control} control tokens and a token"
        )
        raise ConfigError(f"vocab_size: {config.vocab_size} has no room for {what}; give at least {least}")


def _check_size(tokenizer: Tokenizer, config: TokenizerConfig) -> None:
    if config.vocab_size is not None and len(tokenizer) > config.vocab_size:
        lower = "" if isinstance(config, WordConfig | CharConfig | BytePairConfig) else ", or a lower coverage"
        raise ConfigError(
            f"vocab_size: {config.vocab_size} has no room for the characters of this text; "
            f"give at least {len(tokenizer)}{lower}"
        )


def _cut(pattern: str, *, keep_all: bool) -> pre_tokenizers.PreTokenizer:
    if keep_all:
        return pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Split(Regex(pattern), "removed", invert=True)


def _with_spaces(prefix: str) -> decoders.Decoder:
    """Put a space between words; a token with `prefix` goes on with the word before it."""
    return decoders.Sequence([decoders.WordPiece(prefix=prefix, cleanup=False), decoders.Replace(Regex(TIDY), "")])


def _covered(texts: Sequence[str], coverage: float) -> tuple[list[str], list[str]]:
    """The texts without the rarest characters, and a note about them."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    total, kept, rare = sum(counts.values()), 0, []
    for char, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if kept >= coverage * total and not char.isspace():
            rare.append(char)
        kept += count
    if not rare:
        return list(texts), []
    gone = sum(counts[char] for char in rare)
    note = f"{len(rare):,} rare characters, {100 * gone / total:.3f} % of the text, are unk (coverage {coverage})"
    table = str.maketrans(dict.fromkeys(rare, " "))
    return [text.translate(table) for text in texts], [note]


# ---------------------------------------------------------------- one function a kind


def _train_bpe(sample: Sample, config: BytePairConfig, control: int) -> tuple[tokenizers.Tokenizer, list[str]]:
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [_cut(LOSSLESS, keep_all=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size - control, min_frequency=config.min_frequency, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[],
    )  # fmt: skip
    inner.train_from_iterator(sample.texts, trainer)
    return inner, []


def _train_unigram(sample: Sample, config: UnigramConfig, control: int) -> tuple[tokenizers.Tokenizer, list[str]]:
    texts, notes = _covered(sample.texts, config.coverage)
    characters = len(set().union(*texts) | {"▁"} - {" "})
    if characters + control > config.vocab_size:
        raise ConfigError(
            f"vocab_size: {config.vocab_size} has no room for the {characters} characters of this text and {control} "
            f"control tokens; give at least {characters + control}, or a lower coverage"
        )
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_PIECE.findall(text))
    words: Counter[str] = Counter()
    for piece, count in counts.items():
        words[piece.replace(" ", "▁")] += count
    pieces = estimate_unigram(words, config.vocab_size - control)
    inner = tokenizers.Tokenizer(models.Unigram([(UNK, 0.0), *pieces], unk_id=0))
    spaces = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never", split=False)
    inner.pre_tokenizer = pre_tokenizers.Sequence([_cut(LOSSLESS, keep_all=True), spaces])
    inner.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="never", split=False)
    return inner, notes


def _train_wordpiece(sample: Sample, config: WordPieceConfig, control: int) -> tuple[tokenizers.Tokenizer, list[str]]:
    texts, notes = _covered(sample.texts, config.coverage)
    inner = tokenizers.Tokenizer(models.WordPiece(unk_token=UNK, max_input_chars_per_word=100))
    if config.lowercase:
        inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = _cut(WORDS, keep_all=False)
    inner.decoder = _with_spaces("##")
    # The library numbers the continuing characters in the order of a hash table, and ties are decided by number. So a
    # first training without merges finds them, and a second one is given them in order.
    inner.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=1, show_progress=False))
    continuing = sorted(token for token in inner.get_vocab() if len(token) > 2)
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.vocab_size - control + 1, special_tokens=[UNK, *continuing], show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    result = tokenizers.Tokenizer(models.WordPiece(inner.get_vocab(), unk_token=UNK, max_input_chars_per_word=100))
    result.normalizer, result.pre_tokenizer, result.decoder = inner.normalizer, inner.pre_tokenizer, inner.decoder
    return result, notes


def _train_word(sample: Sample, config: WordConfig, control: int) -> tuple[tokenizers.Tokenizer, list[str]]:
    inner = tokenizers.Tokenizer(models.WordLevel(unk_token=UNK))
    if config.lowercase:
        inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = _cut(WORDS if config.split == "words" else SPACES, keep_all=False)
    inner.decoder = _with_spaces(" ")  # no word has a space
    taken = set(_control_names(config).values())
    trainer = trainers.WordLevelTrainer(
        vocab_size=config.vocab_size - control + len(taken), special_tokens=[], show_progress=False
    )
    inner.train_from_iterator(sample.texts, trainer)
    words = [word for word, _ in sorted(inner.get_vocab().items(), key=lambda item: item[1]) if word not in taken]
    words = [UNK, *words[: config.vocab_size - control]]
    inner.model = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNK)
    return inner, []


def _train_char(sample: Sample, config: CharConfig, control: int) -> tuple[tokenizers.Tokenizer, list[str]]:
    counts: Counter[str] = Counter()
    for text in sample.texts:
        counts.update(text)
    characters = sorted(counts, key=lambda char: (-counts[char], char))
    room = len(characters) if config.vocab_size is None else config.vocab_size - control
    notes = []
    if rare := characters[room:]:
        share = 100 * sum(counts[char] for char in rare) / counts.total()
        notes.append(
            f"{len(rare):,} rare characters, {share:.3f} % of the text, are unk: vocab_size is too small for them"
        )
    # A merge-less BPE: the library then takes a text character by character without cutting it into strings.
    vocabulary = {char: i for i, char in enumerate([UNK, *characters[:room]])}
    inner = tokenizers.Tokenizer(models.BPE(vocabulary, [], unk_token=UNK, fuse_unk=False))
    inner.pre_tokenizer = _cut(BLOCKS, keep_all=True)
    inner.decoder = decoders.Fuse()
    return inner, notes


_TRAIN: dict[type, Any] = {
    BytePairConfig: _train_bpe,
    UnigramConfig: _train_unigram,
    WordPieceConfig: _train_wordpiece,
    WordConfig: _train_word,
    CharConfig: _train_char,
}
