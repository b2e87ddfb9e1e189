"""Cleaning: what is wrong is put right, and what is right is not touched. Poems, plays and Chinese survive."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import socket
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yuyan.text.clean import clean_batch, pack_batch, pack_cleaned, unpack_batch, unpack_cleaned
from yuyan.text.document import Document
from yuyan.text.language import Language, identify, language_of, wanted
from yuyan.text.markup import Lines, Markup, clean_lines, strip_markup
from yuyan.text.normalise import Unicode, repair_unicode
from yuyan.text.quality import Quality, why_not
from yuyan.text.settings import CleanConfig
from yuyan.text.stdlib import stdlib_documents

CLEAN = [
    "He said “it’s fine” — and left… ‘Really?’ ﬁne ﬂow",
    "全角标点：，。！？；（）【】《》“”‘’、——……　ＡＢＣ１２３　￥５０，以及半角 abc 123, $50.",
    "繁體：「你好，世界！」『引號』〈書名〉〔註〕。・※→①②③ⅠⅡ㎡℃",
    "日本語：ﾊﾝｶｸｶﾅ と 全角カナ、「鉤括弧」。 한국어 텍스트입니다.",
    "emoji 👩\u200d👩\u200d👧 ☺\ufe0f 🇨🇳, Persian می\u200cخواهم, Hebrew \u200fשלום\u200f, no\u00a0break, soft\u00adhyphen, zero\u200bwidth",
    "Größe, façade, naïve, Ångström, Đặng Thị, Ελληνικά, Русский текст «в кавычках», año ¿qué?",
    "x = [1, 2]; if a < b && c > d: print('<unk> <s> </s> <pad> <|endoftext|> [MASK]')\n\tindented\n",
    "tab\tseparated and trailing  \n\n\nthree newlines",
    "&amp; &lt; &#39; &#8217; are how HTML writes them",
]


@pytest.mark.parametrize("text", CLEAN)
def test_text_without_faults_comes_back_as_the_same_object(text: str) -> None:
    repaired, faults = repair_unicode(text, Unicode())
    assert repaired is text
    assert faults == ()
    assert strip_markup(text, Markup()) is text
    assert clean_lines(text, Lines())[0] is text


@pytest.mark.parametrize(
    ("broken", "right"),
    [
        ("The Mona Lisa doesnâ€™t have eyebrows.", "The Mona Lisa doesn’t have eyebrows."),
        ("l’humanitÃ© et la libertÃ©", "l’humanité et la liberté"),
        ("line\r\nends\rof\u2028all\u2029kinds\x0c", "line\nends\nof\nall\nkinds\n"),
        ("\ufeffmark, bell\x07, null\x00, escape \x1b[31mred\x1b[0m", "mark, bell, null, escape red"),
        ("e\u0301 and a\u0308", "é and ä"),
        ("&#35828;&#23454;&#35805;，房&#38388;不错", "说实话，房间不错"),
        ("我们\x00住在\x08北京\r\n。", "我们住在北京\n。"),
    ],
)
def test_faults_are_repaired(broken: str, right: str) -> None:
    repaired, faults = repair_unicode(broken, Unicode())
    assert repaired == right
    assert faults
    assert repair_unicode(right, Unicode()) == (right, ())


SENTENCES = [
    "C’est l’été à Besançon, où l’on préfère les crêpes « maison » — déjà vu !",
    "Der Bäcker verkauft süße Brötchen für 3 € das Stück, größer als üblich.",
    "在“测试”里面，我们使用了全角标点符号。",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
]


@pytest.mark.parametrize("sentence", SENTENCES)
@pytest.mark.parametrize("wrong", ["latin-1", "cp1252", "cp1251", "mac-roman", "cp437"])
def test_the_fast_path_misses_no_mojibake_that_ftfy_repairs(sentence: str, wrong: str) -> None:
    import ftfy

    misread = sentence.encode().decode(wrong, "ignore")
    config = ftfy.TextFixerConfig(
        unescape_html=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        normalization="NFC",
    )
    assert repair_unicode(misread, Unicode())[0] == ftfy.fix_text(misread, config)


def test_chinese_read_as_latin_is_recovered() -> None:
    text = "我们这次住的房间很大，服务员的态度也不错，下次来还会选择这里。" * 3
    for wrong in ("latin-1", "cp1252"):
        misread = text.encode("gb18030").decode(wrong, "replace")
        if "\ufffd" not in misread:
            assert repair_unicode(misread, Unicode())[0] == text


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
@settings(deadline=None, max_examples=200)
def test_repair_is_idempotent_and_leaves_no_control_characters(text: str) -> None:
    once, _ = repair_unicode(text, Unicode(mojibake=False))
    assert repair_unicode(once, Unicode(mojibake=False))[0] == once
    assert not set(once) & {chr(c) for c in (*range(9), *range(0xB, 0x20), 0x7F)}


@given(st.text(st.sampled_from("abc xyz.,!?\n中文字，。！？“”（）：；、　ＡＢ１２《》—…"), max_size=300))
@settings(deadline=None, max_examples=200)
def test_chinese_and_full_width_text_is_never_changed(text: str) -> None:
    assert repair_unicode(text, Unicode())[0] is text


# ---------------------------------------------------------------- markup and lines

PAGE = """<!DOCTYPE html><html><head><title>T</title><style>p {color: red}</style></head><body>
<!-- a comment --><script>alert("x < y")</script>
<div class="c"><p>First &amp; foremost, a < b.</p><p>二段落 &nbsp;在<b>这里</b>。</p><br/>
<a href="x">link</a></div></body></html>"""


def test_a_web_page_loses_its_tags_and_keeps_its_text() -> None:
    stripped = strip_markup(PAGE, Markup())
    assert stripped.split() == ["First", "&", "foremost,", "a", "<", "b.", "二段落", "在这里。", "link"]


def test_what_is_hidden_goes_as_a_whole_and_what_never_ends_stays() -> None:
    page = "<p>a</p><SCRIPT x>b</p></script >c<!-- d --> e<style> f <svg g<head>h</head><p>i</p><!-- j"
    assert strip_markup(page, Markup()).split() == ["a", "c", "e", "f", "<svg", "g", "i", "<!--", "j"]


def test_beginnings_without_an_end_cost_one_look_each() -> None:
    page = "<!-- <script> <svg>" * 12000 + "<p>word</p>"  # 24 s if each looks for its end
    begun = time.process_time()
    assert strip_markup(page, Markup()).endswith("word")
    assert time.process_time() - begun < 2


def test_a_text_that_mentions_a_tag_or_two_is_no_web_page() -> None:
    for text in (
        "Write <b>bold</b> like so.",
        "The tags <p> and <br> and <div> are " + "explained here. " * 300 + "<p> <p>",
    ):
        assert strip_markup(text, Markup()) is text


def test_tags_that_html_does_not_have_are_text() -> None:
    text = "<s> <unk> <pad> </s> <|endoftext|> <tool_call> a<b> " * 20
    assert strip_markup(text.replace("a<b> ", ""), Markup()) == text.replace("a<b> ", "")
    assert "<unk>" in strip_markup(PAGE.replace("link", "<unk>"), Markup())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Home | About Us | Products | Contact", "navigation"), ("首页 > 新闻中心 > 登录 > 注册", "navigation"),
        ("上一页 下一页", "navigation"), ("Copyright © 2019 Example Ltd. All rights reserved.", "notice"),
        ("版权所有 某某公司", "notice"), ("京ICP备12345678号-1", "notice"), ("Please enable JavaScript to view this.", "notice"),
        ("责任编辑：王小明", "notice"), ("Follow us on Facebook, Twitter and YouTube!", "notice"), ("Share this post:", "notice"), ("The minister said on Tuesday that the... [Read more]", "cut off"),
        ("昨天下午，记者在现场看到…阅读全文", "cut off"), ("\ufffd\ufffd\ufffdab\ufffd\ufffd", "unreadable"),
    ],
)  # fmt: skip
def test_furniture_is_dropped_with_its_reason(line: str, reason: str) -> None:
    text, dropped = clean_lines(f"A first line.\n  {line}  \n最后一行。", Lines())
    assert text == "A first line.\n最后一行。"
    assert [(found.reason, found.line.strip()) for found in dropped] == [(reason, line)]


@pytest.mark.parametrize(
    "line",
    [
        "O", "Exeunt.", "ROMEO:", "I am gone.", "床前明月光，", "春", "Home is where the heart is.", "To be, or not to be...",
        "| a | b | c |", "a > b > c", "Next, the king enters | aside |", "he said: \"read more books\"", "更多的人来了。",
        "首页上写着一句话。", "He shares this with her.", "share this burden, my lord…", "* * *", "1 / 2 / 3", "Help! Help! Help!",
        "Copyright law is older than you think.", "Give me more... more", "All rights reserved to the crown were lost.",
        "Grandma uses cookies to bribe us.", "(c) the third answer", "Loading the cart took an hour.", "Click here to begin.",
    ],
)  # fmt: skip
def test_short_and_odd_lines_of_real_text_are_kept(line: str) -> None:
    assert clean_lines(f"{line}\n{line}", Lines()) == (f"{line}\n{line}", [])


# ---------------------------------------------------------------- quality

PROSE = "It was the best of times, it was the worst of times, and nobody knew which. "


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no words"), (" \n ... —— ！！\n", "no words"), ("---- ==== ****", "no words"),
        ("3.14 2.71 1.41 1.73 " * 60, "few letters"), ("▁▂▃▄▅ ab " * 120, "few letters"),
        ("©®™▲▼★☆ abcdefgh " * 60, "many symbols"), ("a" * 100_000, "repeats itself"),
        ("哈" * 1000, "repeats itself"), (("Buy now, best price!\n") * 60, "repeated lines"),
    ],
)  # fmt: skip
def test_rules_name_their_reason(text: str, reason: str) -> None:
    assert why_not(text, Quality()) == reason


@pytest.mark.parametrize(
    "text", ["O", "好", "春眠不觉晓", "Yes.", "1", "5 stars!!! ★★★★★", "- - - x - - -", PROSE, "好" * 200]
)
def test_short_texts_are_not_judged_by_shares(text: str) -> None:
    assert why_not(text, Quality()) is None


def test_the_first_of_equal_lines_is_no_repetition() -> None:
    lines = [f"{PROSE}{letter}" for letter in "abcdefgh"]
    assert why_not("\n".join(lines * 2), Quality(repeated_lines=0.5, compressed=0.0)) is None
    assert why_not("\n".join(lines * 2), Quality(repeated_lines=0.49)) == "repeated lines"


def test_limits_are_the_users() -> None:
    assert why_not("short", Quality(shortest=10)) == "fewer than 10 letters"
    assert why_not(PROSE * 3, Quality(longest=100)) == "more than 100 characters"
    assert why_not("a" * 100_000, Quality(compressed=0.0, repeated_lines=1.0)) is None


def test_no_real_text_is_dropped_by_the_rules(real_data: Path) -> None:
    """Verse, plays, encyclopaedia, reviews, reference tables with code: the rules touch none of it but empty shells."""
    dropped = [(text[:60], reason) for text in _real_texts(real_data) if (reason := why_not(text, Quality()))]
    assert all(reason == "no words" for _, reason in dropped), dropped[:5]
    assert all(not any(c.isalnum() for c in text) for text, _ in dropped)


def _real_texts(data: Path) -> Iterator[str]:
    with gzip.open(data / "lm" / "tang_poetry.jsonl.gz", "rt", encoding="utf-8") as file:
        for number, line in enumerate(file):
            if number % 10 == 0:
                yield json.loads(line)["text"]
    play = (data / "lm" / "tinyshakespeare.txt").read_text()
    yield from (play[i : i + 2000] for i in range(0, len(play), 20_000))
    wiki = zipfile.ZipFile(data / "lm" / "wikitext-2.zip").read("wikitext-2/wiki.valid.tokens").decode()
    yield from (wiki[i : i + 3000] for i in range(0, len(wiki), 6000))
    with (data / "classify" / "ChnSentiCorp_htl_all.csv").open(encoding="utf-8-sig", newline="") as file:
        yield from (row[1] for number, row in enumerate(csv.reader(file)) if number % 5 == 1 and row[1])


def test_no_documentation_is_dropped_by_the_rules() -> None:
    library = Path(sysconfig.get_path("stdlib"))
    texts = [document.text for document in itertools.islice(stdlib_documents(), 80)]
    texts += [d.text for name in ("email", "asyncio", "json", "html") for d in stdlib_documents(library / name)]
    assert len(texts) > 300
    assert [text[:80] for text in texts if why_not(text, Quality())] == []
    assert [
        text[:80] for text in texts if repair_unicode(text, Unicode())[1] not in ((), ("control characters",))
    ] == []


# ---------------------------------------------------------------- language


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The quick brown fox jumps over the lazy dog and runs away.", "en"), ("今天天气很好，我们去公园散步吧。", "zh"),
        ("秦川雄帝宅，函谷壯皇居。\n綺殿千尋起，離宮百雉餘。", "zh"), ("吾輩は猫である。名前はまだ無い。", "ja"),
        ("나는 오늘 아침에 일찍 일어나서 학교에 갔다.", "ko"), ("Die Katze sitzt auf dem Dach und schläft den ganzen Tag.", "de"),
        ("El perro corre por el parque con los niños todos los días.", "es"), ("Собака бежит по парку вместе с детьми.", "ru"),
        ("1234 5678 !!", "unknown"), ("", "unknown"),
    ],
)  # fmt: skip
def test_languages(text: str, code: str) -> None:
    assert language_of(text, Language()) == code
    assert language_of(text * 50, Language()) == code


def test_classical_chinese_is_not_taken_for_japanese(real_data: Path) -> None:
    with gzip.open(real_data / "lm" / "tang_poetry.jsonl.gz", "rt", encoding="utf-8") as file:
        poems = [json.loads(line)["text"] for _, line in zip(range(1000), file, strict=False)]
    assert {identify(poem).code for poem in poems} == {"zh"}


def test_languages_can_be_chosen() -> None:
    config = Language(keep=("zh", "en"))
    assert wanted("zh", config)
    assert not wanted("de", config)
    assert wanted("unknown", config)
    assert not wanted("unknown", Language(keep=("zh",), keep_unknown=False))
    assert wanted("de", Language())


def test_identification_opens_no_connection_and_writes_no_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from yuyan.text import language

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("FTLANG_CACHE", str(tmp_path / "cache"))
    language._detector.cache_clear()
    assert identify("A sentence that needs the model to be identified.").code == "en"
    assert not (tmp_path / "cache").exists()


# ---------------------------------------------------------------- a batch


def test_a_batch_counts_samples_and_keeps_order() -> None:
    documents = [
        Document("a", "It\r\nbreaks.", {"source": "f"}), Document("b", "...", {"source": "f"}),
        Document("c", "版权所有 某某公司", {"source": "f"}), Document("d", "\n\n  kept as it is\nyes\n\n", {"source": "f"}),
        Document("e", "Il fait très beau aujourd’hui et nous allons nous promener.", {"source": "f"}),
    ]  # fmt: skip
    cleaned = clean_batch(documents, CleanConfig(language=Language(keep=("en",))), seed=0)
    rows = [json.loads(line) for line in cleaned.lines.splitlines()]
    assert [(row["id"], row["text"]) for row in rows] == [("a", "It\nbreaks."), ("d", "  kept as it is\nyes")]
    tallies = cleaned.tallies
    assert (tallies["unicode"]["seen"], tallies["unicode"]["changed"]) == (5, 1)
    assert tallies["lines"]["reasons"] == {"notice": 1, "nothing but such lines": 1}
    assert tallies["quality"]["reasons"] == {"no words": 1}
    assert tallies["language"]["reasons"] == {"fr": 1}
    assert tallies["language"]["samples"][0][0] == "e"
    again = unpack_cleaned(pack_cleaned(cleaned))
    assert again.lines == cleaned.lines
    assert again.tallies == json.loads(json.dumps(cleaned.tallies))
    assert all(
        (getattr(again, name) == getattr(cleaned, name)).all() for name in ("bands", "split", "equality", "line_ends")
    )
    assert unpack_batch(pack_batch(documents)) == documents


def test_no_step_leaves_the_text_as_it_is() -> None:
    text = "\ufeff a\r\n<p><p><p><p> \x00...\n\n"
    cleaned = clean_batch([Document("a", text)], CleanConfig.nothing(), seed=0)
    assert json.loads(cleaned.lines)["text"] == text
    assert cleaned.tallies == {}


def test_texts_of_their_own_for_validation_are_mended_but_not_dropped() -> None:
    documents = [Document("a", "x\r\n" * 400), Document("b", "...")]
    cleaned = clean_batch(documents, CleanConfig(language=Language(keep=("zh",))), seed=0, drop=False)
    assert [json.loads(line)["id"] for line in cleaned.lines.splitlines()] == ["a", "b"]
    assert b"\\r" not in cleaned.lines
