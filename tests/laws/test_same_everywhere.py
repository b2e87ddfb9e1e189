"""The same model gives the same tokens and the same scores in Python, on the command line, and from a copied folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from toy_runs import CONFIG, SETTINGS, STORIES, command, refused

import yuyan
from yuyan.commands.run import read_run_config
from yuyan.commands.train import train_command
from yuyan.generate import Greedy
from yuyan.tasks.language_model import LanguageModel
from yuyan.tasks.writing import Writer

PROMPTS = ("Anna found", "小明在河边", "")
CHOICES: list[dict[str, Any]] = [
    {"temperature": 0.0, "max_tokens": 16},
    {"temperature": 1.1, "seed": 7, "max_tokens": 16},
    {"temperature": 0.9, "top_k": 30, "top_p": 0.8, "seed": 3, "max_tokens": 10},
    {"kind": "beam", "beams": 3, "length_penalty": 0.5, "no_repeat_ngram": 2, "max_tokens": 12},
    {"kind": "greedy", "repetition_penalty": 1.3, "bad_words": ["the", "小"], "stop": "a", "max_tokens": 12},
]
FLAGS = ("temperature", "seed", "max_tokens", "top_k", "top_p", "kind", "stop")
SEPARATE = """
import json, sys, yuyan
model = yuyan.load(sys.argv[1])
print(json.dumps([model.generate(prompt, **settings) for prompt, settings in json.loads(sys.argv[2])]))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train_command(read_run_config(CONFIG, [*SETTINGS, "evaluate.tokens=200000"]), out, resume=False)
    return out


@pytest.fixture(scope="module")
def rung(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An n-gram model on the same text."""
    out = tmp_path_factory.mktemp("ladders") / "ladder"
    assert command("ladder", str(STORIES), "--rungs", "kn3", "--budget", "10s", "--out", str(out)) == 0
    return out / "rungs" / "kn3"


def options(settings: dict[str, Any]) -> list[str]:
    words = []
    for key, value in settings.items():
        words += [f"--{key.replace('_', '-')}", str(value)] if key in FLAGS else ["--set", f"{key}={value}"]
    return words


CASES = [(prompt, settings) for prompt in PROMPTS for settings in CHOICES]


@pytest.mark.parametrize("kind", ["run", "rung"])
def test_python_command_line_and_a_copied_folder_write_the_same(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    place: Path = request.getfixturevalue(kind)
    model = yuyan.load(place)
    python = [model.generate(prompt, **settings) for prompt, settings in CASES]
    assert python == [model.generate(prompt, **settings) for prompt, settings in CASES], "nothing is left over"
    assert python == ["".join(model.stream(prompt, sampling(settings))) for prompt, settings in CASES]
    capsys.readouterr()
    shell = []
    for prompt, settings in CASES:
        assert command("generate", str(place), prompt, "--no-echo", *options(settings)) == 0
        shell.append(capsys.readouterr().out.removesuffix("\n"))
    assert shell == python
    shutil.copytree(place / "model", tmp_path / "exported")
    done = subprocess.run(
        [sys.executable, "-c", SEPARATE, str(tmp_path / "exported"), json.dumps(CASES)],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert json.loads(done.stdout) == python
    assert len(set(python)) >= 7, "the cases differ"


def sampling(settings: dict[str, Any]) -> Any:
    from yuyan.generate import decoding

    return decoding(settings)


def test_the_echo_is_the_prompt(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("generate", str(run), "Anna found", *options(CHOICES[1])) == 0
    written = yuyan.load(run).generate("Anna found", **CHOICES[1])
    assert capsys.readouterr().out == f"Anna found{written}\n"


def test_several_texts_on_the_command_line_and_in_python(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"temperature": 1.2, "n": 3, "max_tokens": 8, "logprobs": 1}
    (texts,) = yuyan.load(run).complete(["Anna found"], **settings)
    assert command("generate", str(run), "Anna found", "--temperature", "1.2", "-n", "3", "--max-tokens", "8") == 0
    assert capsys.readouterr().out == "".join(f"--- {i}\nAnna found{t.text}\n" for i, t in enumerate(texts, 1))
    words = ("--temperature", "1.2", "-n", "3", "--max-tokens", "8", "--set", "logprobs=1", "--json")
    assert command("generate", str(run), "Anna found", *words) == 0
    found = json.loads(capsys.readouterr().out)
    assert [text["ids"] for text in found] == [text.ids for text in texts]
    assert [text["logprobs"] for text in found] == [pytest.approx(text.logprobs) for text in texts]
    many = yuyan.load(run).complete([*PROMPTS, *PROMPTS], batch=2, **settings)
    assert [[t.ids for t in m] for m in many] == [[t.ids for t in m] for m in yuyan.load(run).complete([*PROMPTS, *PROMPTS], **settings)]  # fmt: skip


def test_a_draft_changes_no_greedy_token(run: Path, rung: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run drafts for itself; an n-gram model with other tokens, or as what is checked, is refused."""
    plain = yuyan.load(run).generate("Anna found", kind="greedy", max_tokens=16)
    words = ("--kind", "greedy", "--max-tokens", "16", "--no-echo", "--set")
    for speculation in (f"speculation={{kind: draft, path: {run}}}", "speculation={kind: prompt_lookup}"):
        capsys.readouterr()
        assert command("generate", str(run), "Anna found", *words, speculation) == 0
        assert capsys.readouterr().out == plain + "\n"
    refused(
        capsys,
        "generate",
        str(run),
        "An",
        "--set",
        f"speculation={{kind: draft, path: {rung}}}",
        said="has another tokenizer",
    )
    refused(
        capsys,
        "generate",
        str(rung),
        "An",
        "--set",
        "speculation={kind: prompt_lookup}",
        said="needs a decoder of attention",
    )
    refused(capsys, "generate", str(rung), "An", "--kind", "contrastive", said="an n-gram model has none")
    refused(capsys, "fill", str(run), "An ___", said="it reads from left to right only; use generate")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_report_says_what_evaluate_says(split: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (report,) = (run / "reports").glob("????????.json")
    reported = json.loads(report.read_text())[split]
    capsys.readouterr()
    assert command("evaluate", str(run), str(run / "data" / f"{split}.jsonl"), "--json") == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated.keys() == reported.keys()
    for key, value in evaluated.items():
        assert value == pytest.approx(reported[key], rel=1e-9), key


def test_the_report_of_a_rung_says_what_evaluate_says(rung: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reported = json.loads((rung / "rung.json").read_text())
    capsys.readouterr()
    text = rung.parents[1] / "data" / f"{reported['held_out']}.jsonl"
    assert command("evaluate", str(rung), str(text), "--json") == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["bits_per_byte"] == pytest.approx(reported["bits_per_byte"], rel=1e-9)
    assert evaluated["interval"] == pytest.approx(reported["interval"], rel=1e-9)


def test_the_last_look_is_the_report(run: Path) -> None:
    """While training all of the validation text was read too, in the format that training computes in."""
    looks = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines() if "validation" in line]
    (report,) = (run / "reports").glob("????????.json")
    best = min(look["validation"]["bits_per_byte"] for look in looks)
    assert json.loads(report.read_text())["validation"]["bits_per_byte"] == pytest.approx(best, rel=2e-3)


def test_the_number_of_threads_changes_no_greedy_token(run: Path) -> None:
    model, before = LanguageModel.load(run), torch.get_num_threads()
    try:
        texts = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            texts.append([model.generate(prompt, temperature=0, max_tokens=16) for prompt in PROMPTS])
    finally:
        torch.set_num_threads(before)
    assert texts[0] == texts[1]


# ---------------------------------------------------------------- transformers


def written_there(folder: Path, prompt: str) -> str:
    """What transformers writes greedily behind a prompt, called as everybody calls it."""
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(prompt, return_tensors="pt")
    (ids,) = model.generate(**tokens, max_new_tokens=16, do_sample=False)
    text: str = tokenizer.decode(ids[tokens["input_ids"].shape[1] :], skip_special_tokens=True)
    return text


def begins_alike(model: LanguageModel, folder: Path, prompt: str) -> bool:
    """Whether the tokens of a prompt are the same here and in transformers, the begin mark among them."""
    transformers = pytest.importorskip("transformers")
    asked = Writer(model.network, model.tokenizer, model.context).request(prompt, Greedy())
    return list(asked.prompt) == transformers.AutoTokenizer.from_pretrained(folder)(prompt)["input_ids"]


def strengthen(network: Any) -> None:
    """Weights that tell one beginning from another."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize("prompt", PROMPTS[:2])
def test_transformers_writes_the_same_behind_the_same_prompt(run: Path, prompt: str, tmp_path: Path) -> None:
    assert yuyan.load(run).generate(prompt, kind="greedy", max_tokens=16) == written_there(run / "model", prompt)
    model = yuyan.load(run)
    strengthen(model.network)
    model.save(tmp_path / "strong")
    assert begins_alike(model, tmp_path / "strong", prompt)
    assert model.generate(prompt, kind="greedy", max_tokens=16) == written_there(tmp_path / "strong", prompt) != ""


@pytest.mark.parametrize("prompt", PROMPTS[:2])
def test_a_published_tokenizer_without_a_begin_mark_gets_none(prompt: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    inner = tokenizers.Tokenizer(
        models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    inner.post_processor = processors.ByteLevel(trim_offsets=False)
    end = "<|endoftext|>"
    inner.add_special_tokens([AddedToken(end, special=True)])
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 256, "eos_token_id": 256}
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=end, eos_token=end).save_pretrained(tmp_path)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=257, **sizes))
    strengthen(theirs)
    theirs.save_pretrained(tmp_path)
    model = yuyan.load(tmp_path)
    assert begins_alike(model, tmp_path, prompt)
    assert model.generate(prompt, kind="greedy", max_tokens=16) == written_there(tmp_path, prompt) != ""
    assert model.generate("", kind="greedy", max_tokens=4), "an empty prompt begins with the mark"
