"""What a ladder says, in sentences: which rung won, by how much, and how sure that is.

Only what the numbers show: an n-gram that wins is named as the winner; how much more the other needs of the documents
that both were scored on is said with its paired interval; and a curve that was still falling when its time ran out is
mentioned, because a larger budget may turn the order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yuyan.evaluate.quantities import bounds_of, decimal, duration, finite, percent
from yuyan.evaluate.wording import language_of

STILL_FALLING = 0.005  # of the score, over the last fifth of the curve

_SENTENCES: dict[str, tuple[str, str]] = {
    "none": ("No rung was measured.", "没有测量任何模型。"),
    "only": ("{best} needs {score} bits per byte of text it has not seen.", "{best} 对没见过的文本每字节需要 {score} 比特。"),
    "ngram": (
        "At this budget{time} the n-gram wins: {best} needs {score} bits per byte; the best neural rung, {other}, needs {theirs}.",
        "在这个预算{time}下，n 元模型胜出：{best} 每字节需要 {score} 比特；最好的神经网络 {other} 需要 {theirs}。",
    ),
    "neural": (
        "{best} is best: {score} bits per byte of unseen text, {share} fewer than the best n-gram, {other}, with {theirs}.",
        "{best} 最好：对没见过的文本每字节 {score} 比特，比最好的 n 元模型 {other}（{theirs}）少 {share}。",
    ),
    "same": (
        "{best} is best: {score} bits per byte of unseen text; next comes {other} with {theirs}.",
        "{best} 最好：对没见过的文本每字节 {score} 比特；其次是 {other}，{theirs}。",
    ),
    "chance": (
        "On the same documents {other} needs {low} to {high} bits per byte more than {best} (95 %, paired): 0 lies between, "
        "so on other text of this kind the order may be another.",
        "在同样的文档上，{other} 每字节比 {best} 多 {low} 到 {high} 比特（95%，逐文档配对）：其间有 0，换一批同类文本，次序可能不同。",
    ),
    "certain": (
        "On the same documents {other} needs {low} to {high} bits per byte more than {best} (95 %, paired): the order is no "
        "accident of these documents.",
        "在同样的文档上，{other} 每字节比 {best} 多 {low} 到 {high} 比特（95%，逐文档配对）：这个次序不是这批文档的偶然。",
    ),
    "overlap": (
        "The 95 % intervals of {best} and {other} overlap: on other text of this kind the order may be another.",
        "{best} 与 {other} 的 95% 区间有重叠：换一批同类文本，次序可能不同。",
    ),
    "falling": (
        "{names} had not stopped improving when the time was up; a larger budget may take it further.",
        "时间用完时 {names} 仍在进步；预算再大一些，可能还会更好。",
    ),
}  # fmt: skip


def verdict(ladder: Mapping[str, Any]) -> list[str]:
    """One to three sentences in the ladder's language; the first is the result."""
    index = 1 if language_of(ladder) == "zh" else 0
    ranked = ranking(ladder)
    if not ranked:
        return [_SENTENCES["none"][index]]
    best = ranked[0]
    rival = _rival(ranked)
    budget = finite(ladder.get("budget_seconds"))
    time = "" if budget is None else (f" ({duration(budget)})", f"（{duration(budget, 'zh')}）")[index]
    facts = {"best": title_of(best), "score": decimal(best["bits_per_byte"]), "time": time}
    kind = "only"
    if rival is not None:
        share = percent(1 - best["bits_per_byte"] / rival["bits_per_byte"], language=language_of(ladder))
        facts |= {"other": title_of(rival), "theirs": decimal(rival["bits_per_byte"]), "share": share}
        kind = "same" if is_ngram(best) == is_ngram(rival) else "ngram" if is_ngram(best) else "neural"
    sentences = [_SENTENCES[kind][index].format(**facts)]
    if (difference := bounds_of(ladder.get("difference"))) is not None and rival is not None:
        low, high = difference
        said = "chance" if low <= 0 <= high else "certain"
        sentences.append(_SENTENCES[said][index].format(low=decimal(low), high=decimal(high), **facts))
    elif rival is not None and _overlap(best.get("interval"), rival.get("interval")):  # without scores by document
        sentences.append(_SENTENCES["overlap"][index].format(**facts))
    if falling := [title_of(rung) for rung in ranked if _falling(rung)]:
        sentences.append(_SENTENCES["falling"][index].format(names=_listed(falling, index)))
    return sentences


def compared(ladder: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """The best rung and whom it is compared with; None of fewer than two. `difference` is of the latter less the former."""
    ranked = ranking(ladder)
    rival = _rival(ranked) if ranked else None
    return None if rival is None else (ranked[0], rival)


def _listed(names: Sequence[str], index: int) -> str:
    """A, B and C."""
    comma, last = ((", ", " and "), ("、", " 和 "))[index]
    return last.join([comma.join(names[:-1]), names[-1]] if len(names) > 1 else names)


def ranking(ladder: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rungs that have a score, best first."""
    rungs = [rung for rung in ladder.get("rungs") or () if (finite(rung.get("bits_per_byte")) or 0) > 0]
    return sorted(rungs, key=lambda rung: float(rung["bits_per_byte"]))


def title_of(rung: Mapping[str, Any]) -> str:
    """What a rung is called on a page."""
    return str(rung.get("title") or rung.get("name") or "?")


def is_ngram(rung: Mapping[str, Any]) -> bool:
    """Whether a rung is counted rather than trained."""
    return rung.get("kind") == "ngram"


def _rival(ranked: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Whom the winner is compared with: the best of the other family, else the second."""
    others = [rung for rung in ranked[1:] if is_ngram(rung) != is_ngram(ranked[0])]
    return next(iter(others), ranked[1] if len(ranked) > 1 else None)


def _overlap(first: object, second: object) -> bool:
    one, two = bounds_of(first), bounds_of(second)
    return one is not None and two is not None and one[0] <= two[1] and two[0] <= one[1]


def _falling(rung: Mapping[str, Any]) -> bool:
    """Whether the budget ended a curve whose last fifth still improved it."""
    points = [(finite(p.get("seconds")), finite(p.get("bits_per_byte"))) for p in rung.get("validation_curve") or ()]
    curve = [(x, y) for x, y in points if x is not None and y is not None]
    if rung.get("stopped") != "budget" or len(curve) < 3:
        return False
    before = [y for x, y in curve if x <= 0.8 * curve[-1][0]]
    return bool(before) and min(before) - curve[-1][1] > STILL_FALLING * abs(curve[-1][1])
