"""The `data` section of a config: what is read, how it is cleaned, how it is divided."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from yuyan.config import Config, Place
from yuyan.text.duplicate import ExactDuplicates, NearDuplicates
from yuyan.text.language import Language
from yuyan.text.markup import Lines, Markup
from yuyan.text.normalise import Unicode
from yuyan.text.quality import Quality
from yuyan.text.split import RandomSplit, SplitConfig


class CleanConfig(Config):
    """The steps of the cleaning, in their order; a step that is null is left out."""

    unicode: Unicode | None = Unicode()
    """Repair of characters that went wrong."""
    markup: Markup | None = Markup()
    """Removal of the tags of web pages."""
    lines: Lines | None = Lines()
    """Removal of lines that are not text."""
    quality: Quality | None = Quality()
    """Rules that a document must meet."""
    language: Language | None = Language()
    """Identification of the language, and a choice among them."""
    exact_duplicates: ExactDuplicates | None = ExactDuplicates()
    """Removal of documents that are there already."""
    near_duplicates: NearDuplicates | None = NearDuplicates()
    """Removal of documents that are nearly there already."""

    @classmethod
    def nothing(cls) -> CleanConfig:
        """No step at all: the text as it is."""
        return cls(
            unicode=None, markup=None, lines=None, quality=None, language=None, exact_duplicates=None, near_duplicates=None
        )  # fmt: skip


class DataConfig(Config):
    """Text in files, and what becomes of it."""

    sources: tuple[Place, ...] = ()
    """Files and folders with text: .txt .jsonl .json .csv .tsv .parquet, each also .gz .zst .zip."""
    validation: tuple[Place, ...] = ()
    """Files of their own for validation; repaired, but nothing is dropped from them."""
    test: tuple[Place, ...] = ()
    """Files of their own for the test; repaired, but nothing is dropped from them."""
    text_column: str | None = None
    """The column or key of the text in tables and JSON; by default found and reported."""
    encoding: str | None = None
    """Encoding of the files, such as utf-8, gb18030, big5, utf-16; by default found and reported."""
    undecodable: Literal["error", "replace"] = "error"
    """Bytes without a meaning: stop and say where, or replace them and count."""
    skip_bad_records: bool = False
    """Pass over records that cannot be read, and count them, instead of stopping."""
    documents: Literal["auto", "file", "line", "section"] = "auto"
    """What a document is in plain text: a file, a line, a section of some kilobytes; auto cuts a few long files into
    sections. Records of tables are documents, unless sections are asked for."""
    section_characters: int | None = Field(default=None, ge=1)
    """About how long sections are; by default some 4,000 bytes, less for a small corpus."""
    clean: CleanConfig | None = CleanConfig()
    """The steps of the cleaning; null leaves the text as it is."""
    split: SplitConfig = RandomSplit()
    """Training, validation and test, divided after cleaning; without effect where files of their own are given."""
    processes: int | None = Field(default=None, ge=1)
    """Processes to clean with; by default one a core. The result does not depend on it."""
