"""A tokenizer: text to ids and back, over the `tokenizers` library; on disk always what `transformers` opens.

Three promises beyond the library's. `encode` never gives a control token, whatever the text says. Memory stays bounded on
a text of any length, which is encoded window by window with the ids of the whole. `decode` is the concatenation of the
bytes of the tokens, so that decoding one at a time (`TextStream`) gives the same text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers

from yuyan.errors import DataError, InputError
from yuyan.store import write_json, write_text
from yuyan.tokens.pattern import ALL, BLOCKS, LONGEST
from yuyan.tokens.pieces import Pieces, pieces_of
from yuyan.tokens.special import ROLES, conventional, names_in, resolve

FILE, CONFIG_FILE, MAP_FILE = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
ADDED = "yuyan"
"""The key of a `tokenizer_config.json` under which stands what we added to `tokenizer.json`."""
TEMPLATE, TEMPLATE_FILE = "chat_template", "chat_template.jinja"
PART = 1 << 13  # characters; the library is fastest on texts of about this length
GROUP, GROUP_TEXTS = 1 << 20, 1 << 14  # characters and texts in one call; each needs a few hundred bytes
WINDOW = 1 << 14  # characters of a text without a safe place to cut that are encoded at once
_NO_POST_PROCESSOR = re.compile(r'("post_processor"\s*:\s*)null')  # in a string the quotes are escaped
_END_OF_PIECE = re.compile(r"\S(?=[ \n])")  # in all our patterns white space begins a piece, or is in none
_MARGIN = 2 * LONGEST  # a cut this far from the end of a window (longer than 3 * LONGEST) is that of the whole text


class PairFrame(NamedTuple):
    """What two texts are put between, `begin` A `middle` B `end`, and the segment (token type) of each of the five."""

    begin: list[int]
    middle: list[int]
    end: list[int]
    segments: tuple[int, int, int, int, int]


class Tokenizer:
    """Text to ids and back. `special` has the ids of the control tokens by role.

    `content` is the text of a `tokenizer.json`, `settings` the content of a `tokenizer_config.json`.
    """

    def __init__(self, content: str, settings: Mapping[str, Any], *, place: str = FILE):
        try:
            self._inner = tokenizers.Tokenizer.from_str(content)
        except Exception as error:  # the library raises plain Exception
            raise DataError(f"{place}: not a tokenizer: {error}") from None
        self._content, self.settings = content, dict(settings)
        self._inner.encode_special_tokens = True
        self._inner.no_padding()
        self._inner.no_truncation()
        added = {i: token.content for i, token in self._inner.get_added_tokens_decoder().items() if token.special}
        self.special = resolve(names_in(settings), added, self._inner.token_to_id)
        structure = json.loads(content)
        self._post_processor: dict[str, Any] | None = structure.get("post_processor")
        self._local = _cuts_locally(structure)
        self._characters = _characters(structure, self._inner, self.special.unk)
        model = str(structure["model"].get("type", "BPE")).lower().removesuffix("level")
        self.kind = "char" if self._characters is not None else model

    # ------------------------------------------------------------ what it is

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __repr__(self) -> str:
        return f"Tokenizer({self.kind}, {len(self)} tokens, {self.fingerprint[:12]})"

    @cached_property
    def vocabulary(self) -> list[str]:
        """The tokens as the library writes them, by id."""
        ids = self._inner.get_vocab(with_added_tokens=True)
        names = [""] * (max(ids.values(), default=-1) + 1)
        for name, i in ids.items():
            names[i] = name
        return names

    @property
    def content(self) -> str:
        """The text of its `tokenizer.json`."""
        return self._content

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of `tokenizer.json`, without what `with_begin` adds: the same fingerprint, the same ids."""
        return hashlib.sha256(self._content.encode()).hexdigest()

    @cached_property
    def pieces(self) -> Pieces:
        """The bytes that each token stands for."""
        return pieces_of(self._inner, self.vocabulary, self.special.control, json.loads(self._content)["decoder"])

    @cached_property
    def frame(self) -> tuple[list[int], list[int]]:
        """What a whole text is put between: as the file says (BERT: [CLS] and [SEP]), else the begin and end by role."""
        if self._post_processor is not None:
            ids = self._inner.encode("a", add_special_tokens=True)
            first = next((i for i, control in enumerate(ids.special_tokens_mask) if not control), len(ids))
            inside = len(self._inner.encode("a", add_special_tokens=False))
            return ids.ids[:first], ids.ids[first + inside :]
        begin = self.special.bos if self.special.cls is None else self.special.cls
        end = self.special.eos if self.special.sep is None else self.special.sep
        return [i for i in (begin,) if i is not None], [i for i in (end,) if i is not None]

    @property
    def begin(self) -> list[int]:
        """What stands before a text that is continued: as the file says (GPT-2: nothing), else the begin mark, if any."""
        if self._post_processor is not None:
            return self.frame[0]
        return [] if self.special.bos is None else [self.special.bos]

    @cached_property
    def pair_frame(self) -> PairFrame:
        """What two texts are put between: as the file says, else each is closed as a whole text is (BERT: [SEP] twice).

        Where the file puts nothing between them, the token that ends a text is, so that they can be told apart.
        """
        begin, end = self.frame
        if self._post_processor is None:
            return PairFrame(begin, end, end, (0, 0, 0, 1, 1))
        pair = self._inner.encode("a", "b", add_special_tokens=True)
        sides = pair.sequence_ids
        first, second = sides.index(0), sides.index(1)
        until, last = second - sides[second - 1 :: -1].index(0), len(sides) - sides[::-1].index(1)
        parts = [slice(0, first), slice(first, until), slice(until, second), slice(second, last), slice(last, None)]
        before, _, between, _, after = (pair.ids[part] for part in parts)
        a, b, c, d, e = ((pair.type_ids[part] or [0])[0] for part in parts)
        closing = [] if self.special.eos is None else [self.special.eos]
        return PairFrame(before, between or closing, after, (a, b, c if between else b, d, e))

    def with_frame(self, *, segments: bool = False) -> Tokenizer:
        """The same tokenizer, whose file says what a whole text is put between, so that other programs do it too; with
        `segments` also to which of two texts a token belongs.
        """
        if self._post_processor is not None or not any(self.frame):
            return self
        structure = json.loads(self._content) | {"post_processor": self._template(*self.frame)}
        told = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]} if segments else {}
        return Tokenizer(json.dumps(structure, ensure_ascii=False, indent=2), {**self.settings, **told})

    def with_begin(self) -> Tokenizer:
        """The same tokenizer, whose file says that the begin mark stands before a text, so that other programs put it
        there too: for the folder of a decoder. `load_tokenizer` takes it out again, since a task puts texts between more.
        """
        if self._post_processor is not None or self.special.bos is None:
            return self
        added = self._template([self.special.bos], [])
        content = _NO_POST_PROCESSOR.sub(lambda found: found[1] + _plain(added), self._content, count=1)
        return Tokenizer(content, {**self.settings, ADDED: {"post_processor": added}})

    def _template(self, begin: Sequence[int], end: Sequence[int]) -> dict[str, Any]:
        """The post-processor that puts `begin` before a text, and `end` behind it."""
        names = {self.vocabulary[i]: i for i in (*begin, *end)}
        before, behind, closing = (
            [{"SpecialToken": {"id": self.vocabulary[i], "type_id": segment}} for i in ids]
            for ids, segment in ((begin, 0), (end, 0), (end, 1))
        )
        text = [{"Sequence": {"id": "A", "type_id": 0}}]
        return {
            "type": "TemplateProcessing", "single": [*before, *text, *behind],
            "pair": [*before, *text, *behind, {"Sequence": {"id": "B", "type_id": 1}}, *closing],
            "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in names.items()},
        }  # fmt: skip

    def with_control(self, names: Sequence[str]) -> Tokenizer:
        """The same tokenizer with more control tokens, behind all others; the last of `names` becomes the end mark.

        For a tokenizer that no network knows yet.
        """
        structure, known = json.loads(self._content), set(self.vocabulary)
        fresh = [name for name in names if name not in known]
        structure["added_tokens"] += [
            {"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
            for i, name in enumerate(fresh, len(self))
        ]  # fmt: skip
        return Tokenizer(json.dumps(structure, ensure_ascii=False, indent=2), {**self.settings, "eos_token": names[-1]})

    @cached_property
    def swallows(self) -> dict[int, tuple[bool, bool]]:
        """The control tokens that take in the white space before them, and behind them."""
        tokens = json.loads(self._content)["added_tokens"]
        found = {int(token["id"]): (bool(token.get("lstrip")), bool(token.get("rstrip"))) for token in tokens}
        return {i: sides for i, sides in found.items() if any(sides)}

    # ------------------------------------------------------------ text to ids

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without control tokens. Raises DataError for text with a lone surrogate."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts, on all cores."""
        result: list[list[int]] = [[] for _ in texts]
        for number, ids in self.encode_parts(texts):
            result[number] += ids
        return result

    def encode_parts(self, texts: Iterable[str]) -> Iterator[tuple[int, list[int]]]:
        """The number of a text and its next ids, part by part, in order, on all cores; at least one part for each text.

        Texts are taken as they are needed, and of a text of any length only a part is held as ids.
        """
        group: list[tuple[int, str]] = []
        size = 0
        for number, text in enumerate(texts):
            for part in self._parts(text):
                group.append((number, part))
                size += len(part)
                if size >= GROUP or len(group) >= GROUP_TEXTS:
                    yield from self._encode_group(group)
                    group, size = [], 0
        yield from self._encode_group(group)

    def _parts(self, text: str) -> Iterator[str]:
        """Cut a long text where a piece ends anyway, so that its parts go to several cores."""
        begin = 0
        if self._local:
            while len(text) - begin > PART and (cut := _END_OF_PIECE.search(text, begin + PART)):
                yield text[begin : cut.end()]
                begin = cut.end()
        yield text[begin:]

    def _encode_group(self, group: Sequence[tuple[int, str]]) -> Iterator[tuple[int, list[int]]]:
        if self._characters is not None:
            yield from ((number, self._characters.encode(number, part)) for number, part in group)
            return
        short = [part for _, part in group if len(part) <= WINDOW or not self._local]
        try:
            encodings = iter(self._inner.encode_batch_fast(short, add_special_tokens=False) if short else [])
        except TypeError:
            raise _not_text(group) from None
        for number, part in group:
            if len(part) <= WINDOW or not self._local:
                yield number, next(encodings).ids
            else:
                yield from ((number, encoding.ids[:count]) for _, encoding, count in self._windows(part))

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """For each token of `encode(text)` the characters it came from, `text[start:end]`.

        A character that is several tokens has the same offsets in each.
        """
        return [
            (start + begin, stop + begin)
            for begin, encoding, count in self._windows(text)
            for start, stop in encoding.offsets[:count]
        ]

    def unknown(self, ids: Sequence[int]) -> int:
        """How many of `ids` say only that something was there: the `unk` token."""
        return 0 if self.special.unk is None else list(ids).count(self.special.unk)

    def _windows(self, text: str) -> Iterator[tuple[int, tokenizers.Encoding, int]]:
        """For a text that has no place to cut which is known beforehand, window by window: where it begins, its
        encoding, and how many of its tokens are those of the whole text."""
        begin, size = 0, WINDOW if self._local else len(text)
        while begin < len(text):
            window = text[begin : begin + size]
            try:
                encoding = self._inner.encode(window, add_special_tokens=False)
            except TypeError:
                raise _not_text([(0, window)]) from None
            count, end = len(encoding), len(window)
            if begin + size < len(text):
                count, end = _last_certain_cut(encoding, end - _MARGIN, end)
            yield begin, encoding, count
            begin += end

    # ------------------------------------------------------------ ids to text

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`: control tokens are left out, `unk` is shown, bytes that are no character become U+FFFD."""
        return self.pieces.join(ids).decode("utf-8", errors="replace")

    # ------------------------------------------------------------ files

    def save(self, folder: Path) -> None:
        """Write the files that `transformers.AutoTokenizer` reads, three and a chat template. Raises StorageError."""
        write_json(folder / CONFIG_FILE, self.settings)
        if isinstance(template := self.settings.get(TEMPLATE), str):
            write_text(folder / TEMPLATE_FILE, template)
        names = names_in(self.settings)
        write_json(folder / MAP_FILE, {f"{role}_token": names[role] for role in ROLES if role in names})
        write_text(folder / FILE, self._content)  # last: a folder with it is whole


def load_tokenizer(folder: Path) -> Tokenizer:
    """Open a folder with a `tokenizer.json`: ours, or a published one. Raises InputError or DataError."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; a tokenizer is a folder with a {FILE}")
    content = _read(folder / FILE)
    settings: dict[str, Any] = {}
    for name in (CONFIG_FILE, MAP_FILE):
        if (folder / name).is_file():
            try:
                found = dict(json.loads(_read(folder / name)))
            except (ValueError, TypeError):
                raise DataError(f"{folder / name}: not a JSON object") from None
            settings |= {key: value for key, value in found.items() if key not in settings}
    if (folder / TEMPLATE_FILE).is_file():
        settings[TEMPLATE] = _read(folder / TEMPLATE_FILE)
    if isinstance(added := settings.pop(ADDED, None), Mapping) and "post_processor" in added:
        content = content.replace(_plain(added["post_processor"]), "null")
    tokenizer = Tokenizer(content, settings, place=str(folder / FILE))
    names = conventional({tokenizer.vocabulary[i] for i in tokenizer.special.others})
    if names_in(settings) or not names:
        return tokenizer
    return Tokenizer(content, settings | names, place=str(folder / FILE))


def _plain(added: object) -> str:
    """What is added to a `tokenizer.json`, by which it is found again: the rest of the file stays as it is, byte for byte."""
    return json.dumps(added, ensure_ascii=False, sort_keys=True)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; a tokenizer is a folder with a {FILE}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _cuts_locally(structure: Mapping[str, Any]) -> bool:
    """Whether a cut depends only on the text near it, as with our patterns."""
    steps = structure.get("pre_tokenizer") or {}
    first = (steps.get("pretokenizers") or [steps])[0]
    normalizer = structure.get("normalizer") or {"type": "Lowercase"}
    return (first.get("pattern") or {}).get("Regex") in ALL and normalizer["type"] == "Lowercase"


class _Characters(dict[str, int]):
    """The ids of single characters: many times faster than the library where a token is a character."""

    def __init__(self, ids: Mapping[str, int], unk: int):
        super().__init__(ids)
        self._unk = unk

    def __missing__(self, character: str) -> int:
        character.encode("utf-8")  # raises for a lone surrogate
        return self._unk

    def encode(self, number: int, text: str) -> list[int]:
        """The ids of the text of this number."""
        try:
            return list(map(self.__getitem__, text))
        except UnicodeEncodeError:
            raise _not_text([(number, text)]) from None


def _characters(structure: Mapping[str, Any], inner: tokenizers.Tokenizer, unk: int | None) -> _Characters | None:
    """The table of a tokenizer of kind char, None for every other."""
    pattern = ((structure.get("pre_tokenizer") or {}).get("pattern") or {}).get("Regex")
    if pattern != BLOCKS or structure["model"].get("merges") != [] or structure.get("normalizer") or unk is None:
        return None
    ids = inner.get_vocab(with_added_tokens=False)
    return _Characters({token: i for token, i in ids.items() if len(token) == 1}, unk)


def _last_certain_cut(encoding: tokenizers.Encoding, limit: int, size: int) -> tuple[int, int]:
    """The last place up to character `limit` of `size` where a piece begins: the tokens before it, and its character."""
    for char in range(limit, size):
        token = encoding.char_to_token(char)
        word = None if token is None else encoding.token_to_word(token)
        tokens = None if word is None else encoding.word_to_tokens(word)
        chars = None if tokens is None else encoding.token_to_chars(tokens[0])
        if tokens is not None and chars is not None:
            return tokens[0], min(limit, chars[0])  # up to the piece there is white space that the pattern leaves out
    return len(encoding), limit


def _not_text(texts: Iterable[tuple[int, str]]) -> DataError:
    for number, text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            return lone_surrogate(f"text {number}", error)
    return DataError("a text could not be encoded")


def lone_surrogate(place: str, error: UnicodeEncodeError) -> DataError:
    """What to say of a text that is no text: `place` is where it is."""
    code = ord(error.object[error.start])
    return DataError(
        f"{place}: a lone surrogate (U+{code:04X}), which no UTF-8 file can hold; "
        "remove it, or clean the text with `yuyan data`"
    )
