"""One side of `bench/train.py`: a process that trains as it is told to, a stretch of steps at a time.

`python bench/sides/training.py FOLDER SIDE` reads the model, the batches and the settings in FOLDER, takes a few steps that do
not count, and then, for each line on standard input, a stretch of steps; it answers each with one JSON line of the time and
the losses. Each side has the settings that its users would have: the thread count and the allocator are the caller's.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if "ours" in sys.argv[-1]:
    import yuyan  # noqa: F401  # before torch: it chooses how threads wait

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Batch = dict[str, Tensor]
IGNORE = -100
LR, BETAS, CLIP = 3e-4, (0.9, 0.95), 1.0


class Gate:
    """Between steps: waits for the next order when a stretch is done, and answers with what it took."""

    def __init__(self, settings: dict[str, Any], answers: Any):
        self.settings, self.answers, self.losses = settings, answers, list[float]()
        self.left, self.started = settings["warm"], (time.perf_counter(), time.process_time())

    def step(self, loss: float) -> bool:
        """After each step; False when there is nothing more to do."""
        self.losses.append(loss)
        self.left -= 1
        if self.left:
            return True
        wall, processor = time.perf_counter() - self.started[0], time.process_time() - self.started[1]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer = {"seconds": wall, "processor_seconds": processor, "losses": self.losses, "peak_bytes": peak}
        print(json.dumps(answer), file=self.answers, flush=True)
        self.left, self.losses = self.settings["stretch"], []
        if sys.stdin.readline().strip() != "go":
            return False
        self.started = time.perf_counter(), time.process_time()
        return True


# ---------------------------------------------------------------- ours


def ours(folder: Path, settings: dict[str, Any], gate: Gate) -> None:
    """A run's own parts: packed rows, the objective's examples, the data thread, float32 masters, the step."""
    from yuyan.commands.settings import TrainConfig
    from yuyan.corpus import Batches, Packed, Shards
    from yuyan.hub import read_model
    from yuyan.models.network import Network
    from yuyan.objectives import MaskedToken, NextToken, SpanCorruption, collate
    from yuyan.tokens import load_tokenizer
    from yuyan.train import AdamW, Learner, MasterWeights, PlainStep, Plan, State, parameter_kinds, train
    from yuyan.train.allocator import keep_freed_memory
    from yuyan.train.schedule import Constant

    keep_freed_memory()
    if (folder / "network.json").exists():
        model = Network.model_validate_json((folder / "network.json").read_text()).build()
        model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    else:
        model = read_model(folder / "hf")
    tokenizer, kinds = load_tokenizer(folder / "tokenizer"), (NextToken(), MaskedToken(), SpanCorruption())
    objective = next(kind for kind in kinds if kind.kind == settings["objective"]).build(tokenizer)
    dtype = torch.float32 if "float32" in settings["side"] else torch.bfloat16
    rows = Packed(Shards.open(folder / "shards"), settings["length"], seed=0, bos=tokenizer.special.bos,
                  eos=tokenizer.special.eos)  # fmt: skip
    batches = Batches(rows, batch_rows=settings["rows"], example=objective.example, collate=collate, seed=0)
    learner = Learner(model, objective)
    kinds_of = {  # the peers know no smaller rate for the queries of unscaled attention (T5), so that here all have one rate
        name: kind._replace(scale=1.0) for name, kind in parameter_kinds(learner).items()
    }
    weights = MasterWeights(learner, dtype)
    adamw = AdamW(lr=LR, beta1=BETAS[0], beta2=BETAS[1], weight_decay=0.0)
    state = State(learner, weights, adamw.build(weights.masters, kinds_of), batches)
    assert TrainConfig.model_fields["clip"].default == CLIP
    for update in train(state, batches, PlainStep(Plan(steps=10**9), Constant(warmup=0.0), clip=CLIP)):
        if not gate.step(update.loss):
            return


# ---------------------------------------------------------------- peers


def mean_loss(scores: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)


class PlainGpt(nn.Module):
    """GPT-2 as a plain loop writes it: one fused kernel for attention, one linear layer for queries, keys and values."""

    def __init__(self, source: Any):
        super().__init__()
        self.heads, self.source = source.config.n_head, source.transformer

    def forward(self, input_ids: Tensor, labels: Tensor) -> Tensor:
        model = self.source
        x = model.wte(input_ids) + model.wpe(torch.arange(input_ids.shape[1]))
        for block in model.h:
            query, key, value = (
                part.unflatten(2, (self.heads, -1)).transpose(1, 2)
                for part in linear(block.attn.c_attn, block.ln_1(x)).chunk(3, -1)
            )
            seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + linear(block.attn.c_proj, seen.transpose(1, 2).flatten(2))
            x = x + linear(block.mlp.c_proj, F.gelu(linear(block.mlp.c_fc, block.ln_2(x)), approximate="tanh"))
        return mean_loss(F.linear(model.ln_f(x), model.wte.weight), labels)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


class PlainLstm(nn.Module):
    """An LSTM with tied embeddings."""

    def __init__(self, size: int, vocab_size: int, layers: int, weights: dict[str, Tensor]):
        super().__init__()
        self.token, self.cell = nn.Embedding(vocab_size, size), nn.LSTM(size, size, layers, batch_first=True)
        self.token.weight.data.copy_(weights["embedding.token.weight"])
        self.cell.load_state_dict({key.removeprefix("decoder.cell."): value for key, value in weights.items()
                                   if key.startswith("decoder.cell.")})  # fmt: skip

    def forward(self, input_ids: Tensor, labels: Tensor) -> Tensor:
        return mean_loss(F.linear(self.cell(self.token(input_ids))[0], self.token.weight), labels)


class Theirs(nn.Module):
    """A model of transformers, with its loss for labels that are already in their place."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, labels: Tensor, **inputs: Tensor) -> Tensor:
        cache = {} if self.model.config.model_type == "bert" else {"use_cache": False}
        return mean_loss(self.model(**inputs, **cache).logits, labels)


class WithLoss(nn.Module):
    """What `Trainer` expects: a mapping with the loss."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, num_items_in_batch: object = None, **batch: Tensor) -> dict[str, Tensor]:
        return {"loss": self.inner(**batch)}


def pretrained(folder: Path) -> Any:
    import transformers

    name = json.loads((folder / "hf" / "config.json").read_text())["architectures"][0]
    return getattr(transformers, name).from_pretrained(folder / "hf").train()


def plain_model(folder: Path, settings: dict[str, Any], *, own: bool) -> nn.Module:
    if (folder / "network.json").exists():
        return PlainLstm(*settings["lstm"], torch.load(folder / "weights.pt", weights_only=True))
    model = pretrained(folder)
    if not (own and model.config.model_type == "gpt2"):
        return Theirs(model)
    for module in list(model.modules()):  # transformers' Conv1D keeps its weights turned
        for name, child in list(module.named_children()):
            if type(child).__name__ == "Conv1D":
                turned = nn.Linear(*child.weight.shape)
                turned.weight.data, turned.bias.data = child.weight.data.t().contiguous(), child.bias.data
                setattr(module, name, turned)
    return PlainGpt(model)


def loop(folder: Path, settings: dict[str, Any], gate: Gate) -> None:
    """The plain loop, as nanoGPT has it: autocast, fused AdamW, clipping; compiled if asked."""
    model = plain_model(folder, settings, own=True)
    run_loop(model, settings, gate, read_batches(folder))


def litgpt(folder: Path, settings: dict[str, Any], gate: Gate) -> None:
    """litgpt's model of the same sizes (its own layout and first weights: the loss is another) in its kind of loop."""
    from litgpt.config import Config
    from litgpt.model import GPT

    config = json.loads((folder / "hf" / "config.json").read_text())
    model = GPT(Config(
        block_size=config["n_positions"], vocab_size=config["vocab_size"], padded_vocab_size=config["vocab_size"],
        n_layer=config["n_layer"], n_head=config["n_head"], n_embd=config["n_embd"], rotary_percentage=1.0,
        parallel_residual=False, bias=True, norm_class_name="LayerNorm", mlp_class_name="GptNeoxMLP", gelu_approximate="tanh",
        intermediate_size=4 * config["n_embd"],
    ))  # fmt: skip
    model.lm_head.weight = model.transformer.wte.weight

    class Scored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Tensor, labels: Tensor) -> Tensor:
            return mean_loss(self.model(input_ids), labels)

    run_loop(Scored(), settings, gate, read_batches(folder))


def run_loop(model: nn.Module, settings: dict[str, Any], gate: Gate, batches: Iterator[Batch]) -> None:
    side = settings["side"]
    compute: Callable[..., Tensor] = torch.compile(model) if "compiled" in side else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=BETAS, weight_decay=0.0, fused=True)
    for batch in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in side):
            loss = compute(**batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if not gate.step(float(loss.detach())):
            return


def trainer(folder: Path, settings: dict[str, Any], gate: Gate) -> None:
    """`transformers.Trainer` with its default optimizer, without logs and checkpoints."""
    import tempfile

    import transformers
    from torch.utils.data import IterableDataset

    rows, last = settings["rows"], [0.0]

    class Rows(IterableDataset[Batch]):
        def __iter__(self) -> Iterator[Batch]:
            for batch in read_batches(folder):
                for row in range(rows):
                    yield {key: value[row] for key, value in batch.items()}

    class Listening(transformers.Trainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            last[0] = float(loss.detach())
            return loss

    class Stretch(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if not gate.step(last[0]):
                control.should_training_stop = True

    with tempfile.TemporaryDirectory() as output:
        arguments = transformers.TrainingArguments(
            output_dir=output, per_device_train_batch_size=rows, max_steps=10**6, learning_rate=LR,
            adam_beta1=BETAS[0], adam_beta2=BETAS[1], max_grad_norm=CLIP, lr_scheduler_type="constant", use_cpu=True,
            bf16="bfloat16" in settings["side"], logging_strategy="no", save_strategy="no", report_to="none", disable_tqdm=True,
            remove_unused_columns=False,
        )  # fmt: skip
        model = WithLoss(plain_model(folder, settings, own=False))
        Listening(model=model, args=arguments, train_dataset=Rows(), callbacks=[Stretch()]).train()


def read_batches(folder: Path) -> Iterator[Batch]:
    """The batches that ours makes, made before: a peer's own data pipeline is not measured."""
    batches = torch.load(folder / "batches.pt", weights_only=True)
    while True:
        yield from batches


# ---------------------------------------------------------------- what the machine could do


def peak(settings: dict[str, Any], answers: Any) -> None:
    """Operations a second of matrix products of 2048 x 2048, best of some."""
    found = {}
    for dtype in (torch.bfloat16, torch.float32):
        left, right = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
        seconds = []
        for _ in range(9 if dtype == torch.bfloat16 else 5):
            started = time.perf_counter()
            left @ right
            seconds.append(time.perf_counter() - started)
        found[str(dtype).removeprefix("torch.")] = 2 * 2048**3 / min(seconds)
    print(json.dumps(found), file=answers, flush=True)


SIDES: dict[str, Callable[[Path, dict[str, Any], Gate], None]] = {
    "ours": ours, "loop": loop, "trainer": trainer, "litgpt": litgpt,
}  # fmt: skip


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    folder, side = Path(sys.argv[1]), sys.argv[2]
    settings = json.loads((folder / "settings.json").read_text()) | {"side": side}
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    if side == "peak":
        peak(settings, answers)
        return
    SIDES[side.split()[0]](folder, settings, Gate(settings, answers))


if __name__ == "__main__":
    main()
