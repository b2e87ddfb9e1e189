"""Word vectors as the input embedding of an LSTM, of a GPT, and of one whose seams are spelled: taken, kept or trained on, resumed, refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from toy_runs import STORIES, command, refused

from yuyan.config import dump
from yuyan.models.presets import Gpt
from yuyan.tokens import load_tokenizer
from yuyan.vectors import Vectors, load_vectors, write_word2vec
from yuyan.vectors.table import table_for

WIDE, WORDS = 16, 60
TRAIN = (
    "train.steps=3", "train.context=16", "train.batch_tokens=64", "train.threads=1", "evaluate.tokens=200",
    "train.save_steps=2", "tokenizer.kind=word", f"tokenizer.vocab_size={WORDS}", "tokenizer.lowercase=true",
)  # fmt: skip
SIZE = {
    "network": (), "lstm": ("model.num_layers=1", "model.hidden_size=24", f"model.embedding_size={WIDE}"),
    "gpt": ("model.num_layers=1", f"model.hidden_size={WIDE}", "model.num_heads=2"),
}  # fmt: skip
GPT = Gpt(hidden_size=WIDE, num_heads=2, num_layers=1).network(WORDS)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors N(3, 0.1) for most words of the stories, so that they are known again."""
    words = sorted({word.strip(".,!?\"'").lower() for word in STORIES.read_text(encoding="utf-8").split()} - {""})[::2]
    draw = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("vectors") / "v.bin"
    write_word2vec(file, Vectors(words, draw.normal(3, 0.1, (len(words), WIDE)).astype(np.float32)))
    return file


def config(kind: str, vectors: Path, frozen: bool = False) -> None:
    """`run.yaml` beside a link of the vectors, which it names relative to itself."""
    Path("in").mkdir(exist_ok=True)
    Path("in/v.bin").write_bytes(vectors.read_bytes())
    told = f"{{from: v.bin, frozen: {str(frozen).lower()}}}"
    built = f", architecture: {json.dumps(dump(GPT))}" if kind == "network" else ""
    text = f"data: {{sources: ['{STORIES}'], documents: section, section_characters: 300}}\n"
    text += "tokenizer: {kind: word}\n" + f"model: {{kind: {kind}, embedding: {told}{built}}}\ntrain: {{}}\n"
    Path("in/run.yaml").write_text(text)


def embedding(folder: str) -> np.ndarray:
    tensors = load_file(next(Path(folder, "model").glob("*.safetensors")))
    shape = len(load_tokenizer(Path(folder, "model"))), WIDE
    return next(tensor for name, tensor in sorted(tensors.items()) if tensor.shape == shape)


@pytest.mark.parametrize("kind", ["network", "lstm", "gpt"])
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "tuned"])
def test_an_embedding_begins_as_vectors(
    kind: str, frozen: bool, vectors: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config(kind, vectors, frozen)
    assert command("train", "in/run.yaml", *TRAIN, *SIZE[kind], "--out", "run") == 0
    assert "tokens found" in capsys.readouterr().err
    tokenizer = load_tokenizer(Path("run/model"))
    wanted = table_for(tokenizer.vocabulary, load_vectors(vectors), tokenizer.pieces.control, 0).matrix
    made = embedding("run")
    if frozen:
        np.testing.assert_array_equal(made, wanted)
    else:
        assert 0 < np.abs(made - wanted).max() < 0.2 and abs(made.mean() - 3) < 0.1


def test_a_classifier_begins_with_vectors(vectors: Path, here: Path) -> None:
    known = load_vectors(vectors).words[:20]
    rows = [{"text": " ".join(known[i % 20 :][:3]), "label": "ab"[i % 2]} for i in range(30)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("run.yaml").write_text(
        "data: {sources: [rows.jsonl]}\ntokenizer: {kind: word, lowercase: true}\ntask: {kind: classify}\n"
        f"model: {{kind: bilstm, hidden_size: 8, embedding_size: {WIDE}, embedding: {{from: '{vectors}', frozen: true}}}}\n"
        "train: {steps: 2, context: 16, batch_tokens: 64, threads: 1}\n"
    )
    assert command("train", "run.yaml", "--out", "run") == 0
    tokenizer = load_tokenizer(Path("run/model"))
    wanted = table_for(tokenizer.vocabulary, load_vectors(vectors), tokenizer.pieces.control, 0).matrix
    np.testing.assert_array_equal(embedding("run"), wanted)


def test_a_run_goes_on_only_with_its_vectors(vectors: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config("network", vectors, frozen=True)
    words = ("train", "in/run.yaml", *TRAIN, *SIZE["network"], "--out", "run")
    assert command(*words) == 0
    assert "vectors" in json.loads(Path("run/made.json").read_text())
    assert command(*words, "--resume") == 0
    old = load_vectors(vectors)
    write_word2vec(here / "in" / "v.bin", Vectors(old.words, old.matrix + 1))
    refused(
        capsys,
        *words,
        "--resume",
        said=r"model\.embedding\.from: .*v\.bin: other vectors than those the run began with",
    )


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "other dimension": (("model.embedding_size=32",), r"v\.bin: vectors of 16 dimensions do not fit an embedding of 32; set .*to 16"),
    "pieces": (("tokenizer={kind: bpe, vocab_size: 300}",), r"cuts words into pieces \(bpe\).*tokenizer\.kind word"),
    "no file": (("model.embedding.from=nowhere",), "nowhere: no such file"),
    "typo": (("model.embedding.frozn=true",), r"model\.embedding\.frozn: unknown key; did you mean 'frozen'"),
    "another kind of model": (("model={kind: bert, embedding: {from: v.bin}}",), r"model\.embedding: unknown key"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_said(case: str, vectors: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config("lstm", vectors)
    words, said = BAD[case]
    capsys.readouterr()
    assert command("train", "in/run.yaml", *TRAIN, *SIZE["lstm"], *words, "--out", "run") == 2
    err = capsys.readouterr().err
    assert re.search(said, err), err


def test_a_gpt_of_another_width_is_told_which_key_to_set(
    vectors: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config("gpt", vectors)
    words = ("model.num_layers=1", "model.hidden_size=32", "model.num_heads=2")
    refused(
        capsys, "train", "in/run.yaml", *TRAIN, *words, "--out", "run", said=r"embedding of 32; .*model\.hidden_size"
    )


def test_tokens_without_a_vector_are_drawn_like_those_with_one() -> None:
    draw = np.random.default_rng(0)
    known = Vectors([f"w{i}" for i in range(500)], draw.normal([1, -2], [0.5, 2], (500, 2)).astype(np.float32))
    table = table_for(["<pad>", "w3", "W4", *(f"x{i}" for i in range(2000))], known, {0}, seed=1)
    assert (table.found, table.composed, len(table.drawn)) == (2, 0, 2001)
    assert (table.matrix[1] == known.matrix[3]).all() and (table.matrix[2] == known.matrix[4]).all()
    np.testing.assert_allclose(table.matrix[3:].mean(axis=0), [1, -2], atol=0.2)
    np.testing.assert_allclose(table.matrix[3:].std(axis=0), [0.5, 2], rtol=0.1)
