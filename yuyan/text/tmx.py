"""Translation memories (TMX 1.4b): units of one text in several languages, read as a stream.

Namespaces do not matter, nor whether a language stands in `xml:lang` or in `lang`. Of a segment the text is taken, and what
is highlighted in it; the codes of another format (bpt, ept, ph, it, ut) are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from xml.parsers import expat

from yuyan.errors import DataError

CODES = ("bpt", "ept", "ph", "it", "ut")
_PIECE = 1 << 16


class Unit(NamedTuple):
    """A unit: its texts by language, as written, and the line it begins in."""

    texts: dict[str, list[str]]
    line: int
    source: str | None
    """The language that the file calls that of the source, if it does."""


def read_tmx(texts: Iterable[str], name: str) -> Iterator[Unit]:
    """The units of a file. Raises DataError for what is no XML, naming the line, and for a file that declares entities."""
    reader = _Reader(name)
    for text in texts:
        for at in range(0, len(text), _PIECE):
            yield from reader.feed(text[at : at + _PIECE].encode("utf-8"), last=False)
    yield from reader.feed(b"", last=True)


def same_language(one: str, other: str) -> bool:
    """Whether two codes mean the same language: equal, or one without its country."""
    a, b = (code.lower().replace("_", "-") for code in (one, other))
    return a == b or a == b.split("-")[0] or b == a.split("-")[0]


class _Reader:
    """What the parser has come by since the last units were handed out."""

    def __init__(self, name: str):
        self.name, self.units = name, list[Unit]()
        self.source: str | None = None
        self.unit: Unit | None = None
        self.language: str | None = None
        self.segment: list[str] | None = None
        self.codes = 0  # elements under way whose text is none of the segment's
        self.parser = expat.ParserCreate("utf-8", " ")  # whatever the file says: it is decoded already
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.EntityDeclHandler = self._entity

    def feed(self, data: bytes, *, last: bool) -> list[Unit]:
        try:
            self.parser.Parse(data, last)
        except expat.ExpatError as error:
            raise DataError(f"{self.name}:{error.lineno}: not XML: {expat.errors.messages[error.code]}") from None
        found, self.units = self.units, []
        return found

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        kind = tag.rpartition(" ")[2]
        if kind == "header":
            self.source = attributes.get("srclang")
        elif kind == "tu":
            own = attributes.get("srclang", self.source)
            self.unit = Unit({}, self.parser.CurrentLineNumber, own)
        elif kind == "tuv":
            self.language = next((v for key, v in attributes.items() if key.rpartition(" ")[2] == "lang"), None)
            if self.language is None:
                raise DataError(
                    f"{self.name}:{self.parser.CurrentLineNumber}: a <tuv> does not say its language (xml:lang)"
                )
        elif kind == "seg":
            self.segment = []
        elif kind in CODES:
            self.codes += 1

    def _end(self, tag: str) -> None:
        kind = tag.rpartition(" ")[2]
        if kind == "tu" and self.unit is not None:
            self.units.append(self.unit)
            self.unit = None
        elif kind == "seg" and self.segment is not None:
            if self.unit is not None and self.language is not None:
                self.unit.texts.setdefault(self.language, []).append(" ".join("".join(self.segment).split()))
            self.segment = None
        elif kind in CODES:
            self.codes -= 1

    def _text(self, text: str) -> None:
        if self.segment is not None and not self.codes:
            self.segment.append(text)

    def _entity(self, *declared: object) -> None:
        raise DataError(
            f"{self.name}:{self.parser.CurrentLineNumber}: declares an entity ({declared[0]}); such files are not read"
        )
