"""One side of `bench/generate.py`: a process that opens a model with one engine, continues prompts, and says how fast.

`python bench/sides/generating.py '[ENGINE, FOLDER, PRECISION, THREADS, BATCHES, QUICK]'` prints one line, RESULT and JSON. Every
engine reads token ids and continues them greedily, whatever its end marks are.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROMPT = 32
Generate = Callable[[list[list[int]], int], list[list[int]]]


def new_tokens(batch: int, quick: bool) -> int:
    return (16 if quick else 64) if batch == 1 else (8 if quick else 24)


def yuyan(folder: Path, precision: str, threads: int, most: int) -> tuple[Generate, float]:
    import torch

    from yuyan.generate import Engine, Greedy, Request
    from yuyan.tasks.language_model import LanguageModel
    from yuyan.tasks.writing import completions

    torch.set_num_threads(threads)
    model = LanguageModel.load(folder / "model", weights=precision)
    assert model.packed is not None

    def generate(prompts: list[list[int]], count: int) -> list[list[int]]:
        engine = Engine(model.writer()._forward(), model.tokenizer, ends=frozenset(), context=model.context)
        requests = [Request(prompt, Greedy(max_tokens=count)) for prompt in prompts]
        found = dict(completions(engine, requests, len(prompts)))
        return [found[place][0].ids for place in range(len(prompts))]

    return generate, model.packed.read_bytes


def transformers(folder: Path, precision: str, threads: int, most: int) -> tuple[Generate, float]:
    import torch
    import transformers as library

    torch.set_num_threads(threads)
    library.logging.set_verbosity_error()
    model = library.AutoModelForCausalLM.from_pretrained(folder / "model", dtype=getattr(torch, precision)).eval()
    size = vocabulary(folder)

    def generate(prompts: list[list[int]], count: int) -> list[list[int]]:
        ids = torch.tensor(prompts)
        with torch.no_grad():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count, do_sample=False,
                pad_token_id=0, suppress_tokens=None if size >= model.config.vocab_size else list(range(size, model.config.vocab_size)),
            )  # fmt: skip
        found: list[list[int]] = out[:, PROMPT:].tolist()
        return found

    return generate, 0.0


def ctranslate2(folder: Path, precision: str, threads: int, most: int) -> tuple[Generate, float]:
    import ctranslate2 as library

    names = json.loads((folder / "vocabulary.json").read_text())
    engine = library.Generator(
        str(folder / "ctranslate2"), device="cpu", compute_type=precision, inter_threads=1, intra_threads=threads
    )

    def generate(prompts: list[list[int]], count: int) -> list[list[int]]:
        texts = [[names[i] for i in prompt] for prompt in prompts]
        made = engine.generate_batch(
            texts, max_length=count, min_length=count, sampling_topk=1, beam_size=1, end_token=[],
            include_prompt_in_result=False, max_batch_size=len(texts),
        )  # fmt: skip
        return [result.sequences_ids[0] for result in made]

    return generate, 0.0


def llama_cpp(folder: Path, precision: str, threads: int, most: int) -> tuple[Generate, float]:
    import xllamacpp as library

    settings = library.CommonParams()
    settings.model.path = str(folder / f"gguf-{precision}" / "model.gguf")
    settings.n_ctx, settings.n_parallel, settings.warmup, settings.verbosity = 128 * most, most, False, -1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    server = library.Server(settings)

    def generate(prompts: list[list[int]], count: int) -> list[list[int]]:
        asked = {"prompt": prompts if len(prompts) > 1 else prompts[0], "n_predict": count, "temperature": 0.0,
                 "cache_prompt": False, "ignore_eos": True}  # fmt: skip
        answer = server.handle_completions(asked)
        assert len(answer["choices"]) == len(prompts), answer
        return []

    return generate, 0.0


def onnxruntime_genai(folder: Path, precision: str, threads: int, most: int) -> tuple[Generate, float]:
    import numpy as np
    import onnxruntime_genai as library

    place = folder / f"genai-{precision}"
    settings = json.loads((place / "genai_config.json").read_text())
    settings["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    (place / "genai_config.json").write_text(json.dumps(settings))
    model = library.Model(str(place))

    def generate(prompts: list[list[int]], count: int) -> list[list[int]]:
        parameters = library.GeneratorParams(model)
        parameters.set_search_options(
            max_length=PROMPT + count, min_length=PROMPT + count, do_sample=False, batch_size=len(prompts)
        )
        generator = library.Generator(model, parameters)
        generator.append_tokens(np.array(prompts, dtype=np.int32))
        for _ in range(count):
            generator.generate_next_token()
        return [[int(i) for i in generator.get_sequence(row)[PROMPT:]] for row in range(len(prompts))]

    return generate, 0.0


def openvino_genai(folder: Path, precision: str, threads: int, most: int) -> tuple[Generate, float]:
    import numpy as np
    import openvino
    import openvino_genai as library

    exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"} if precision == "float32" else {}
    place = (
        folder / f"openvino-{precision}"
    )  # it computes in bfloat16, and keeps keys and values in 8 bits, if not told
    engine = library.LLMPipeline(str(place), "CPU", INFERENCE_NUM_THREADS=threads, **exact)

    def generate(prompts: list[list[int]], count: int) -> list[list[int]]:
        settings = library.GenerationConfig()
        settings.max_new_tokens = settings.min_new_tokens = count
        settings.ignore_eos = True
        ids = openvino.Tensor(np.array(prompts, dtype=np.int64))
        mask = openvino.Tensor(np.ones((len(prompts), PROMPT), dtype=np.int64))
        found = engine.generate(library.TokenizedInputs(ids, mask), settings)
        return [list(tokens) for tokens in found.tokens]

    return generate, 0.0


ENGINES = {
    "yuyan": yuyan, "transformers": transformers, "ctranslate2": ctranslate2, "llama.cpp": llama_cpp,
    "onnxruntime-genai": onnxruntime_genai, "openvino-genai": openvino_genai,
}  # fmt: skip


def vocabulary(folder: Path) -> int:
    """How many tokens the tokenizer has."""
    return len(json.loads((folder / "vocabulary.json").read_text()))


def prompts_of(folder: Path, batch: int, turn: int) -> list[list[int]]:
    """New ones in every turn: an engine that keeps what it has read would not read them again."""
    import numpy as np

    drawn = np.random.default_rng((batch, turn)).integers(100, vocabulary(folder), (batch, PROMPT))
    found: list[list[int]] = drawn.tolist()
    return found


def child(system: str, folder: Path, precision: str, threads: int, batches: list[int], quick: bool) -> None:
    """Measure one engine, and print what came of it as JSON."""
    generate, read = ENGINES[system](folder, precision, threads, max(batches))
    rows = []
    for batch in batches:
        count = new_tokens(batch, quick)
        walls, processors, tokens = [], [], []
        for turn in range(2 if quick else 3):
            prompts = prompts_of(folder, batch, turn)
            wall, processor = time.perf_counter(), time.process_time()
            tokens = generate(prompts, count)
            if turn:
                walls.append(time.perf_counter() - wall)
                processors.append(time.process_time() - processor)
        made = batch * count
        rows.append({"batch": batch, "wall": made / statistics.median(walls), "cpu": made / statistics.median(processors),
                     "tokens": tokens})  # fmt: skip
    status = Path("/proc/self/status")  # elsewhere only what it shares with the process that began it can be asked
    lines = [line.split() for line in status.read_text().splitlines()] if status.exists() else []
    memory = (
        next(
            (int(line[1]) for line in lines if line[0] == "VmHWM:"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        )
        * 1024
    )
    print("RESULT " + json.dumps({"rows": rows, "memory": memory, "read": read}))


if __name__ == "__main__":
    system, folder, *rest = json.loads(sys.argv[1])
    child(system, Path(folder), *rest)
