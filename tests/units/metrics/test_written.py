"""What written texts are worth: equal to the reference tools, right for Chinese, defined for odd texts."""

from __future__ import annotations

import random

import numpy as np
import pytest
import sacrebleu

from yuyan.metrics.rouge import common_subsequence, rouge, rouge_values, words_of
from yuyan.metrics.written import Measure, against_references, exact_match
from yuyan.tasks import Summarise
from yuyan.tasks.paired_text import Paired
from yuyan.tasks.summarise import lead

WORDS = ("The", "dog", "dogs", "ran", "fast", "to", "3", "towns", "U.S.", "well-known", "don't", ",", ".", "a")


def some_texts(count: int, seed: int = 0) -> list[tuple[str, list[str]]]:
    draw = random.Random(seed)
    text = lambda: " ".join(draw.choices(WORDS, k=draw.randint(2, 14)))
    return [(text(), [text() for _ in range(draw.randint(1, 3))]) for _ in range(count)]


def test_rouge_is_that_of_rouge_score_on_english() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rouge2", "rougeL"])
    for answer, references in some_texts(300):
        if any(len(words_of(text)) < 2 for text in (answer, *references)):
            continue
        theirs = scorer.score_multi(references, answer)
        assert rouge(answer, references) == pytest.approx(
            [theirs[k].fmeasure for k in ("rouge1", "rouge2", "rougeL")], abs=1e-9
        )


@pytest.mark.parametrize("text", [
    "今天天气很好，我们去公园。", "a dog", "好", "ประเทศไทย", "!!!", "Привет мир", "GPT-4 很强", "これは本です", "नमस्ते दुनिया",
])  # fmt: skip
def test_the_same_text_scores_1_in_every_script(text: str) -> None:
    assert rouge(text, [text]) == (1.0, 1.0, 1.0)
    assert rouge("", [text]) == (0.0, 0.0, 0.0)


def test_chinese_is_counted_by_characters() -> None:
    assert words_of("GPT很强，2024年。") == ["gpt", "很", "强", "2024", "年"]
    found = rouge("我们去公园玩", ["我们去河边玩"])
    assert (
        found.rouge1 == pytest.approx(4 / 6)
        and found.rouge2 == pytest.approx(2 / 5)
        and found.rouge_l == pytest.approx(4 / 6)
    )


def test_the_longest_common_subsequence_by_its_definition() -> None:
    draw = np.random.default_rng(0)
    for _ in range(200):
        one, other = (["abcd"[i] for i in draw.integers(0, 4, draw.integers(0, 80))] for _ in range(2))
        table = np.zeros((len(one) + 1, len(other) + 1), int)
        for i, a in enumerate(one, 1):
            for j, b in enumerate(other, 1):
                table[i, j] = table[i - 1, j - 1] + 1 if a == b else max(table[i - 1, j], table[i, j - 1])
        assert common_subsequence(one, other) == table[-1, -1]


def test_rouge_of_many_is_the_mean_with_an_interval_around_it() -> None:
    answers, references = zip(*some_texts(60), strict=True)
    found = rouge_values(answers, references, 200)
    one = [rouge(a, r).rouge_l for a, r in zip(answers, references, strict=True)]
    assert found["rouge_l"].value == pytest.approx(np.mean(one))
    assert found["rouge_l"].interval.low < found["rouge_l"].value < found["rouge_l"].interval.high


@pytest.mark.parametrize(
    ("measure", "language"), [("bleu", "en"), ("bleu", "zh"), ("chrf", "de"), ("ter", "zh"), ("ter", "en")]
)
def test_a_perfect_answer_is_perfect_and_one_change_is_small(measure: Measure, language: str) -> None:
    texts = (
        ["今天天气很好，我们去公园散步。", "他们在河边钓鱼。"]
        if language == "zh"
        else ["The dogs run in the park .", "Two men fish here today."]
    )
    worst, best = (100.0, 0.0) if measure == "ter" else (0.0, 100.0)
    value, signature = against_references(measure, texts, [[text] for text in texts], language, 20)
    assert value.value == pytest.approx(best) and value.interval.low == pytest.approx(best)
    assert signature.startswith(f"{measure} nrefs:1|") and "version:" in signature
    assert ("tok:zh" in signature) == (measure == "bleu" and language == "zh")
    changed = [texts[0].replace("天气", "心情").replace("park", "house"), texts[1]]
    near = against_references(measure, changed, [[text] for text in texts], language, 0)[0].value
    assert abs(near - best) < 45 and near != best
    assert abs(against_references(measure, ["x"] * 2, [[t] for t in texts], language, 0)[0].value - worst) < 10


def test_several_references_of_different_number() -> None:
    answers, references = zip(*some_texts(40), strict=True)
    value, signature = against_references("bleu", answers, references, "en", 100)
    streams = [[r[i] if i < len(r) else None for r in references] for i in range(3)]
    assert value.value == pytest.approx(sacrebleu.corpus_bleu(list(answers), streams).score)
    assert "nrefs:var" in signature and value.interval.low < value.value < value.interval.high


def test_exact_match() -> None:
    assert exact_match(["a  b", "c", "d"], [["a b"], ["x", "c"], ["D"]], 100).value == pytest.approx(2 / 3)


@pytest.mark.parametrize(("text", "first", "three"), [
    ('He left. "Why?" she said. Nobody knew! The end.', "He left.", 'He left. "Why?" she said. Nobody knew!'),
    ("他说：“好。”然后走了。再见！又见", "他说：“好。”", "他说：“好。”然后走了。再见！"),
    ("#A#: hi\n#B#: oh\n#A#: no\n#B#: bye", "#A#: hi", "#A#: hi\n#B#: oh\n#A#: no"),
    ("甲：你好。\n乙：好！\r\n甲：走吧？\n乙：好。", "甲：你好。", "甲：你好。\n乙：好！\r\n甲：走吧？"),
    ("One.\n\ntwo.\n\nthree.\n\nfour.", "One.", "One.\n\ntwo.\n\nthree."),
    ("no end", "no end", "no end"), ("Version 3.5 is out. Good.", "Version 3.5 is out.", "Version 3.5 is out. Good."),
])  # fmt: skip
def test_leads(text: str, first: str, three: str) -> None:
    assert (lead(text, 1), lead(text, 3)) == (first, three)


def test_summaries_are_set_beside_leads() -> None:
    records = [Paired("One thing. Two things. Three things. Four things.", ("One thing.",), "a:1")] * 3
    scores = Summarise().measured(["Four things."] * 3, records, 0)
    beside = dict(scores.beside)
    assert list(scores.values) == ["rouge1", "rouge2", "rouge_l"] and list(beside) == ["lead-1", "lead-3"]
    assert beside["lead-1"]["rouge1"] == 1.0 > beside["lead-3"]["rouge1"] > scores.values["rouge1"].value
