"""An n-gram language model behind the same methods as the neural networks: `decode` gives the contexts, `score` the
distribution of the next token after each, and `log_probs` reads off the probabilities of a whole text.

The model is a trie in arrays (`trie.Level`) in back-off form: the probability of a token after a context is stored, or
it is the context's weight times the probability after a shorter context. `fit` estimates it by interpolated modified
Kneser-Ney; `arpa.read_arpa` makes one from a file. A text is looked up order by order, all positions at once: the
n-gram that ends at t continues the one that ended at t-1.

Beginnings and ends. With a bos id every document begins with one bos as context: `fit` and `log_probs` put it there,
while `decode` takes `input_ids` literally, so its caller begins them with bos as for any other model. bos is never
predicted; its log-probability is -inf. `fit` ends every document with eos, if there is one; `log_probs` counts eos
where the ids contain it. Without bos the first tokens of a document have shorter contexts.

Shapes: B batch, T tokens, V vocabulary size, C = order - 1 context length, R contexts, N tokens in all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from yuyan.config import Config, build, dump
from yuyan.errors import CheckpointCorrupt, DataError
from yuyan.models.kneser_ney import estimate
from yuyan.models.trie import NONE, Finder, Floats, Ints, Level, check_ids, faults, join_documents, preceding_nodes
from yuyan.store import storage_errors, verify, write_atomically, write_json, write_manifest

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
AT_ONCE = 1 << 20  # tokens looked up together: enough to fill vectors, few enough to bound memory


class NGramShape(Config):
    """What an n-gram model on disk is, beside its numbers."""

    kind: Literal["ngram"] = "ngram"
    order: int = Field(ge=1)
    """The longest n-gram, its predicted token included."""
    vocab_size: int = Field(ge=1)
    """How many token ids there are."""
    bos: int | None = Field(None, ge=0)
    """The id that stands before every document, or null."""
    eos: int | None = Field(None, ge=0)
    """The id that ends every document, or null."""


class NGramFile(Config):
    """The `config.json` of an n-gram model."""

    model_type: Literal["yuyan"] = "yuyan"
    architecture: NGramShape


class Slots(Protocol):
    """What a decoding cache must offer: a slot for each owner, and a count of the tokens read (`nn.cache.Cache`)."""

    def recall(self, owner: object) -> Any: ...

    def swap(self, owner: object, state: Any) -> Any: ...

    def advance(self, count: int) -> None: ...


class NGram:
    """An n-gram model; see the module for its conventions."""

    def __init__(self, levels: Sequence[Level], *, bos: int | None = None, eos: int | None = None):
        self.levels = list(levels)
        self.bos, self.eos = bos, eos

    @classmethod
    def fit(
        cls, tokens: Ints, starts: Ints, *, order: int, vocab_size: int, bos: int | None = None, eos: int | None = None
    ) -> NGram:
        """Estimate from the documents `tokens[starts[i]:starts[i + 1]]` (bare ids, without bos and eos).

        Raises InputError (order below 1, ids outside the vocabulary, bos inside a document) and DataError (no tokens).
        """
        return cls(estimate(tokens, starts, order=order, vocab_size=vocab_size, bos=bos, eos=eos), bos=bos, eos=eos)

    @property
    def order(self) -> int:
        """The longest n-gram, its predicted token included."""
        return len(self.levels)

    @property
    def vocab_size(self) -> int:
        """How many token ids there are."""
        return len(self.levels[0].tokens)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of n-grams of each order; of order 1, the vocabulary size."""
        return tuple(len(level.tokens) for level in self.levels)

    @property
    def num_parameters(self) -> int:
        """Stored probabilities and back-off weights."""
        return sum(len(level.log_probs) + len(level.log_backoffs) for level in self.levels)

    @cached_property
    def _finder(self) -> Finder:
        return Finder(self.levels)

    # ------------------------------------------------------------ the probability of a text

    def log_probs(self, input_ids: Ints) -> Floats:
        """Natural log p(ids[t] | the up to C tokens before t) for one document: (T,) ids to (T,) float64.

        With a bos id the document is read as if bos stood before it; one that is there already changes nothing but
        its own -inf. Raises InputError for ids outside the vocabulary.
        """
        return self.log_probs_documents(input_ids, np.array([0, len(input_ids)]))

    def log_probs_documents(self, tokens: Ints, starts: Ints) -> Floats:
        """`log_probs` of each document `tokens[starts[i]:starts[i + 1]]`, joined: float64 (starts[-1] - starts[0],).

        One call for many documents is much faster than a call for each. Raises InputError.
        """
        check_ids(tokens, self.vocab_size)
        stream, begins = join_documents(tokens, starts, self.bos, None)
        result = np.empty(len(stream))
        past = self.order - 1
        for start in range(0, len(stream), AT_ONCE):
            first = max(0, start - past)
            stop = min(start + AT_ONCE, len(stream))
            inside = begins[np.searchsorted(begins, first) : np.searchsorted(begins, stop)] - first
            result[start:stop] = self._log_probs(stream[first:stop], inside)[start - first :]
        return result if self.bos is None else np.delete(result, begins)

    def _log_probs(self, stream: Ints, begins: Ints) -> Floats:
        result: Floats = self.levels[0].log_probs[stream]
        nodes = stream
        for order in range(2, self.order + 1):
            context = preceding_nodes(nodes, begins)
            at = np.flatnonzero(context >= 0)
            context = context[at]
            level = self.levels[order - 1]
            node = self._finder.find(order, context, stream[at])
            known = node >= 0
            backed = result[at] + self.levels[order - 2].log_backoffs[context]
            backed[known] = level.log_probs[node[known]]
            result[at] = backed
            nodes = np.full(len(stream), NONE, np.int32)
            nodes[at] = node
        return result

    # ------------------------------------------------------------ the waist shared with the networks

    def decode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        cache: Slots | None = None,
    ) -> Tensor:
        """The context after each position, its own token included: (B, T) ids to (B, T, C) ids, -1 for no token.

        `attention_mask` is (B, T), or (B, past + T) with a cache; masked tokens are no context. The cache keeps the
        last C tokens of each row in this model's slot. Positions and memory mean nothing to an n-gram model.
        """
        past = self.order - 1
        if attention_mask is not None:
            new = attention_mask[:, attention_mask.shape[1] - input_ids.shape[1] :]
            input_ids = input_ids.masked_fill(new == 0, NONE)
        before = None if cache is None else cache.recall(self)
        if before is None:
            before = input_ids.new_full((len(input_ids), past), NONE)
        seen = torch.cat((before, input_ids), 1)
        if cache is not None:
            cache.swap(self, _latest(seen, attention_mask, past))
            cache.advance(input_ids.shape[1])
        if past == 0:
            return input_ids.new_empty((*input_ids.shape, 0))
        return seen.unfold(1, past, 1)[:, 1:]

    def score(self, hidden: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Log-probabilities of every next token: contexts (B, T, C) from `decode` to (B, T, V)."""
        rows = hidden.shape[:-1].numel()
        scores = self.distributions(hidden.reshape(rows, self.order - 1).cpu().numpy())
        return torch.from_numpy(scores).to(hidden.device, dtype).reshape(*hidden.shape[:-1], self.vocab_size)

    def distributions(self, contexts: Ints) -> NDArray[np.float64]:
        """Log-probabilities (R, V) after each of the contexts (R, C): ids, the latest last, -1 where there is none.

        Raises InputError for ids outside the vocabulary.
        """
        nodes = self._context_nodes(contexts)
        passed = np.zeros((self.order, len(contexts)))  # [k]: the weight of what longer contexts leave to those of k
        for length in range(self.order - 1, 0, -1):
            known = nodes[length] >= 0
            passed[length - 1] = passed[length]
            passed[length - 1, known] += self.levels[length - 1].log_backoffs[nodes[length][known]]
        result: Floats = passed[0][:, None] + self.levels[0].log_probs
        for length in range(1, self.order):
            row = np.flatnonzero(nodes[length] >= 0)
            level, node = self.levels[length], nodes[length][row]
            first, after = level.offsets[node], level.offsets[node + 1]
            count = after - first
            row = np.repeat(row, count)
            place = np.arange(len(row)) + np.repeat(after - np.cumsum(count), count)
            result[row, level.tokens[place]] = level.log_probs[place] + passed[length][row]
        return result

    def _context_nodes(self, ids: Ints) -> list[Ints]:
        """The node of the last k tokens of each context (R, C), or -1, for k = 0 ... C."""
        check_ids(ids + (ids == NONE), self.vocab_size)
        rows, past = ids.shape
        stream, begins = ids.reshape(-1), np.arange(rows) * past
        nodes, found = stream, [np.zeros(rows, np.int32), ids[:, -1:].reshape(-1)]
        for order in range(2, past + 1):
            context = preceding_nodes(nodes, begins)
            at = np.flatnonzero(context >= 0)  # a token of -1 makes a key of -1, which is nowhere
            nodes = np.full(len(stream), NONE, np.int32)
            nodes[at] = self._finder.find(order, context[at], stream[at])
            found.append(nodes[past - 1 :: past])
        return found

    # ------------------------------------------------------------ on disk

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`, `config.json` and the manifest of checksums into `folder`. Raises StorageError."""
        tensors = {
            f"order.{order}.{name}": np.ascontiguousarray(array)
            for order, level in enumerate(self.levels, 1)
            for name, array in level._asdict().items()
        }
        shape = NGramShape(order=self.order, vocab_size=self.vocab_size, bos=self.bos, eos=self.eos)
        with write_atomically(folder / WEIGHTS) as temporary:
            save_file(tensors, temporary)
        write_json(folder / CONFIG, dump(NGramFile(architecture=shape)))
        with storage_errors(folder):
            write_manifest(folder)

    @classmethod
    def load(cls, folder: Path) -> NGram:
        """Read what `save` wrote, bit for bit. Raises DataError or ConfigError (no n-gram model) or CheckpointCorrupt."""
        verify(folder, required=False)
        config, weights = folder / CONFIG, folder / WEIGHTS
        try:
            data = json.loads(config.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{config}: no such file; give the folder of a model") from None
        except ValueError:
            raise CheckpointCorrupt(config, "a JSON text", "something unreadable") from None
        shape = build(NGramFile, data, where=str(config)).architecture
        try:
            tensors = load_file(weights)
            levels = [Level(*(tensors[f"order.{n + 1}.{name}"] for name in Level._fields)) for n in range(shape.order)]
        except (OSError, SafetensorError, KeyError) as error:
            raise CheckpointCorrupt(weights, f"an n-gram model of order {shape.order}", str(error)) from None
        if fault := faults(levels, shape.vocab_size):
            raise CheckpointCorrupt(weights, f"an n-gram model of order {shape.order}", fault)
        return cls(levels, bos=shape.bos, eos=shape.eos)


def _latest(seen: Tensor, attention_mask: Tensor | None, past: int) -> Tensor:
    """The last `past` tokens (B, past) of each row of (B, past + T), without the padding at its end."""
    width = seen.shape[1]
    if attention_mask is None:
        return seen[:, width - past :]
    places = torch.arange(1, width - past + 1, device=seen.device)
    ends = (places * (attention_mask[:, attention_mask.shape[1] - len(places) :] != 0)).amax(1)  # 0: nothing is new
    return seen.gather(1, ends[:, None] + torch.arange(past, device=seen.device))
