"""Gaps of a text: the tokens that a masked encoder finds likeliest, and the spans that a T5 writes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from contracts.sides import ALL, VOCABULARY, strong

from yuyan.commands.generate import fill_command, generate_command
from yuyan.errors import YuyanError
from yuyan.generate import Greedy
from yuyan.tasks.infill import Filled, _spans
from yuyan.tasks.language_model import LanguageModel
from yuyan.tokens import Tokenizer, train_tokenizer
from yuyan.tokens.train import CharConfig


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = train_tokenizer(["abcdefghijklmnopqrstuvwxyz ."], CharConfig(vocab_size=VOCABULARY, sentinels=4, mask=True))
    assert made.special.mask is not None and len(made.special.sentinels) == 4
    return made


def made(name: str, tokenizer: Tokenizer) -> LanguageModel:
    return LanguageModel(strong(ALL[name]), tokenizer, 40)


def test_candidates_are_those_of_one_reading(tokenizer: Tokenizer) -> None:
    model, special = made("bert", tokenizer), tokenizer.special
    filled = model.fill("ab_d e_", gap="_", top=3)
    ids = [special.bos, *tokenizer.encode("ab"), special.mask, *tokenizer.encode("d e"), special.mask, special.eos]
    scores = model.logits(torch.tensor([ids]))[0, [3, 7], : len(tokenizer)]
    scores[:, sorted(special.control)] = float("-inf")
    best = scores.softmax(-1).topk(3)
    for gap in range(2):
        assert [token for token, _ in filled.candidates[gap]] == [
            tokenizer.decode([i]) for i in best.indices[gap].tolist()
        ]
        assert [p for _, p in filled.candidates[gap]] == pytest.approx(best.values[gap].tolist(), abs=1e-5)
    sure = int(best.values[:, 0].argmax())
    ids[[3, 7][sure]] = int(best.indices[sure, 0])
    again = model.logits(torch.tensor([ids]))[0, [3, 7][1 - sure], : len(tokenizer)]
    again[sorted(special.control)] = float("-inf")
    ids[[3, 7][1 - sure]] = int(again.argmax())
    assert filled.text == tokenizer.decode(ids) == f"ab{filled.gaps[0]}d e{filled.gaps[1]}"


@pytest.mark.parametrize("name", ["t5", "transformer"])
def test_spans_are_what_stands_behind_the_sentinels(name: str, tokenizer: Tokenizer) -> None:
    model, special = made(name, tokenizer), tokenizer.special
    settings = Greedy(max_tokens=12, logit_bias={special.sentinels[0]: 2.0, special.sentinels[1]: 2.0})
    filled = model.fill("ab___cd___", settings)
    source = [special.bos, *tokenizer.encode("ab"), special.sentinels[0], *tokenizer.encode("cd"), special.sentinels[1]]
    ids = [special.pad]
    for _ in range(12):
        scores = model.logits(torch.tensor([[*source, special.eos]]), None, torch.tensor([ids]))[
            0, -1, : len(tokenizer)
        ]
        scores[list(special.sentinels[:2])] += 2
        ids.append(int(scores.argmax()))
        if ids[-1] in (special.eos, special.bos, special.pad, special.sentinels[2]):
            ids.pop()
            break
    spans = _spans(ids[1:], special.sentinels[:2])
    assert filled.gaps == [tokenizer.decode(span) for span in spans]
    assert filled.text == f"ab{filled.gaps[0]}cd{filled.gaps[1]}"


def test_spans() -> None:
    assert _spans([90, 1, 2, 91, 3], [90, 91]) == [[1, 2], [3]]
    assert _spans([4, 91, 3, 90, 1, 91, 5], [90, 91]) == [[1], [3]]
    assert _spans([], [90]) == [[]]


def test_what_cannot_be_filled_is_said(tokenizer: Tokenizer) -> None:
    for name, text, said in [
        ("bert", "no gap", "the text has no gap; write '___'"),
        ("window", "a___", "it reads from left to right only; use generate"),
        ("labels", "a___", "no scores of tokens"),
        ("t5", "___" * 5, "5 gaps, and the tokenizer 4 sentinels"),
    ]:
        with pytest.raises(YuyanError, match=said):
            made(name, tokenizer).fill(text)
    with pytest.raises(YuyanError, match="top: 0"):
        made("bert", tokenizer).fill("___", top=0)
    with pytest.raises(YuyanError, match="no strategy to set"):
        made("bert", tokenizer).fill("___", Greedy(max_tokens=3))


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_standard_input_goes_without_its_last_line_break(
    end: str, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = "\n" * (end == "\n\n")
    made("window", tokenizer).save(tmp_path / "window")
    made("bert", tokenizer).save(tmp_path / "bert")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"abc{end}".encode())))
    generate_command(tmp_path / "window", "-", {"kind": "greedy", "max_tokens": 3}, [], echo=True, as_json=False)
    text = made("window", tokenizer).generate(f"abc{kept}", kind="greedy", max_tokens=3)
    assert capsys.readouterr().out == f"abc{kept}{text}\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"ab___{end}".encode())))
    fill_command(tmp_path / "bert", "-", "___", 5, [], as_json=True)
    assert json.loads(capsys.readouterr().out)["text"] == made("bert", tokenizer).fill(f"ab___{kept}").text


def test_a_candidate_that_breaks_the_line_keeps_its_row(
    tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made("bert", tokenizer).save(tmp_path / "bert")
    monkeypatch.setattr(LanguageModel, "fill", lambda *_, **__: Filled("a b", [" "], [[("\n", 0.5), ("字", 0.25)]]))
    fill_command(tmp_path / "bert", "a___b", "___", 2, [], as_json=False)
    table = capsys.readouterr().err
    assert any("\\n" in line and "0.5000" in line for line in table.splitlines())


def test_a_key_of_the_command_line_leaves_the_strategy(
    tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made("t5", tokenizer).save(tmp_path / "t5")
    printed = []
    for keys in (["max_tokens=12"], ["max_tokens=12", "kind=greedy"]):
        fill_command(tmp_path / "t5", "ab___cd___", "___", 5, keys, as_json=False)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    with pytest.raises(YuyanError, match="temperature: a key of kind sampling; the kind here is greedy"):
        fill_command(tmp_path / "t5", "ab___", "___", 5, ["temperature=1"], as_json=False)
