"""The text that is always there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from yuyan.errors import DataError
from yuyan.text.stdlib import stdlib_documents


@pytest.mark.slow
def test_the_library_of_this_python() -> None:
    before = set(sys.modules)
    documents = list(stdlib_documents())
    assert not {
        name
        for name in set(sys.modules) - before
        if name.startswith(("turtle", "tkinter", "antigravity", "pydoc_data"))
    }
    ids = [document.id for document in documents]
    assert len(set(ids)) == len(ids) > 2000
    assert "topics/for" in ids
    assert "json" in ids
    assert "collections.OrderedDict" in ids
    assert sum(len(document.text) for document in documents) > 1_000_000
    folders = {part for document in documents for part in document.meta["source"].split("/")[:-1]}
    assert not folders & {"test", "tests", "idlelib", "lib2to3", "site-packages"}
    assert all(document.text.endswith("\n") and document.text.strip() for document in documents)


def test_docstrings_are_found_in_order_and_nothing_runs(tmp_path: Path) -> None:
    code = '"""The module is here, with words enough to count."""\nraise SystemExit("imported")\n'
    code += 'class A:\n    """A class with a docstring that is\n       long enough to keep."""\n    def short(self):\n        """Short."""\n'
    code += '    async def f(self):\n        "An asynchronous method, documented at some length."\n'
    (tmp_path / "b.py").write_text(code)
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "c.py").write_text('"""A docstring in the tests, which nobody should read."""\n')
    (tmp_path / "pydoc_data").mkdir()
    (tmp_path / "pydoc_data" / "topics.py").write_text("topics = {'z': 'Last topic\\n', 'a': 'First topic\\n'}\n")
    found = [(document.id, document.text) for document in stdlib_documents(tmp_path)]
    assert found == [
        ("topics/a", "First topic\n"), ("topics/z", "Last topic\n"),
        ("b", "The module is here, with words enough to count.\n"),
        ("b.A", "A class with a docstring that is\nlong enough to keep.\n"),
        ("b.A.f", "An asynchronous method, documented at some length.\n"),
    ]  # fmt: skip


def test_a_library_without_sources_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no documentation in this Python's library; give a file"):
        list(stdlib_documents(tmp_path))


def test_a_topic_that_is_a_part_of_another_is_left_out(tmp_path: Path) -> None:
    topics = {
        "a": "One  two three.",
        "b": "Zero. One two\n three. Four.",
        "c": "One two three.",
        "d": "Something else.",
    }
    (tmp_path / "pydoc_data").mkdir()
    (tmp_path / "pydoc_data" / "topics.py").write_text(f"topics = {topics!r}", encoding="utf-8")
    assert [document.id for document in stdlib_documents(tmp_path)] == ["topics/b", "topics/d"]
