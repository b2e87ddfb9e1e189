"""Reports: what is given is shown, text stays text, nothing is loaded, and charts say what the numbers say."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yuyan.evaluate.chart import shorten
from yuyan.evaluate.page import ladder_page, run_page
from yuyan.evaluate.quantities import count, decimal, duration, interval, percent, plain, significant, size
from yuyan.evaluate.render import script_of, visible
from yuyan.evaluate.scale import thin, y_scale
from yuyan.evaluate.terminal import ladder_table, sparkline
from yuyan.evaluate.verdict import verdict
from yuyan.evaluate.wording import NAMES, THEORY, WORDS, theory

VOID = {"meta", "input", "link", "br", "img", "hr"}
ATTACK = "</pre></div><script>alert(1)</script><img src=x onerror=alert(2)>\" onmouseover='alert(3)"


class Page(HTMLParser):
    """A page as a browser reads it: elements with their attributes, text, and whether tags match."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.words: list[str] = []
        self.hidden = ""
        self.feed(text)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def count(self, tag: str, **wanted: str) -> int:
        return sum(t == tag and all(a.get(k) == v for k, v in wanted.items()) for t, a in self.tags)

    def with_class(self, name: str) -> list[dict[str, str | None]]:
        return [a for _, a in self.tags if name in (a.get("class") or "").split()]


def rung(name: str, kind: str, score: float, **more: Any) -> dict[str, Any]:
    samples = [{"prompt": "Once", "text": f" upon a {name}"}, {"prompt": "从前", "text": "有一座山"}]
    return {
        "name": name, "title": name, "kind": kind, "bits_per_byte": score, "interval": [score - 0.05, score + 0.05],
        "perplexity": 2.0 ** min(900, 3 * score), "perplexity_unit": "token", "parameters": 123456, "tokens_seen": 9876,
        "epochs": 1.5, "seconds": 61.0, "tokens_per_second": 14000.0, "bytes_on_disk": 1_240_000,
        "folder": f"rungs/{name}", "validation_curve": [], "training_curve": [], "samples": samples,
        "config": {"kind": kind, "order": 5}, "stopped": "budget",
    } | more  # fmt: skip


def curve(last: float, falling: bool = True) -> list[dict[str, float]]:
    return [
        {"seconds": 6.0 * i, "tokens": 100 * i, "bits_per_byte": last + (10 - i) * 0.1 * falling} for i in range(1, 11)
    ]


def ladder(**more: Any) -> dict[str, Any]:
    training = [{"seconds": float(i), "tokens": i, "loss": 5.0 - i / 100} for i in range(60)]
    neural = {"validation_curve": curve(2.0), "training_curve": training}
    return {
        "title": "My text", "created": "2026-11-02T14:05:33+00:00", "command": "yuyan ladder text --budget 1m",
        "corpus": {
            "paths": ["text/a.txt"], "documents": {"train": 90, "validation": 5, "test": 5},
            "bytes": {"train": 900_000, "validation": 50_000, "test": 51_000}, "languages": {"en": 60, "zh": 40},
            "steps": [{"name": "near_duplicates", "kept": 100, "dropped": 7, "samples": ["a dropped text"]}],
            "lengths": {"p5": 10, "p50": 444, "p95": 900, "max": 1717}, "overlap": {"test": {"share": 0.0123}},
        },
        "tokenizer": {"kind": "bpe", "vocab_size": 2048, "bytes_per_token": 3.104}, "budget_seconds": 60.0,
        "rungs": [rung("unigram", "ngram", 4.0), rung("kn5", "ngram", 2.5), rung("gpt", "gpt", 2.1, **neural)],
        "best": "gpt", "verdict": ["said"], "next": ["yuyan generate rungs/gpt 'Once'"],
        "environment": {"python": "3.12.1", "torch": "2.13.0"}, "seconds_total": 125.0,
    } | more  # fmt: skip


def run(updates: int = 50) -> dict[str, Any]:
    return {
        "title": "tiny gpt", "command": "yuyan train tiny.yaml", "config": {"model": {"kind": "gpt"}},
        "updates": [
            {"step": i, "loss": 5 - i / updates, "learning_rate": 1e-3, "gradient_norm": 0.5, "tokens_per_second": 900.0,
             "seconds": i / 10} for i in range(updates)
        ],
        "evaluations": [{"step": i, "seconds": i / 10, "bits_per_byte": 3 - i / 99, "interval": [1.0, 4.0]} for i in (10, 40)],
        "samples": [{"prompt": "a", "text": "b", "step": 40}], "environment": {"python": "3.12"},
        "summary": {"bits_per_byte": 2.596, "interval": [2.5, 2.7], "seconds": 5.0},
    }  # fmt: skip


# ---------------------------------------------------------------- the page as a whole


@pytest.mark.parametrize("text", [ladder_page(ladder()), run_page(run()), ladder_page({}), run_page({})])
def test_a_page_is_well_formed_and_needs_nothing_else(text: str) -> None:
    page = Page(text)
    assert not page.wrong and not page.open
    links = [a[k] for _, a in page.tags for k in ("src", "href", "action", "data") if a.get(k)]
    assert all(link is not None and link.startswith("#") for link in links)
    assert not re.search(r"https?:|url\(|@import", text)
    anchors = {str(a["href"])[1:] for tag, a in page.tags if tag == "a"}
    assert anchors <= {a.get("id") for tag, a in page.tags if tag == "section"}


def test_the_policy_allows_the_one_script_and_no_other() -> None:
    text = ladder_page(ladder())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert policy and script and text.count("<script") == 1
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in policy[1] or f"script-src 'sha256-{digest}'" in policy[1]
    assert "default-src 'none'" in policy[1] and "script-src 'unsafe" not in policy[1]


def replaced(value: object, text: str) -> Any:
    """Every text in `value` with `text` behind it, keys too."""
    if isinstance(value, dict):
        return {k if k in KNOWN else f"{k}{text}": replaced(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [replaced(v, text) for v in value]
    return f"{value}{text}" if isinstance(value, str) else value


KNOWN = {
    key for thing in (ladder(), ladder()["corpus"], ladder()["rungs"][0], run(), run()["updates"][0]) for key in thing
}
KNOWN |= {"prompt", "text", "kept", "dropped", "samples", "name"}


@pytest.mark.parametrize("kept", [{"kind": "ngram"}, {}])
def test_markup_in_any_text_is_inert(kept: dict[str, str]) -> None:
    attacked = replaced(ladder(), ATTACK)
    attacked["best"] = attacked["rungs"][0]["name"]
    for one in attacked["rungs"]:
        one.update(kept)
    for text in (ladder_page(attacked), run_page(replaced(run(), ATTACK))):
        page = Page(text)
        assert not page.wrong and not page.open
        assert page.count("script") == 1 and not page.count("img")
        assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
        assert "<script>alert(1)</script>" in page.text


def test_any_character_can_be_written_as_utf_8() -> None:
    nasty = "a\ud800b\x00c\x1bd\x85\r\ne\ufffe\u202e"
    text = ladder_page(ladder(title=nasty, rungs=[rung(nasty, "gpt", 2.0, samples=[{"prompt": nasty, "text": nasty}])]))
    text.encode("utf-8")
    assert "a\ufffdb␀c␛d\ufffd\ne\ufffd" in text
    assert visible("line\n\ttab") == "line\n\ttab"


# ---------------------------------------------------------------- the ladder


def test_every_number_of_a_rung_is_in_the_table() -> None:
    page = Page(ladder_page(ladder()))
    for shown in (
        "2.100",
        "2.050–2.150",
        "78.79",
        "123k",
        "9,876",
        "1.5",
        "1 min 1 s",
        "14.0k",
        "1.24 MB",
        "rungs/gpt",
    ):
        assert shown in page.text, shown
    assert page.count("tr", **{"class": "best"}) == 1
    assert len([a for tag, a in page.tags if tag == "td" and "data-sort" in a]) >= 3 * 9


def test_data_settings_samples_and_commands_are_shown() -> None:
    text = Page(ladder_page(ladder())).text
    for shown in (
        "text/a.txt", "near duplicates", "a dropped text", "444", "1,717", "English 60 (60.0 %)", "Chinese", "0.0123",
        "2,048", "order: 5", "yuyan ladder text --budget 1m", "yuyan generate rungs/gpt 'Once'", "3.12.1", "2 min 5 s",
        "Once upon a gpt", "从前 有一座山", "51.0 kB", "2026-11-02 14:05",
    ):  # fmt: skip
        assert shown in text, shown


def test_samples_stand_side_by_side_under_their_prompt() -> None:
    page = Page(ladder_page(ladder()))
    assert len(page.with_class("samples")) == 2 and len(page.with_class("sample")) == 6
    repeated = [{"prompt": "Once", "text": "Once upon"}]
    text = Page(ladder_page(ladder(rungs=[rung("gpt", "gpt", 2.0, samples=repeated)]))).text
    assert "Once upon" in text and "Once Once" not in text.replace("Prompt: Once", "")


def test_a_page_can_be_chinese() -> None:
    text = ladder_page(ladder(language="zh"))
    page = Page(text)
    assert page.count("html", lang="zh-Hans") == 1
    for shown in ("每字节比特数", "学习曲线", "困惑度", "近似重复", "1 分 1 秒", "最好的", "注意力"):
        assert shown in page.text, shown
    english = {words[0] for words in WORDS.values() if " " in words[0] and "{" not in words[0]} - {"yuyan"}
    assert not [words for words in english if words in page.text and words not in {w[1] for w in WORDS.values()}]


def test_a_rung_is_explained_and_an_unknown_one_is_not() -> None:
    for name in ("unigram", "bigram", "kn5", "Kneser-Ney 5-gram", "kneser_ney", "Kneser-Ney, order 5", "LSTM", "gpt"):
        assert theory(name, "en") and theory(name, "zh") and theory(name, "en") != theory(name, "zh")
    assert theory("mamba", "en") == theory("", "zh") == theory(None, "en") == ""
    assert theory("gpt", "en") in Page(ladder_page(ladder())).text


def test_a_missing_piece_is_left_out() -> None:
    whole = ladder()
    for key in whole:
        assert not Page(ladder_page({k: v for k, v in whole.items() if k != key})).wrong
        assert not Page(ladder_page(whole | {key: None})).wrong
    for key in whole["rungs"][0]:
        rungs = [{k: v for k, v in one.items() if k != key} for one in whole["rungs"]]
        assert not Page(ladder_page(whole | {"rungs": rungs})).wrong
        rungs = [one | {key: None} for one in whole["rungs"]]
        assert not Page(ladder_page(whole | {"rungs": rungs})).wrong
    assert "Learning curves" not in Page(ladder_page(ladder(rungs=whole["rungs"][:1]))).text


def test_a_diverged_rung_does_not_break_the_page() -> None:
    bad = rung(
        "gpt",
        "gpt",
        math.nan,
        interval=[math.nan, math.nan],
        validation_curve=[{"seconds": 1, "bits_per_byte": math.nan}],
    )
    text = ladder_page(ladder(rungs=[rung("unigram", "ngram", 4.0), bad, rung("lstm", "lstm", 1e300)], best="unigram"))
    assert "nan" not in Page(text).text and not re.search(r'="[^"]*(nan|inf)[%" ,]', text)


def test_ngrams_are_lines_at_their_validation_score() -> None:
    rungs = ladder()["rungs"]
    rungs[1]["validation_bits_per_byte"] = 3.0
    text = ladder_page(ladder(rungs=rungs))
    drawn = re.findall(r'class="curve reference (g\d)" d="M0,([\d.]+) h1000"', text)
    assert len(drawn) == 4 and drawn[:2] == drawn[2:]  # linear and logarithmic time
    scale = y_scale([point["bits_per_byte"] for point in curve(2.0)], [4.0, 3.0])
    assert [float(y) for _, y in drawn[:2]] == pytest.approx([(1 - scale.at(v)) * 380 for v in (4.0, 3.0)], abs=0.1)
    assert text.count("<b>3</b>") == 2  # in the legends


# ---------------------------------------------------------------- the verdict


def test_an_ngram_that_wins_is_named_in_the_first_sentence() -> None:
    rungs = [rung("kn5", "ngram", 2.0), rung("gpt", "gpt", 2.3)]
    assert verdict({"rungs": rungs, "budget_seconds": 60}) == [
        "At this budget (1 min) the n-gram wins: kn5 needs 2.000 bits per byte; the best neural rung, gpt, needs 2.300."
    ]
    page = Page(ladder_page(ladder(rungs=rungs, best="kn5")))
    assert page.text.index("the n-gram wins: kn5") < page.text.index("Best rung")
    assert "n 元模型胜出" in verdict({"rungs": rungs, "language": "zh"})[0]


def test_the_verdict_compares_with_the_other_family() -> None:
    said = verdict(ladder())
    assert (
        said[0]
        == "gpt is best: 2.100 bits per byte of unseen text, 16.0 % fewer than the best n-gram, kn5, with 2.500."
    )
    assert verdict({"rungs": []}) == ["No rung was measured."]
    assert verdict({"rungs": [rung("gpt", "gpt", 2.0)]}) == ["gpt needs 2.000 bits per byte of text it has not seen."]
    assert "next comes lstm" in verdict({"rungs": [rung("lstm", "lstm", 3.0), rung("gpt", "gpt", 2.0)]})[0]


@pytest.mark.parametrize(("low", "said"), [(-0.012, "the order may be another"), (0.004, "no accident")])
def test_the_difference_of_the_same_documents_is_said_and_not_whether_intervals_overlap(low: float, said: str) -> None:
    found = {"rungs": [rung("kn5", "ngram", 2.01), rung("gpt", "gpt", 2.0)], "difference": [low, 0.03]}
    (_, sentence) = verdict(found)
    assert sentence.startswith(f"On the same documents kn5 needs {low:.3f} to 0.030 bits per byte more than gpt")
    assert said in sentence
    assert "逐文档配对" in verdict(found | {"language": "zh"})[1]


@pytest.mark.parametrize(("gap", "overlaps"), [(0.09, True), (0.11, False)])
def test_overlapping_intervals_are_mentioned(gap: float, overlaps: bool) -> None:
    said = verdict({"rungs": [rung("kn5", "ngram", 2 + gap), rung("gpt", "gpt", 2.0)]})
    assert any("overlap" in sentence for sentence in said) is overlaps


@pytest.mark.parametrize(
    ("falling", "stopped", "said"), [(True, "budget", True), (False, "budget", False), (True, "converged", False)]
)
def test_a_curve_cut_by_the_budget_is_mentioned(falling: bool, stopped: str, said: bool) -> None:
    one = rung("gpt", "gpt", 2.0, validation_curve=curve(2.0, falling), stopped=stopped)
    assert any("had not stopped improving" in sentence for sentence in verdict({"rungs": [one]})) is said


# ---------------------------------------------------------------- a run


def test_a_run_shows_its_curves_its_table_and_its_settings() -> None:
    page = Page(run_page(run()))
    for shown in ("Loss", "Validation, bits per byte", "Learning rate", "Gradient norm", "Tokens per second", "kind: gpt",
                  "2.596", "2.500–2.700", "Update 40", "yuyan train tiny.yaml"):  # fmt: skip
        assert shown in page.text, shown
    assert page.count("polygon") == 1 and len(page.with_class("plot")) == 5


def test_a_long_run_is_thinned_and_keeps_its_extremes() -> None:
    long = run(30_000)
    long["updates"][17_171]["loss"] = 5.5
    text = run_page(long)
    assert len(text) < 500_000
    assert "1 of every 150 updates is listed." in text
    points = thin([(float(u["step"]), u["loss"]) for u in long["updates"]], 300)
    assert len(points) <= 300 and (17_171.0, 5.5) in points
    assert points[0] == (0.0, 5.0) and points[-1][0] == 29_999.0


# ---------------------------------------------------------------- numbers and words

NUMBERS = st.one_of(st.floats(), st.integers(-(10**400), 10**400), st.sampled_from([0.0, 1e308, -1e308, 1e-320, 5.0]))


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (count(9876), "9,876"), (count(12_345), "12.3k"), (count(999_600), "1.00M"), (count(math.nan), "–"),
        (size(812), "812 B"), (size(1_240_000), "1.24 MB"), (size(None), "–"),
        (duration(0.42), "0.42 s"), (duration(42), "42 s"), (duration(725), "12 min 5 s"), (duration(11_520), "3 h 12 min"),
        (duration(725, "zh"), "12 分 5 秒"), (duration(-1), "–"), (duration(59.9), "1 min"),
        (decimal(1.23456), "1.235"), (decimal(1e9), "1e9"), (significant(1234.5), "1,234"), (significant(0.0003), "0.0003"),
        (significant(31.25), "31.25"), (percent(0.256), "25.6 %"), (percent(-0.256, language="zh"), "−25.6%"),
        (interval([1.95, 2.01]), "1.950–2.010"), (interval([math.nan, 2]), "–"), (plain([1, {"a": True}]), "1, a: yes"),
        (shorten("abcdef", 4), "abc…"), (shorten("语言模型阶梯", 6), "语言…"),
    ],
)  # fmt: skip
def test_numbers_are_short(made: str, text: str) -> None:
    assert made == text


@given(NUMBERS)
def test_any_number_can_be_written(value: Any) -> None:
    for function in (count, size, duration, decimal, significant, percent, plain):
        assert len(function(value)) < 30


def test_every_word_is_there_in_both_languages() -> None:
    for english, chinese in WORDS.values():
        assert english and chinese and sorted(re.findall(r"{\w+}", english)) == sorted(re.findall(r"{\w+}", chinese))
    assert all(rule and english and chinese for rule, english, chinese in THEORY) and all(NAMES.values())


def test_han_characters_get_the_shapes_of_their_language() -> None:
    assert [script_of(t) for t in ("语言", "日本語です", "한국어", "text")] == ["zh", "ja", "ko", ""]


# ---------------------------------------------------------------- the terminal


def test_the_terminal_table_has_a_row_a_rung() -> None:
    columns, rows = ladder_table(ladder())
    assert [row[0] for row in rows] == ["unigram", "kn5", "gpt (best)"] and {len(row) for row in rows} == {len(columns)}
    assert columns[3] == "Perplexity per token" and rows[2][1:3] == ["2.100", "2.050–2.150"]
    mixed = [rung("a", "gpt", 2.0), rung("b", "gpt", 2.0, perplexity_unit="character")]
    columns, rows = ladder_table({"rungs": mixed, "language": "zh"})
    assert columns[3] == "困惑度" and rows[1][3].endswith("/字符")
    assert ladder_table({})[1] == []


def test_a_sparkline_follows_its_values() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([1, math.nan, 0]) == "█ ▁" and sparkline([5, 5]) == "▄▄" and sparkline([]) == ""
    line = sparkline([float(i) for i in range(1000)], width=20)
    assert len(line) == 20 and line[0] == "▁" and line[-1] == "█" and list(line) == sorted(line)
    assert sparkline([0.0, 8.0, 4.0, 4.0, 0.0, 0.0], width=3) == "██▁"
    assert len(sparkline([-1e308, 1e308, math.inf])) == 3
