"""`yuyan train` with every objective: stopped and resumed as if never stopped, a folder that opens, a measure that fits."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from toy_runs import ROOT, command, outcome, refused

import yuyan
from yuyan.commands.run import read_run_config
from yuyan.commands.train import train_command
from yuyan.errors import ConfigError, DataError, InputError
from yuyan.objectives import ObjectiveConfig

STEPS = 8
TINY = ROOT / "configs" / "tiny"
SETTINGS = (
    f"train.steps={STEPS}", "train.context=32", "train.batch_tokens=128", "train.threads=1", "train.save_steps=5",
    "evaluate.every=4", "evaluate.tokens=300", "tokenizer.vocab_size=300",
)  # fmt: skip
SMALL = ("model.hidden_size=16", "model.num_layers=1", "model.num_heads=2", "model.dropout=0.1")
CUT = ("data.records.too_long=truncate",)
TEXTS = (f"data.sources=[{TINY / 'stories.txt'}]",)


@dataclass(frozen=True)
class Case:
    """A config of `configs/tiny` and what is changed in it; `measure` is what its model is judged by."""

    file: str
    settings: tuple[str, ...]
    measure: str
    opens_as: str | None = None
    """The class of transformers."""


CASES = {
    "next_token": Case("gpt", SMALL, "bits_per_byte", "Qwen3ForCausalLM"),
    "prefix_lm": Case("gpt", (*SMALL, "objective.kind=prefix_lm"), "bits_per_byte", "Qwen3ForCausalLM"),
    "instructions": Case("instruct", (*CUT, "model.path={gpt}"), "prefix_lm_loss", "Qwen3ForCausalLM"),
    "masked_token": Case("bert", SMALL, "masked_token_loss", "BertForMaskedLM"),
    "span_corruption": Case("t5", SMALL, "span_corruption_loss", "T5ForConditionalGeneration"),
    "replaced_token": Case("electra", SMALL, "replaced_token_loss", "ElectraForPreTraining"),
    "contrastive": Case("contrastive", (*SMALL, *CUT), "contrastive_loss", "BertForMaskedLM"),
    "crops": Case("bert", (*SMALL, "objective={kind: contrastive}"), "contrastive_loss", "BertForMaskedLM"),
    "preference": Case("preference", (*CUT, "model.path={gpt}"), "preference_loss", "Qwen3ForCausalLM"),
    "distil": Case(
        "distil", (*SMALL, "objective.teacher={gpt}", "tokenizer.path={gpt}/model"), "bits_per_byte", "Qwen3ForCausalLM"
    ),
    "ctc": Case(
        "bert", (*SMALL, "objective={kind: ctc}", "data={sources: [{ctc}], records: {}}", "tokenizer={kind: char}"), "ctc_loss", "BertForMaskedLM"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A model to start from, and records of sounds, each of which lasts three frames."""
    folder = tmp_path_factory.mktemp("made")
    settings = [*SETTINGS, *SMALL, "train.save_steps=null"]
    train_command(read_run_config(TINY / "gpt.yaml", settings), folder / "gpt", resume=False)
    words = [
        a + b for a in ("lake", "snow", "wind", "rain", "moon", "star") for b in ("less", "s", "light", "y", "ing")
    ]
    records = [{"inputs": "".join(3 * letter for letter in word[:8]), "labels": word[:8]} for word in words]
    (folder / "sounds.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return {"gpt": str(folder / "gpt"), "ctc": str(folder / "sounds.jsonl")}


def config_of(case: Case, places: dict[str, str], *more: str) -> Any:
    filled = [setting.replace("{gpt}", places["gpt"]).replace("{ctc}", places["ctc"]) for setting in case.settings]
    tokenizer = [s for s in SETTINGS if case.file not in ("instruct", "preference", "distil") or "vocab" not in s]
    return read_run_config(TINY / f"{case.file}.yaml", [*tokenizer, *filled, *more])


def test_every_objective_has_a_case() -> None:
    kinds = {kind.model_fields["kind"].default for kind in get_args(get_args(ObjectiveConfig)[0])}
    assert kinds <= CASES.keys()


@pytest.mark.parametrize("name", list(CASES))
def test_stopped_and_resumed(
    name: str, places: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the fifth of eight updates; and what is written opens, and says what it was measured by."""
    case = CASES[name]
    config = config_of(case, places)
    straight = train_command(config, tmp_path / "straight", resume=False)
    shutil.copytree(tmp_path / "straight", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "state" / f"{STEPS:08d}")
    torch.manual_seed(99)
    train_command(config, tmp_path / "run", resume=True)
    expected = outcome(tmp_path / "straight")
    assert outcome(tmp_path / "run") == expected
    losses = [record["loss"] for record in expected["log"] if "loss" in record]
    assert len(losses) == STEPS and all(loss == loss for loss in losses)
    assert straight.validation.measure == case.measure
    assert expected["report"]["validation"][case.measure] == straight.validation.value
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page and "None" not in page
    opened(tmp_path / "run", case.opens_as)
    capsys.readouterr()
    assert (
        command("evaluate", str(tmp_path / "run"), str(tmp_path / "run" / "data" / "validation.jsonl"), "--json") == 0
    )
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated[case.measure] == pytest.approx(straight.validation.value, rel=1e-9)


def opened(run: Path, name: str | None) -> None:
    transformers = pytest.importorskip("transformers")
    folder = run / "model"
    assert json.loads((folder / "config.json").read_text())["architectures"] == [name]
    theirs, info = getattr(transformers, str(name)).from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    ours = yuyan.load(run)
    ids = torch.tensor([[5, 6, 7, 8]])
    more = {"decoder_input_ids": ids} if name == "T5ForConditionalGeneration" else {}
    with torch.no_grad():
        wanted = theirs.eval()(ids, **more).logits
    torch.testing.assert_close(ours.logits(ids, **more).reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-4)


def test_a_generator_lies_inside_and_goes_on(places: dict[str, str], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = config_of(CASES["replaced_token"], places)
    first = train_command(config, tmp_path / "first", resume=False)
    transformers.ElectraForMaskedLM.from_pretrained(tmp_path / "first" / "model" / "generator")
    settings = [
        f"model={{kind: pretrained, path: {tmp_path / 'first'}}}",
        f"tokenizer={{kind: from, path: {tmp_path / 'first' / 'model'}}}",
    ]
    again = read_run_config(
        TINY / "electra.yaml",
        [s for s in SETTINGS if "vocab" not in s] + settings + ["train.steps=1", "train.optimizer.lr=1e-9"],
    )
    second = train_command(again, tmp_path / "second", resume=False)
    assert second.validation.value == pytest.approx(first.validation.value, rel=1e-3)


# ---------------------------------------------------------------- what is refused


def test_a_teacher_that_changed_is_noticed(places: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(places["gpt"], tmp_path / "teacher")
    config = config_of(CASES["distil"], {**places, "gpt": str(tmp_path / "teacher")})
    train_command(config, tmp_path / "run", resume=False)
    shutil.rmtree(tmp_path / "run" / "state" / f"{STEPS:08d}")
    from yuyan.tasks.language_model import LanguageModel

    other = LanguageModel.load(tmp_path / "teacher")
    with torch.no_grad():
        next(iter(other.network.parameters())).add_(1.0)  # type: ignore[union-attr]
    other.save(tmp_path / "teacher" / "model")
    with pytest.raises(InputError, match="the teacher has other weights now"):
        train_command(config, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("name", "setting", "said"),
    [
        ("masked_token", "model.kind=gpt", "needs an encoder without a decoder"),
        ("next_token", "objective.kind=masked_token", "needs a mask token: add tokenizer.mask=true"),
        ("next_token", "objective.kind=preference", r"learns from records, not from texts: add data.records=\{\}"),
        ("contrastive", "objective={kind: masked_token}", "needs a mask token"),
        ("preference", "data.records.too_long=error", "are longer than train.context=32 .the longest has"),
        ("masked_token", "model.max_position_embeddings=20", "the model has positions for 20"),
        ("distil", "objective.teacher=null", "objective.teacher: required"),
        ("distil", "objective.base.cross_entropy.label_smoothing=0.1", "probabilities are compared as they are"),
        (
            "contrastive",
            "train.micro_tokens=32",
            "compares the rows of one forward pass with each other, and there is only",
        ),
    ],
)
def test_misfits_are_refused_before_anything_is_done(
    name: str, setting: str, said: str, places: dict[str, str], tmp_path: Path
) -> None:
    case = CASES[name]
    if setting == "model.kind=gpt":
        setting = "model={kind: gpt, hidden_size: 16, num_layers: 1, num_heads: 2}"
    with pytest.raises((ConfigError, DataError), match=said):
        train_command(config_of(case, places, setting), tmp_path / "run", resume=False)
    assert not (tmp_path / "run" / "log.jsonl").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": "a", "answr": "b"}', r"bad.jsonl:2: no 'answer' in this record; did you mean 'answr'"),
        ('{"prompt": "a", "answer": 3}', r"bad.jsonl:2: 'answer' is a number, where a text was expected"),
        ('{"prompt": "a", "answer": null}', r"bad.jsonl:2: 'answer' is null"),
        ('["a", "b"]', r"bad.jsonl:2: a list, where an object with prompt, answer was expected"),
        ('{"prompt": "a", ', r"bad.jsonl:2: broken JSON at column"),
        ('{"prompt": "\\ud800", "answer": "b"}', r"bad.jsonl:2: 'prompt': character 1 is half of a pair"),
    ],
)
def test_a_bad_record_is_named(line: str, said: str, places: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "answer": "b"}\n' + line + "\n")
    config = config_of(CASES["instructions"], places, f"data.sources=[{tmp_path / 'bad.jsonl'}]")
    with pytest.raises(DataError, match=said):
        train_command(config, tmp_path / "run", resume=False)


def test_records_of_ids_need_a_tokenizer_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sounds = tmp_path / "sounds.jsonl"
    sounds.write_text('{"inputs": [7, 8, 9, 8], "labels": [7, 9]}\n' * 9)
    data = f"data={{sources: [{sounds}], records: {{}}, validation: [{sounds}]}}"
    given = ("train", str(TINY / "bert.yaml"), "objective={kind: ctc}", "train.steps=2", data)
    refused(capsys, *given, "--out", str(tmp_path / "run"), said="tokenizer: the records hold ids and no text to train")
    assert not (tmp_path / "run").exists()
