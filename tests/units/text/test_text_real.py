"""Real files, read as a user would give them."""

from __future__ import annotations

from pathlib import Path

from yuyan.config import build
from yuyan.text import DataConfig, prepare, read_documents


def test_one_file_of_plays_becomes_hundreds_of_documents_and_nothing_is_lost(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "lm" / "tinyshakespeare.txt"
    documents = list(read_documents([file]))
    assert 200 < len(documents) < 400
    assert "".join(document.text for document in documents) == file.read_text()
    report = prepare([file], DataConfig(), tmp_path / "out").report
    assert report.documents_kept == report.documents_read == len(documents)
    assert set(report.languages) == {"en"}
    assert report.documents_are.startswith("sections of about 4,000 characters, because there is only one text file")
    assert all(step.changed == 0 for step in report.steps)


def test_the_published_split_of_the_plays(real_data: Path, tmp_path: Path) -> None:
    """First 90 % train, last 10 % validate, by characters: 1,003,854 and 111,540."""
    file = real_data / "lm" / "tinyshakespeare.txt"
    settings = {"clean": None, "documents": "file", "split": {"kind": "ordered", "validation": 0.1, "test": 0.0}}
    prepared = prepare([file], build(DataConfig, settings), tmp_path / "out")
    text = file.read_text()
    assert [d.text for d in prepared.documents("train")] == [text[: int(len(text) * 0.9)]]
    assert [d.text for d in prepared.documents("validation")] == [text[int(len(text) * 0.9) :]]
    assert (prepared.report.splits["train"].characters, prepared.report.splits["validation"].characters) == (
        1003854,
        111540,
    )


def test_members_of_the_published_archive_as_the_published_split(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "lm" / "wikitext-2.zip" / "wikitext-2"
    config = build(DataConfig, {"clean": None, "validation": [str(folder / "wiki.test.tokens")]})
    prepared = prepare([folder / "wiki.valid.tokens"], config, tmp_path / "out")
    assert sum(len(d.text.split(" ")) for d in prepared.documents("validation")) > 200_000
    assert [source.encoding for source in prepared.report.sources] == ["utf-8", "utf-8"]
    assert prepared.report.splits["train"].bytes == 1_121_681
    assert prepared.report.splits["validation"].bytes == 1_256_449


def test_chinese_reviews_keep_every_short_one(real_data: Path, tmp_path: Path) -> None:
    report = prepare([real_data / "classify" / "ChnSentiCorp_htl_all.csv"], DataConfig(), tmp_path / "out").report
    steps = {step.name: step for step in report.steps}
    assert report.sources[0].text_column == "review (by its name)"
    assert (steps["unicode"].changed, steps["quality"].dropped, steps["lines"].changed) == (3, 0, 0)
    assert steps["unicode"].reasons == {"numeric references": 3}
    assert report.languages["zh"].documents > 0.998 * report.documents_kept
