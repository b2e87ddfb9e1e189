"""Generation on a CPU against the specialised engines: `python bench/generate.py [--quick] [--only llama] [--threads 1]`.

GPT-2 small and a Llama of 110 M weights, drawn at random and the same on all sides; every engine continues the same prompts
of 32 tokens greedily, by 64 tokens for one prompt and by 24 for batches of 8 and 32, reading of the prompts included. Ours
opens the model folder; the peers get what `yuyan export` writes, or their own converter (OPTIMUM names a folder with
optimum-intel, for OpenVINO's GPT-2). Each engine has a process of its own, one after the other; a figure is the median of
two turns after one that does not count, each with prompts of its own. `share` is bytes of weights read for a token of one
prompt, times tokens a second, of what the machine reads (measured first); `cpu` is tokens for a second of processor time,
which a busy machine disturbs less. `same` is how many of the tokens are those of
transformers in float32 before the first that differs. The last line is JSON; a peer that is not installed or cannot
carry a model is named.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

BATCHES = (1, 8, 32)
Row = dict[str, Any]
BITS = {"float32": 32, "bfloat16": 16, "float16": 16, "int8": 8, "int4": 4}
SYSTEMS = {
    "yuyan": ("float32", "bfloat16", "int8", "int4"),
    "transformers": ("float32", "bfloat16"),
    "ctranslate2": ("float32", "int8"),
    "llama.cpp": ("float32", "bfloat16", "int8", "int4"),
    "onnxruntime-genai": ("float32", "int8", "int4"),
    "openvino-genai": ("float32", "float16", "int8", "int4"),
}


# ---------------------------------------------------------------- the models, for everyone


def make_model(name: str, folder: Path, quick: bool) -> None:
    """Random weights, in our folder."""
    import torch
    import transformers as library

    from yuyan.hub import read_model
    from yuyan.tasks.language_model import LanguageModel
    from yuyan.tokens import load_tokenizer, train_tokenizer
    from yuyan.tokens.train import BytePairConfig

    layers = 2 if quick else 12
    torch.manual_seed(0)
    if name == "gpt2":
        made: Any = library.GPT2LMHeadModel(library.GPT2Config(n_layer=layers))
    else:
        made = library.LlamaForCausalLM(
            library.LlamaConfig(
                vocab_size=32000, hidden_size=768, intermediate_size=2048, num_hidden_layers=layers,
                num_attention_heads=12, num_key_value_heads=12, max_position_embeddings=1024, tie_word_embeddings=True,
            )
        )  # fmt: skip
    made.save_pretrained(folder / "drawn")
    texts = [path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("*.py") if path.is_file()]
    train_tokenizer(texts, BytePairConfig(vocab_size=8192)).save(folder / "drawn")
    path = folder / "drawn" / "tokenizer.json"  # what the text does not fill is filled with names that no text has
    content = json.loads(path.read_text(encoding="utf-8"))
    names = content["model"]["vocab"]
    names |= {token["content"]: token["id"] for token in content["added_tokens"]}  # else they move behind the others
    names |= {f"[spare{i}]": i for i in range(1 + max(names.values()), made.config.vocab_size)}
    path.write_text(json.dumps(content), encoding="utf-8")
    tokenizer = load_tokenizer(folder / "drawn")
    assert len(set(tokenizer.vocabulary)) == len(tokenizer) == made.config.vocab_size
    LanguageModel(read_model(folder / "drawn"), tokenizer, 1024).save(folder / "model")
    (folder / "vocabulary.json").write_text(json.dumps(list(tokenizer.vocabulary)))


def convert(system: str, precision: str, name: str, folder: Path) -> None:
    """What a peer needs. Raises whatever its converter does."""
    from yuyan.export import export_model
    from yuyan.tasks.language_model import LanguageModel

    if system in ("yuyan", "transformers"):
        return
    model = LanguageModel.load(folder / "model")
    if system == "ctranslate2" and not (folder / "ctranslate2").exists():
        export_model(model, "ctranslate2", folder / "ctranslate2", name=name, check=False)
    if system == "llama.cpp" and not (folder / f"gguf-{precision}").exists():
        with quantising(precision):
            export_model(model, "gguf", folder / f"gguf-{precision}", name=name, check=False)
    if system == "openvino-genai" and not (folder / f"openvino-{precision}").exists():
        convert_for_openvino(precision, name, folder, model)
    if system == "onnxruntime-genai":
        if name != "llama":
            raise ValueError("its builder does not carry GPT-2")
        if (folder / f"genai-{precision}").exists():
            return
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(folder / "model"), "-o",
                   str(folder / f"genai-{precision}"), "-p", {"float32": "fp32"}.get(precision, precision), "-e", "cpu",
                   "-c", str(folder / "cache")]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"its builder fails: {done.stderr.strip().splitlines()[-1]}")


OPTIMUM = """
import sys
from optimum.exporters.openvino import main_export
main_export(sys.argv[1], sys.argv[2], task="text-generation-with-past", library_name="transformers", convert_tokenizer=False)
"""


def convert_for_openvino(precision: str, name: str, folder: Path, model: Any) -> None:
    """A Llama from GGUF, which it runs faster; GPT-2, which it cannot read so, by optimum-intel; fewer bits by nncf."""
    from yuyan.export import export_model

    whole = folder / ("openvino-float32" if name == "gpt2" else "openvino-float16")  # it reads no GGUF of float32
    if not whole.exists() and name == "gpt2":
        place = os.environ.get("OPTIMUM")
        if place is None:
            raise ValueError("only optimum-intel converts GPT-2: name the folder that has it (OPTIMUM)")
        environment = {**os.environ, "PYTHONPATH": place, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-c", OPTIMUM, str(folder / "model"), str(whole)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise ValueError(f"optimum-intel fails: {done.stderr.strip().splitlines()[-1]}")
    elif not whole.exists():
        import openvino_genai

        with quantising("float16"):
            export_model(model, "gguf", whole, name=name, check=False)
        openvino_genai.LLMPipeline(str(whole / "model.gguf"), "CPU", enable_save_ov_model=True)
    if precision in ("int8", "int4"):
        import nncf
        import openvino

        asked = {"int8": {"mode": nncf.CompressWeightsMode.INT8_SYM},
                 "int4": {"mode": nncf.CompressWeightsMode.INT4_SYM, "group_size": 32, "ratio": 1.0}}  # fmt: skip
        made = nncf.compress_weights(openvino.Core().read_model(whole / "openvino_model.xml"), **asked[precision])
        shutil.copytree(
            whole, folder / f"openvino-{precision}", ignore=shutil.ignore_patterns("openvino_model.*", "*.gguf")
        )
        openvino.save_model(made, folder / f"openvino-{precision}" / "openvino_model.xml")
    elif whole.name != f"openvino-{precision}":
        (folder / f"openvino-{precision}").symlink_to(whole.name)  # it computes in another precision


def quantising(precision: str) -> Any:
    """While this lasts, GGUF files get matrices in another precision: the quantisers of the package `gguf`."""
    import gguf
    import numpy as np

    kinds = {"bfloat16": "BF16", "float16": "F16", "int8": "Q8_0", "int4": "Q4_0", "float32": "F32"}
    kind, add = gguf.GGMLQuantizationType[kinds[precision]], gguf.GGUFWriter.add_tensor

    def add_tensor(self: Any, name: str, tensor: Any, **more: Any) -> None:
        if tensor.ndim < 2 or precision == "float32" or "position" in name:
            add(self, name, tensor, **more)
        else:
            add(self, name, gguf.quants.quantize(np.ascontiguousarray(tensor), kind), raw_dtype=kind)

    return mock.patch.object(gguf.GGUFWriter, "add_tensor", add_tensor)


def bandwidth(threads: int) -> float:
    """Bytes a second that summing a large vector reads; the best of some."""
    import torch

    torch.set_num_threads(threads)
    x, best = torch.ones(1 << 27), 9.0
    for _ in range(5):
        start = time.perf_counter()
        x.sum()
        best = min(best, time.perf_counter() - start)
    return x.nbytes / best


# ---------------------------------------------------------------- quality


def quality(path: Path, text: Path, quick: bool) -> list[Row]:
    """Bits a byte of a text under a trained model, with its weights as they are and with fewer bits."""
    import torch

    from yuyan.generate import PlainForward
    from yuyan.generate.fast import FastForward
    from yuyan.generate.forward import Feed, Forward
    from yuyan.tasks.language_model import LanguageModel

    content = text.read_text(encoding="utf-8")[: 20_000 if quick else 400_000]
    found: list[Row] = []
    settings: list[Any] = [
        None,
        "float32",
        "bfloat16",
        *({"kind": k, "group": g} for k in ("int8", "int4") for g in (128, 64, 32)),
    ]
    for weights in settings:
        model = LanguageModel.load(path, weights=weights)
        ids, bos, width = model.tokenizer.encode(content), model.tokenizer.special.bos, (model.context or 256) - 1
        bits, began = 0.0, time.perf_counter()
        with torch.no_grad():
            for at in range(0, len(ids), 8 * width):
                texts = [ids[start : start + width] for start in range(at, min(at + 8 * width, len(ids)), width)]
                forward: Forward = PlainForward(model.network) if model.packed is None else FastForward(model.packed)
                rows = forward.feed([Feed([bos or 0, *piece]) for piece in texts])
                for piece, hidden in zip(texts, rows, strict=True):
                    logs = forward.score(hidden[: len(piece)]).log_softmax(-1)
                    bits -= float(logs[torch.arange(len(piece)), torch.tensor(piece)].sum()) / 0.6931471805599453
        name = (
            "as stored"
            if weights is None
            else weights
            if isinstance(weights, str)
            else f"{weights['kind']}, groups of {weights['group']}"
        )
        size = (
            model.packed.read_bytes
            if model.packed
            else sum(p.numel() * p.element_size() for p in model.network.parameters())
        )  # type: ignore[union-attr]
        value = bits / len(content.encode())
        lost = value - found[0]["ours"] if found else 0.0
        found.append({"name": f"quality, {name}", "unit": "bits/byte", "ours": value, "peer": "as stored", "peer_value": found[0]["ours"] if found else value,
                      "ratio": value / found[0]["ours"] if found else 1.0, "lost": lost, "bytes": size})  # fmt: skip
        print(
            f"| {name} | {value:.4f} | {lost:+.4f} | {size / 2**20:.1f} | {time.perf_counter() - began:.0f} s",
            flush=True,
        )
    return found


# ---------------------------------------------------------------- all together


def run_child(system: str, folder: Path, precision: str, threads: int, batches: list[int], quick: bool) -> Row:
    command = [
        sys.executable,
        str(Path(__file__).parent / "sides" / "generating.py"),
        json.dumps([system, str(folder), precision, threads, batches, quick]),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            found: Row = json.loads(line.removeprefix("RESULT "))
            return found
    raise ValueError((done.stderr.strip() or f"it ended with {done.returncode}").splitlines()[-1][:200])


def same(ours: list[list[int]], theirs: list[list[int]]) -> float | None:
    """The share of tokens before the first that differs."""
    if not ours or not theirs or not ours[0] or not theirs[0]:
        return None
    counts = [
        next((n for n, (a, b) in enumerate(zip(x, y, strict=False)) if a != b), len(y))
        for x, y in zip(ours, theirs, strict=False)
    ]
    return sum(counts) / sum(map(len, theirs))


def measure(name: str, folder: Path, threads: int, settings: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    limit, bits = bandwidth(threads), [BITS[each] for each in settings.precision or BITS]
    print(f"{name}, {threads} threads: the machine reads {limit / 1e9:.1f} GB/s", flush=True)
    batches = [batch for batch in BATCHES if not settings.quick or batch < 32]
    for system, precisions in SYSTEMS.items():
        for precision in precisions:
            if system not in (settings.system or SYSTEMS) or BITS[precision] not in bits:
                continue
            try:
                convert(system, precision, name, folder)
                found = run_child(system, folder, precision, threads, batches, settings.quick)
            except (ValueError, ImportError, OSError, RuntimeError) as error:
                print(f"{name}, {system} {precision}: not measured: {error}", flush=True)
                continue
            for each in found["rows"]:
                rows.append({"model": name, "threads": threads, "system": system, "precision": precision,
                             "memory": found["memory"], "read": found["read"], "limit": limit, **each})  # fmt: skip
                share = (
                    f"  share {found['read'] * each['wall'] / limit:4.0%}"
                    if found["read"] and each["batch"] == 1
                    else ""
                )
                print(f"{name:6} {threads} threads  batch {each['batch']:2}  {system:18} {precision:9}"
                      f" {each['wall']:7.0f} tokens/s  {each['cpu']:7.0f} cpu  {found['memory'] / 2**20:6.0f} MiB{share}", flush=True)  # fmt: skip
    return rows


def compared(rows: list[Row]) -> list[Row]:
    """Ours beside the best peer with as many bits (float16 counts as bfloat16)."""
    found = []
    for row in (row for row in rows if row["system"] == "yuyan"):
        alike = [r for r in rows if r["system"] != "yuyan" and BITS[r["precision"]] == BITS[row["precision"]]
                 and all(r[key] == row[key] for key in ("model", "threads", "batch"))]  # fmt: skip
        reference = [r for r in rows if r["system"] == "transformers" and r["precision"] == "float32"
                     and all(r[key] == row[key] for key in ("model", "threads", "batch"))]  # fmt: skip
        best = max(alike, key=lambda r: r["wall"], default=None)
        found.append({
            "name": f"{row['model']}, {row['precision']}, batch {row['batch']}, {row['threads']} threads", "unit": "tokens/s",
            "ours": row["wall"], "peer": best and best["system"], "peer_value": best and best["wall"],
            "ratio": best and row["wall"] / best["wall"], "ours_cpu": row["cpu"],
            "peer_cpu": max((r["cpu"] for r in alike), default=None),
            "share": row["read"] * row["wall"] / row["limit"] if row["batch"] == 1 else None, "memory": row["memory"],
            "peer_memory": best and best["memory"],
            "equal_output": same(row["tokens"], reference[0]["tokens"]) if reference else None,
        })  # fmt: skip
    return found


def report(found: list[Row]) -> None:
    """The table of docs/performance.md."""
    print(
        "\n| model | weights | threads | batch | ours, tokens/s | best peer at as many bits | ratio | of the bandwidth | MiB, ours / theirs | same tokens |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in found:
        model, precision, batch, threads = row["name"].split(", ")
        peer = f"{row['peer']} {row['peer_value']:,.0f}" if row["peer"] else "none"
        ratio = f"**{row['ratio']:.2f}**" if row["ratio"] else ""
        share = f"{row['share']:.0%}" if row["share"] else ""
        memory = f"{row['memory'] / 2**20:,.0f}" + (
            f" / {row['peer_memory'] / 2**20:,.0f}" if row["peer_memory"] else ""
        )
        equal = "" if row["equal_output"] is None else f"{row['equal_output']:.0%}"
        print(
            f"| {model} | {precision} | {threads.split()[0]} | {batch.split()[1]} | {row['ours']:,.0f} | {peer} | {ratio} | {share} | {memory} | {equal} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two layers, fewer tokens, batches of 1 and 8, one turn")
    parser.add_argument("--only", choices=("gpt2", "llama"), help="one of the models")
    parser.add_argument("--system", action="append", help="only this engine; may be given again")
    parser.add_argument("--precision", action="append", choices=BITS, help="only so many bits; may be given again")
    parser.add_argument("--threads", type=int, action="append", help="by default 1, and 2 where there are two cores")
    parser.add_argument("--keep", type=Path, help="a folder for models and conversions, used again if it is there")
    parser.add_argument(
        "--quality", nargs=2, type=Path, metavar=("MODEL", "TEXT"), help="instead: bits a byte of a text"
    )
    settings = parser.parse_args()
    if settings.quality:
        print(json.dumps({"bench": "generate", "rows": quality(*settings.quality, settings.quick)}))
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = settings.threads or [count for count in (1, 2) if count <= cores]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in (settings.only,) if settings.only else ("gpt2", "llama"):
            folder = (settings.keep or Path(temporary)) / name
            if not (folder / "model").exists():
                folder.mkdir(parents=True)
                make_model(name, folder, settings.quick)
            for count in threads:
                rows += measure(name, folder, count, settings)
    found = compared(rows)
    report(found)
    print(json.dumps({"bench": "generate", "rows": found}))


if __name__ == "__main__":
    main()
