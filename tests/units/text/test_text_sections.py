"""Sections: joined they are the text, and where they are cut depends on the text alone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from yuyan.text.section import cut

TEXTS = st.lists(
    st.sampled_from(["word ", "\n", "\n\n", "\r\n", "。", "字", "字字字字", ". ", "é", "e\u0301", "👩\u200d💻", "\u3000", " \n \n", "x" * 30]),
    max_size=120,
).map("".join)  # fmt: skip


@given(TEXTS, st.integers(1, 60), st.integers(1, 50))
@settings(deadline=None, max_examples=300)
def test_sections_joined_are_the_text_however_it_arrives(text: str, size: int, block: int) -> None:
    whole = list(cut([text], size))
    pieces = list(cut([text[i : i + block] for i in range(0, len(text), block)], size))
    assert "".join(section.text for section in whole) == text
    assert pieces == whole
    assert all(section.text for section in whole)


@given(TEXTS, st.integers(4, 60))
@settings(deadline=None, max_examples=200)
def test_sections_have_about_the_size_that_was_asked_for(text: str, size: int) -> None:
    sections = list(cut([text], size))
    assert all(size // 2 <= len(section.text) <= size * 3 // 2 for section in sections[:-1])
    assert all(len(section.text) <= size * 3 // 2 for section in sections)


def test_the_best_place_wins() -> None:
    assert next(s.ends_at for s in cut(["aaaa\n\nbbb\nccc. ddd eee fff ggg"], 10)) == "blank line"
    assert next(s.text for s in cut(["第一句话在这里。第二句话在那里。第三句话在远方。"], 8)) == "第一句话在这里。"
    assert {s.ends_at for s in cut(["x" * 100], 10)} == {"hard cut", "end"}
    assert next(cut(["one two three four five six seven"], 10)).ends_at == "space"
    assert next(cut(["他说：“你好。”然后走了，再也没有回来过一次。"], 8)).text == "他说：“你好。”"


def test_no_character_is_parted() -> None:
    for text in (
        "e\u0301" * 60,
        "abc\r\n" * 60,
        "abcdefgh\r\n" * 60,
        "a\r\n" * 60,
        "👩\u200d💻" * 40,
        "\r\n" * 60,
        "☺\ufe0f" * 60,
    ):
        for size in range(4, 20):
            for section in cut([text], size):
                assert section.text[0] != "\n"
                assert section.text[0] not in "\u0301\u200d\ufe0f"
                assert not section.text.endswith("\u200d")
