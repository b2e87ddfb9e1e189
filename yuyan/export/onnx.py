"""ONNX, by PyTorch's own exporter, checked with onnxruntime.

A decoder reads `input_ids` and gives `logits`; batches are padded on the right, where padding changes nothing. An encoder
reads `attention_mask` too and gives `logits` of its labels, or else `last_hidden_state`; with both sides
`decoder_input_ids` are read as well. Batch and lengths are free, up to the context.

B texts, S and T tokens, V vocabulary, D hidden size.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from yuyan.errors import InputError
from yuyan.export.parity import Case, Gives, writes, written_by_reading
from yuyan.export.runtime import package
from yuyan.models.network import NetworkModule
from yuyan.nn.head import LabelHead
from yuyan.nn.position import RotaryPosition
from yuyan.tasks.language_model import LanguageModel

FILE = "model.onnx"
LONGEST = 4096  # of a graph whose model has no limit of its own


class _Decoder(nn.Module):
    def __init__(self, network: NetworkModule):
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.network.score(self.network.read(input_ids))


class _Encoder(nn.Module):
    def __init__(self, network: NetworkModule):
        super().__init__()
        self.network, self.labels = network, isinstance(network.config.head, LabelHead)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        if self.labels:
            return self.network.classify(input_ids, attention_mask)
        return self.network.read(input_ids, attention_mask)


class _Pair(nn.Module):
    def __init__(self, network: NetworkModule):
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
        memory = self.network.encode(input_ids, attention_mask)
        return self.network.score(self.network.decode(decoder_input_ids, memory=memory, memory_mask=attention_mask))


def write_onnx(model: LanguageModel, folder: Path) -> None:
    """Write `model.onnx`, with the weights beside it. Raises InputError for a model that the exporter cannot express."""
    for name in ("onnx", "onnxscript"):
        package(name, name)
    network = model.network
    assert isinstance(network, NetworkModule)
    longest = model.context or LONGEST
    for part in network.modules():
        if isinstance(part, RotaryPosition):
            part.prepare(longest, torch.device("cpu"))
    ids = torch.full((2, min(7, longest)), next(i for i in range(len(model.tokenizer))))
    batch, sequence, target = torch.export.Dim("batch"), _length("sequence", longest), _length("target", longest)
    wrapped: nn.Module
    given: tuple[Tensor, ...]
    if writes(model) and network.encoder is not None:
        wrapped, given = _Pair(network), (ids, torch.ones_like(ids), ids[:, :5])
    elif writes(model):
        wrapped, given = _Decoder(network), (ids,)
    else:
        wrapped, given = _Encoder(network), (ids, torch.ones_like(ids))
    names = ["input_ids", "attention_mask", "decoder_input_ids"][: len(given)]
    shapes = tuple({0: batch, 1: target if name.startswith("dec") else sequence} for name in names)
    output = "logits" if writes(model) or isinstance(network.config.head, LabelHead) else "last_hidden_state"
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                wrapped.eval(), given, dynamo=True, dynamic_shapes=shapes, input_names=names, output_names=[output],
                verbose=False,
            )  # fmt: skip
            assert program is not None
            program.save(folder / FILE, external_data=True)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        why = str(error).strip().splitlines()[:1]
        raise InputError(f"onnx: PyTorch's exporter cannot express this network: {' '.join(why)}") from None


def _length(name: str, longest: int) -> Any:
    return torch.export.Dim(name, max=longest)


@contextlib.contextmanager
def _quiet() -> Any:
    """The exporter reports its steps; of those only failure matters, and that is raised."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class OnnxRuntime:
    """onnxruntime with the exported graph."""

    gives: Gives = "scores"

    def __init__(self, model: LanguageModel, folder: Path):
        library = package("onnxruntime", "onnxruntime")
        options = library.SessionOptions()
        options.log_severity_level = 3
        self.name = f"onnxruntime {library.__version__}"
        self._session = library.InferenceSession(folder / FILE, options, providers=["CPUExecutionProvider"])
        self._names = [one.name for one in self._session.get_inputs()]
        self._ends = model.ends

    def read(self, case: Case) -> np.ndarray:
        source = case.ids if case.source is None else case.source
        values = {
            "input_ids": np.array([source]),
            "attention_mask": np.ones((1, len(source)), dtype=np.int64),
            "decoder_input_ids": np.array([case.ids]),
        }
        out: np.ndarray = self._session.run(None, {name: values[name] for name in self._names})[0][0]
        return out

    def write(self, case: Case, count: int) -> list[int]:
        return written_by_reading(self, case, count, self._ends)
