"""Models, prompts and texts to measure that cannot be used: one clear line, an exit code, nothing half-written."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from toy_runs import ROOT, STORIES, command, refused

# ---------------------------------------------------------------- generating and measuring


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--temperature", "-1"), "temperature: input should be greater than or equal to 0; got -1"),
        (("--temperature", "nan"), "temperature: input should be a finite number"),
        (("--temperature", "hot"), "'--temperature'"),
        (("--top-p", "0"), "top_p: input should be greater than 0"),
        (("--top-p", "1.5"), "top_p: input should be less than or equal to 1"),
        (("--top-p", "nan"), "top_p"),
        (("--top-k", "0"), "top_k: input should be greater than or equal to 1"),
        (("--max-tokens", "0"), "max_tokens: input should be greater than or equal to 1"),
        (("--max-tokens", "1000000000"), "max_tokens: input should be less than or equal to 1000000"),
        (
            ("--max-tokens", "1000"),
            r"3 tokens of prompt and 1000 new ones do not fit the 32 .*--max-tokens 30\), or .*overflow=slide",
        ),
        (("--weights", "int9"), r"weights: expected one of float32, .*; got 'int9'; did you mean 'int8'"),
        (("--seed", "-1"), "seed: input should be greater than or equal to 0"),
        (("--seed", "9" * 30), "seed: input should be less than"),
        (("--n", "1000"), "n: input should be less than or equal to 128; got 1000"),
        (("--n", "0"), "n: input should be greater than or equal to 1"),
        (("--stop", ""), "stop.0: string should have at least 1 character"),
        (("--kind", "bean"), r"kind: expected one of greedy, .*; got 'bean'; did you mean 'beam'"),
        (("--kind", "beam", "--temperature", "1"), "temperature: a key of kind sampling; the kind here is beam"),
        (("--kind", "greedy", "--n", "2"), "n: a key of kind sampling or beam; the kind here is greedy"),
        (("--set", "beams=3"), "beams: a key of kind beam; the kind here is sampling, the default"),
        (("--kind", "beam", "--set", "beams=0"), "beams: input should be greater than or equal to 1"),
        (("--kind", "beam", "--n", "5"), "n: 4 beams give at most 4 texts, not 5"),
        (("--kind", "beam", "--set", "groups=3"), "groups: 4 beams cannot be divided evenly among 3"),
        (("--kind", "contrastive", "--set", "alpha=2"), "alpha: input should be less than or equal to 1"),
        (("--set", "best_of=1", "--n", "2"), "best_of: 1 texts are written, and n = 2 of them wanted"),
        (("--set", "repetition_penalty=0"), "repetition_penalty: input should be greater than or equal to 0.000000001"),
        (
            ("--set", "logit_bias={5: 1e308}"),
            r"logit_bias\.5: input should be less than or equal to 1000000000; got 1e\+308",
        ),
        (("--set", "logit_bias={99999: 1}"), "logit_bias: 99999 is not a token; the vocabulary has 512"),
        (("--set", "min_p=0"), "min_p: input should be greater than 0"),
        (("--set", "overflow=cut"), "overflow: expected 'error' or 'slide'; got 'cut'"),
        (("--set", "speculation.kind=drft"), r"speculation.kind: expected one of prompt_lookup, draft; got 'drft'"),
        (("--set", "speculation={kind: draft, path: no-such}"), "no-such: no such model"),
        (("--set", "tempreature=1"), "tempreature: unknown key; did you mean 'temperature'"),
        (("--set", "=3"), "an override is written key.sub=value"),
    ],
)
def test_options_of_generate(words: tuple[str, ...], said: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "generate", str(run), "An", *words, said=said)


def test_prompts(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    refused(
        capsys,
        "generate",
        str(run),
        "too long " * 50,
        said=r"the prompt has \d+ tokens, and the model reads at most 32; shorten .*overflow=slide",
    )
    capsys.readouterr()
    assert command("generate", str(run), "too long " * 50, "--set", "overflow=slide", "--max-tokens", "40") == 0
    assert command("generate", str(run), "An", "--stop", "never to come", "--max-tokens", "3") == 0
    refused(capsys, "generate", str(run), "a\udce9b", said=r"a lone surrogate \(U\+DCE9\)")
    assert command("generate", str(run), "", "--max-tokens", "3") == 0
    assert command("generate", str(run), "</s><s><pad>", "--max-tokens", "3") == 0
    assert "</s><s><pad>" in capsys.readouterr().out, "what looks like a control token is plain text"


@pytest.mark.parametrize(
    ("damage", "code", "said"),
    [
        ("nothing there", 2, "no such model; give a model folder, a run, or a rung of a ladder"),
        ("a file", 2, "no model here"),
        ("no model", 2, "no model here: there is neither a config.json nor a model/config.json"),
        ("cut config", 1, r"config\.json: damaged"),
        ("flipped bit", 1, r"model\.safetensors: damaged: expected SHA-256"),
        ("config of another", 2, "model_type: 'zzz' is not a family that is known; known: bert"),
        ("config that is a list", 2, "a model's config is a mapping, not a list"),
        ("cut weights", 1, r"model\.safetensors: damaged"),
        ("no weights", 2, "no weights: there is neither model.safetensors"),
        ("a weight is missing", 2, "model"),
        ("a weight of another shape", 2, "shape|size"),
        ("no tokenizer", 2, r"tokenizer\.json: no such file"),
        ("broken tokenizer", 2, r"tokenizer\.json: not a tokenizer"),
        (
            "tokenizer that does not fit",
            2,
            "the tokenizer has 600 tokens and the model 512; they do not belong together",
        ),
        ("broken context", 1, r"yuyan\.json: damaged"),
        ("a ladder", 2, r"holds several models; give .*/rungs/NAME, with NAME one of gpt, kn5"),
    ],
)
def test_models(damage: str, code: int, said: str, here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = here / "model"
    shutil.copytree(run / "model", model)
    break_model(damage, model)
    refused(capsys, "generate", "model", "An", code=code, said=said, place=here)
    refused(capsys, "evaluate", "model", str(STORIES), code=code, said=said, place=here)


def break_model(damage: str, model: Path) -> None:
    """What can be wrong with a folder; without its manifest it is a folder of another tool, and read more carefully."""
    weights, config = model / "model.safetensors", model / "config.json"
    if damage in ("nothing there", "a file", "no model", "a ladder"):
        shutil.rmtree(model)
        if damage == "a file":
            model.write_text("no")
        elif damage == "no model":
            model.mkdir()
        elif damage == "a ladder":
            (model / "rungs" / "gpt").mkdir(parents=True)
            (model / "rungs" / "kn5").mkdir()
        return
    if damage == "cut config":
        config.write_text("{")
    elif damage == "flipped bit":
        data = weights.read_bytes()
        weights.write_bytes(data[:9000] + bytes([data[9000] ^ 1]) + data[9001:])
    else:
        (model / "manifest.json").unlink()
    tensors = load_file(weights)
    if damage == "config of another":
        config.write_text('{"model_type": "zzz"}')
    elif damage == "config that is a list":
        config.write_text("[]")
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif damage == "no weights":
        weights.unlink()
    elif damage == "a weight is missing":
        save_file(dict(list(tensors.items())[1:]), weights)
    elif damage == "a weight of another shape":
        name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
        save_file(tensors | {name: tensors[name][:, :-1].contiguous()}, weights)
    elif damage == "no tokenizer":
        (model / "tokenizer.json").unlink()
    elif damage == "broken tokenizer":
        (model / "tokenizer.json").write_text("{}")
    elif damage == "broken context":
        (model / "yuyan.json").write_text("{")
    elif damage == "tokenizer that does not fit":
        tokenizer = json.loads((model / "tokenizer.json").read_text())
        for number in range(512, 600):
            tokenizer["added_tokens"].append(
                tokenizer["added_tokens"][-1] | {"id": number, "content": f"<more {number}>"}
            )
        (model / "tokenizer.json").write_text(json.dumps(tokenizer))


def test_measuring(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "empty.txt").write_text("")
    (here / "one.txt").write_text("One document.")
    refused(capsys, "evaluate", str(run), "no.txt", said=r"no\.txt: no such file or folder", place=here)
    refused(
        capsys, "evaluate", str(run), "empty.txt", said=r"empty\.txt: no training text: the file is empty", place=here
    )
    assert command("evaluate", str(run), "one.txt", "--json") == 0
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["interval"] == [None, None]


# ---------------------------------------------------------------- the real command


def shell(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "yuyan", *words], stdin=subprocess.DEVNULL, capture_output=True, cwd=ROOT, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_a_terminal_that_knows_no_chinese(run: Path) -> None:
    done = shell("generate", str(run), "小明", "--max-tokens", "2", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert done.stdout.startswith(b"??")


def test_a_prompt_that_is_no_text(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe")))
    refused(
        capsys, "generate", str(run), "-", said="^yuyan: standard input: not UTF-8 at byte 0; give the prompt as UTF-8$"
    )


@pytest.mark.slow
def test_a_reader_that_leaves_early(run: Path) -> None:
    reader = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read(1)"], stdin=subprocess.PIPE)
    assert reader.stdin is not None
    done = subprocess.run(
        [sys.executable, "-m", "yuyan", "generate", str(run), "An " * 8, "--max-tokens", "5"],
        stdout=reader.stdin, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    reader.stdin.close()
    reader.wait()
    assert b"Traceback" not in done.stderr
