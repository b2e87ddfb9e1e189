"""An n-gram language model behind the same methods as the neural networks: `decode` gives the contexts, `score` the
distribution of the next token after each, and `log_probs` reads off the probabilities of a text at once.

The model is a trie in arrays (`kneser_ney.Level`) in back-off form. `fit` estimates it by interpolated modified
Kneser-Ney; `arpa.read_arpa` makes one from a file. A text is looked up order by order, all positions at once: the
n-gram that ends at t continues the one that ended at t-1.

Beginnings and ends. With a bos id every document begins with one bos as context: `fit` and `log_probs` put it there,
while `decode` takes `input_ids` literally, so its caller begins them with bos as for any other model. bos is never
predicted; its log-probability is -inf. `fit` ends every document with eos, if there is one; `log_probs` counts eos
where the ids contain it. Without them a document is a bare stream and its first tokens have shorter contexts.

Shapes: B batch, T tokens, V vocabulary size, C = order - 1 context length, R contexts, N tokens in all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from yuyan.errors import CheckpointCorrupt, DataError, InputError
from yuyan.models.kneser_ney import Floats, Ints, Level, check_ids, estimate, join_documents
from yuyan.store import storage_errors, verify, write_atomically, write_json, write_manifest

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


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
        self._keys: list[Ints] = []

    @property
    def order(self) -> int:
        """The longest n-gram, its predicted token included."""
        return len(self.levels)

    @property
    def vocab_size(self) -> int:
        return len(self.levels[0].tokens)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of n-grams of each order."""
        return tuple(len(level.tokens) for level in self.levels)

    @property
    def num_parameters(self) -> int:
        """Stored probabilities and back-off weights."""
        return sum(len(level.log_probs) + len(level.log_backoffs) for level in self.levels)

    @classmethod
    def fit(
        cls, tokens: Ints, starts: Ints, *, order: int, vocab_size: int, bos: int | None = None, eos: int | None = None
    ) -> NGram:
        """Estimate from the documents `tokens[starts[i]:starts[i + 1]]` (bare ids, without bos and eos).

        Raises InputError (order below 1, ids outside the vocabulary) and DataError (no tokens).
        """
        return cls(estimate(tokens, starts, order=order, vocab_size=vocab_size, bos=bos, eos=eos), bos=bos, eos=eos)

    # ------------------------------------------------------------ the probability of a text

    def log_probs(self, input_ids: Ints) -> Floats:
        """Natural log p(ids[t] | the up to C tokens before t) for one document: (T,) ids to (T,) float64.

        With a bos id the document is read as if bos stood before it; one that is there already changes nothing but
        its own -inf. Raises InputError for ids outside the vocabulary.
        """
        return self.log_probs_documents(input_ids, np.array([0, len(input_ids)]))

    def log_probs_documents(self, tokens: Ints, starts: Ints) -> Floats:
        """`log_probs` of each document `tokens[starts[i]:starts[i + 1]]`, joined: (N,) float64."""
        check_ids(tokens, self.vocab_size)
        stream, begins = join_documents(tokens, starts, self.bos, None)
        log_probs = self._log_probs(stream, begins)
        if self.bos is None:
            return log_probs
        keep = np.ones(len(stream), bool)
        keep[begins] = False
        return log_probs[keep]

    def _log_probs(self, stream: Ints, begins: Ints) -> Floats:
        result = self.levels[0].log_probs[stream]
        nodes = stream
        for depth in range(1, self.order):
            at, context = _contexts(nodes, begins)
            result[at] += self.levels[depth - 1].log_backoffs[context]
            found = self._find(depth, context, stream[at])
            seen = found >= 0
            result[at[seen]] = self.levels[depth].log_probs[found[seen]]
            nodes = np.full(len(stream), -1, np.int64)
            nodes[at] = found
        return result

    def _find(self, depth: int, parents: Ints, tokens: Ints) -> Ints:
        """The node at `depth` (0 for order 1) that extends each parent by each token, or -1."""
        if depth == 0:
            return tokens
        bits = (self.vocab_size - 1).bit_length()
        if not self._keys:
            self._keys = [
                np.repeat(np.arange(len(level.offsets) - 1), np.diff(level.offsets)) << bits | level.tokens
                for level in self.levels
            ]
        wanted = parents.astype(np.int64) << bits | tokens
        known = self._keys[depth]
        if not len(known):
            return np.full(len(wanted), -1, np.int64)
        place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return np.where(known[place] == wanted, place, -1)

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
        """The context of each position, itself included: (B, T) ids to (B, T, C) ids, -1 where there is no token.

        `attention_mask` is (B, T), or (B, past + T) with a cache; masked tokens are no context. The cache keeps the
        last C tokens of each row in this model's slot. Positions and memory mean nothing to an n-gram model.
        """
        past = self.order - 1
        if attention_mask is not None:
            keep = attention_mask[:, attention_mask.shape[1] - input_ids.shape[1] :]
            input_ids = input_ids.masked_fill(keep == 0, -1)
        before = None if cache is None else cache.recall(self)
        if before is None:
            before = input_ids.new_full((len(input_ids), past), -1)
        seen = torch.cat((before, input_ids), 1)
        if cache is not None:
            cache.swap(self, seen[:, seen.shape[1] - past :])
            cache.advance(input_ids.shape[1])
        if not past:
            return input_ids.new_empty((*input_ids.shape, 0))
        return seen.unfold(1, past, 1)[:, 1:]

    def score(self, hidden: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Log-probabilities of every next token: contexts (B, T, C) from `decode` to (B, T, V); float32 or float64."""
        contexts = hidden.reshape(hidden.shape[:-1].numel(), self.order - 1)
        wide = np.float64 if dtype == torch.float64 else np.float32
        scores = self.distributions(contexts.cpu().numpy(), wide)
        return torch.from_numpy(scores).to(hidden.device, dtype).reshape(*hidden.shape[:-1], self.vocab_size)

    def distributions(self, contexts: Ints, dtype: type[np.floating] = np.float64) -> np.ndarray:
        """Log-probabilities (R, V) after each of the contexts (R, C): ids, -1 for none, the latest token last."""
        rows, past = contexts.shape
        nodes = self._context_nodes(contexts)
        weights = np.zeros((self.order, rows))  # weights[k]: what is passed down to order k + 1 by all longer contexts
        for length in range(past, 0, -1):
            known = nodes[length] >= 0
            weights[length - 1] = weights[length]
            weights[length - 1, known] += self.levels[length - 1].log_backoffs[nodes[length][known]]
        result = np.add(weights[0][:, None], self.levels[0].log_probs, dtype=dtype)
        for length in range(1, self.order):
            row = np.flatnonzero(nodes[length] >= 0)
            level = self.levels[length]
            first = level.offsets[nodes[length][row]]
            count = level.offsets[nodes[length][row] + 1] - first
            place = np.repeat(first - (np.cumsum(count) - count), count) + np.arange(count.sum())
            row = np.repeat(row, count)
            result[row, level.tokens[place]] = level.log_probs[place] + weights[length][row]
        return result

    def _context_nodes(self, contexts: Ints) -> list[Ints]:
        """The node of the last k tokens of each context (R, C), or -1, for k = 0 ... C."""
        rows, past = contexts.shape
        check_ids(contexts + (contexts == -1), self.vocab_size)
        stream = contexts.reshape(-1)
        begins = np.arange(rows) * past
        found = [np.zeros(rows, np.int64)]
        nodes = stream
        for depth in range(past):
            if depth:
                at, context = _contexts(nodes, begins)
                nodes = np.full(len(stream), -1, np.int64)
                real = stream[at] >= 0
                at, context = at[real], context[real]
                nodes[at] = self._find(depth, context, stream[at])
            found.append(nodes[past - 1 :: past])
        return found

    # ------------------------------------------------------------ on disk

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`, `config.json` and the manifest of checksums. Raises StorageError."""
        tensors = {
            f"order.{order}.{name}": np.ascontiguousarray(array)
            for order, level in enumerate(self.levels, 1)
            for name, array in level._asdict().items()
        }
        architecture = {"kind": "ngram", "order": self.order, "vocab_size": self.vocab_size}
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(folder / WEIGHTS) as temporary:
            save_file(tensors, temporary)
        special = {"bos_token_id": self.bos, "eos_token_id": self.eos}
        write_json(folder / CONFIG, {"model_type": "yuyan", "architecture": architecture, **special})
        with storage_errors(folder):
            write_manifest(folder)

    @classmethod
    def load(cls, folder: Path) -> NGram:
        """Read what `save` wrote, bit for bit. Raises DataError (no model there) and CheckpointCorrupt."""
        verify(folder, required=False)
        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            kind, order = config["architecture"]["kind"], int(config["architecture"]["order"])
            vocab_size, bos, eos = (
                int(config["architecture"]["vocab_size"]),
                config["bos_token_id"],
                config["eos_token_id"],
            )
        except FileNotFoundError:
            raise DataError(f"{folder / CONFIG}: no such file; give the folder of a model") from None
        except (ValueError, KeyError, TypeError):
            raise CheckpointCorrupt(folder / CONFIG, "the config of an n-gram model", "something unreadable") from None
        if kind != "ngram":
            raise InputError(f"{folder / CONFIG}: a model of kind {kind!r}, not an n-gram model")
        file = folder / WEIGHTS
        try:
            tensors = load_file(file)
            levels = [
                Level(*(tensors[f"order.{depth}.{name}"] for name in Level._fields)) for depth in range(1, order + 1)
            ]
        except FileNotFoundError:
            raise CheckpointCorrupt(file, "the weights", "no such file") from None
        except (SafetensorError, KeyError) as error:
            raise CheckpointCorrupt(file, f"the levels of an n-gram model of order {order}", str(error)) from None
        return cls(levels, bos=bos, eos=eos)


def _contexts(nodes: Ints, begins: Ints) -> tuple[Ints, Ints]:
    """The positions whose preceding position ends at a known node in the same document, and that node."""
    context = np.empty_like(nodes)
    context[1:] = nodes[:-1]
    context[begins] = -1
    at = np.flatnonzero(context >= 0)
    return at, context[at]
