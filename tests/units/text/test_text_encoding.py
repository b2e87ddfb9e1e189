"""Encodings: found where they can be, named where they cannot, and never a silent wrong reading."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yuyan.errors import DataError
from yuyan.text.encoding import decode
from yuyan.text.read import read_documents
from yuyan.text.settings import DataConfig
from yuyan.text.survey import survey

SIMPLIFIED = (
    "我们这次去北京旅游，住在一家很小的酒店里，房间虽然不大，但是非常干净，服务员的态度也很好。"
    "早餐有豆浆、油条和鸡蛋，味道不错！如果下次再来，还会选择这里。\n"
) * 6
TRADITIONAL = (
    "我們這次去臺北旅遊，住在一家很小的飯店裡，房間雖然不大，但是非常乾淨，服務員的態度也很好。"
    "早餐有豆漿、油條和雞蛋，味道不錯！如果下次再來，還會選擇這裡。\n"
) * 6
POEM = "床前明月光，疑是地上霜。\n舉頭望明月，低頭思故鄉。\n"
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n" * 6
KOREAN = "나는 오늘 아침에 일찍 일어나서 학교에 갔다. 그리고 친구들을 만나서 이야기를 했다.\n" * 6
GERMAN = "Die Straße ist schön, und über den Häusern steht der müde Mond. Größe zählt nicht.\n" * 6
RUSSIAN = "Однажды весною, в час небывало жаркого заката, в Москве появились два гражданина.\n" * 6


def read(path: Path, **settings: object) -> str:
    return "".join(document.text for document in read_documents([path], DataConfig(documents="file", **settings)))  # type: ignore[arg-type]


def name_of(path: Path) -> tuple[str, str]:
    found = survey([path]).sources[0].encoding
    return found.name, found.how


@pytest.mark.parametrize(
    ("text", "encoding", "found"),
    [
        (SIMPLIFIED, "gb18030", "gb18030"), (SIMPLIFIED, "gbk", "gb18030"), (TRADITIONAL, "big5", "cp950"),
        (TRADITIONAL, "gb18030", "gb18030"), (POEM, "gb18030", "gb18030"), (POEM, "big5", "cp950"),
        (SIMPLIFIED, "utf-16-le", "utf-16-le"), (SIMPLIFIED, "utf-16-be", "utf-16-be"),
        (GERMAN, "utf-16-le", "utf-16-le"), (JAPANESE, "cp932", "cp932"), (JAPANESE, "euc_jp", "euc_jp"),
        (KOREAN, "cp949", "cp949"),
    ],
)  # fmt: skip
def test_encodings_without_a_mark_are_detected(tmp_path: Path, text: str, encoding: str, found: str) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(text.encode(encoding))
    assert name_of(file) == (found, "detected")
    assert read(file) == text


@pytest.mark.parametrize(
    "text", ["喜欢~下次还去~", "闲行池口江边路，看尽江南岸上山。\n", "平沙漫漫馬悠悠，弓箭閑拋郊水頭。\n"]
)
def test_a_short_text_in_gb18030_is_not_taken_for_utf_16(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(text.encode("gb18030"))
    assert name_of(file) == ("gb18030", "detected")


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)  # fmt: skip
def test_a_byte_order_mark_is_obeyed_and_not_part_of_the_text(tmp_path: Path, mark: bytes, encoding: str) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(mark + SIMPLIFIED.encode(encoding))
    assert name_of(file) == (encoding, "byte order mark")
    assert read(file) == SIMPLIFIED
    given_name = encoding.removesuffix("-le").removesuffix("-be")
    assert read(file, encoding=given_name) == SIMPLIFIED


def test_western_text_is_read_and_called_a_guess(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(GERMAN.encode("cp1252"))
    assert name_of(file) == ("cp1252", "guessed")
    assert read(file) == GERMAN


def test_one_high_byte_in_ascii_is_not_taken_for_chinese(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"What is a sister\xf0city ?\n" * 200)
    assert name_of(file) == ("cp1252", "guessed")


def test_text_in_no_likely_encoding_is_still_read_when_the_user_names_it(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(RUSSIAN.encode("cp1251"))
    assert read(file, encoding="windows-1251") == RUSSIAN


def test_ascii_first_and_chinese_after_a_megabyte(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    text = "plain english words, " * 60_000 + SIMPLIFIED
    file.write_bytes(text.encode("gb18030"))
    assert name_of(file) == ("gb18030", "detected")


@pytest.mark.parametrize("position", [0, 1, 5_000, 1_048_575, 1_048_576, 2_000_000])
def test_the_byte_offset_of_bad_utf8_is_exact(tmp_path: Path, position: int) -> None:
    file = tmp_path / "a.txt"
    good = ("é" * 1_100_000).encode()
    position -= position % 2
    file.write_bytes(good[:position] + b"\xff" + good[position:])
    with pytest.raises(DataError, match=rf"a\.txt: not utf-8 at byte {position:,} .*data\.encoding=NAME"):
        read(file)
    replaced = read(file, undecodable="replace")
    assert replaced.count("\ufffd") == 1
    assert len(replaced) == 1_100_001


def test_a_cut_last_character_is_an_error_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("好好学习，天天向上。".encode()[:-1])
    with pytest.raises(DataError, match=r"not utf-8 at byte 27 "):
        read(file)


def test_a_wrong_name_of_an_encoding_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("text")
    for wrong in ("utf-88", "rot13", "base64"):
        with pytest.raises(DataError, match=r"data\.encoding: .* is no encoding"):
            read(file, encoding=wrong)


def test_what_no_encoding_explains_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(bytes(range(128, 256)) * 40)
    with pytest.raises(DataError, match=r"not UTF-8 at byte 0.*data\.encoding="):
        read(file)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.integers(1, 7))
@settings(deadline=None, max_examples=150)
def test_decoding_does_not_depend_on_how_the_bytes_arrive(text: str, size: int) -> None:
    for encoding in ("utf-8", "utf-16-le", "gb18030"):
        data = text.encode(encoding)
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        assert "".join(decode(pieces, encoding, "x")) == text
