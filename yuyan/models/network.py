"""The network: ids in, scores out, through one or two sides and a head.

Three methods are all that training, evaluation and generation use: `encode`, `decode`, `score`. Which family a network
belongs to is a matter of its config alone.

Shapes: B batch, T tokens, S tokens of the encoder's text, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from yuyan.config import Config
from yuyan.errors import InputError
from yuyan.nn.cache import Carried, NoCache
from yuyan.nn.embed import Embedding, EmbeddingModule
from yuyan.nn.feed_forward import FeedForward, FeedForwardModule
from yuyan.nn.head import AdaptiveHead, Head, HeadModule, LabelHead, LanguageModelHead, pool
from yuyan.nn.initialise import Initialisation, initialise
from yuyan.nn.linear_cross_entropy import PLAIN, CrossEntropy
from yuyan.nn.recurrent import Recurrent, RecurrentModule
from yuyan.nn.stack import Stack, StackModule
from yuyan.nn.transforms import under_transform

Side = Annotated[Stack | Recurrent | FeedForward, Field(discriminator="kind")]


class Network(Config):
    """A language model: an encoder, a decoder, or both, between an embedding and a head."""

    vocab_size: int = Field(gt=0)
    """How many tokens there are."""
    hidden_size: int = Field(gt=0)
    """Width of the hidden states."""
    embedding: Embedding = Embedding()
    """How ids become vectors."""
    encoder: Side | None = None
    """Reads a whole text."""
    decoder: Side | None = None
    """Writes a text from left to right."""
    head: Head | None = LanguageModelHead()
    """What scores are given; null is none, for a model that only represents."""

    @model_validator(mode="after")
    def _agree(self) -> Network:
        if self.encoder is None and self.decoder is None:
            raise ValueError("a network has an encoder, a decoder or both")
        if self.decoder is not None and not self.decoder.causal:
            raise ValueError("decoder: a decoder must not see what comes later; choose another mask, or an encoder")
        if self.encoder is not None and self.encoder.cross:
            raise ValueError("encoder.cross: only a decoder reads the output of an encoder")
        if self.decoder is not None and bool(self.decoder.cross) != (self.encoder is not None):
            raise ValueError("decoder.cross: true with an encoder, and false without one")
        for side in (self.encoder, self.decoder):
            if side is not None:
                side.filled(self.hidden_size)
            if isinstance(side, FeedForward):
                side.layer_size(self.embedding_size, self.hidden_size)
        if isinstance(self.head, AdaptiveHead):
            self.head.bounds(self.vocab_size)
        self._check_labels()
        return self

    def _check_labels(self) -> None:
        """With two sides, labels are scored by a decoder that reads the text too, behind a token of its own."""
        if not isinstance(self.head, LabelHead):
            return
        both = self.encoder is not None and self.decoder is not None
        if both and (self.head.start is None or self.head.start >= self.vocab_size):
            raise ValueError("head.start: with an encoder and a decoder, labels need a token that begins the text")
        if self.head.start is not None and not both:
            raise ValueError("head.start: only for a network with an encoder and a decoder; leave it away")

    @property
    def embedding_size(self) -> int:
        """Width of the token vectors."""
        return self.embedding.size or self.hidden_size

    def filled(self) -> Network:
        """With every None decided."""
        sides = {"encoder": self.encoder, "decoder": self.decoder}
        update: dict[str, Any] = {name: side and side.filled(self.hidden_size) for name, side in sides.items()}
        update["embedding"] = self.embedding.model_copy(update={"size": self.embedding_size})
        return self.model_copy(update=update)

    def build(self, seed: int = 0, initialisation: Initialisation | None = None) -> NetworkModule:
        """The network with weights drawn from `seed`; the global random state is not touched."""
        with torch.device("meta"):
            module = NetworkModule(self.filled())
        module.to_empty(device="cpu")
        initialise(module, initialisation or Initialisation(), seed)
        return module


class NetworkModule(nn.Module):
    """A built network."""

    def __init__(self, config: Network):
        super().__init__()
        self.config = config
        self.carried: Carried | None = None
        """The state carried from update to update, where a run trains so."""
        self.embedding = EmbeddingModule(config.embedding, config.vocab_size, config.embedding_size)
        sizes = (config.embedding_size, config.hidden_size)
        self.encoder = config.encoder.build(*sizes) if config.encoder else None
        self.decoder = config.decoder.build(*sizes) if config.decoder else None
        head = config.head
        self.head = head.build(config.vocab_size, config.hidden_size, config.embedding_size) if head else None

    def encode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> Tensor:
        """(B, S) ids to (B, S, D) hidden states; `attention_mask` (B, S) marks real tokens, `document_ids` (B, S)
        separates documents packed into one row.

        Raises InputError for ids out of range, texts that are too long, and a network without an encoder.
        """
        if self.encoder is None:
            raise InputError("this network has no encoder; use decode")
        return self._side(
            self.encoder, input_ids, attention_mask, token_type_ids, None, document_ids, None, None, NoCache()
        )

    def decode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        cache: NoCache | None = None,
        document_ids: Tensor | None = None,
    ) -> Tensor:
        """(B, T) ids to (B, T, D) hidden states, each of which saw only what came before.

        `attention_mask` (B, T) marks the real ones of these tokens; `memory` (B, S, D) is what `encode` gave and
        `memory_mask` (B, S) its real tokens; with a `cache` the tokens continue those of the last call;
        `document_ids` (B, T) separates documents packed into one row. Raises InputError as `encode` does.
        """
        if self.decoder is None:
            raise InputError("this network has no decoder; use encode")
        if (memory is None) != (self.encoder is None):
            needed = "needs memory, the output of encode" if memory is None else "takes no memory: it has no encoder"
            raise InputError(f"memory: this network's decoder {needed}")
        cache = cache or (self.carried if self.training else None) or NoCache()
        hidden = self._side(
            self.decoder, input_ids, attention_mask, None, position_ids, document_ids, memory, memory_mask, cache
        )
        cache.advance(input_ids.shape[1])
        return hidden

    def read(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """(B, T, D) hidden states of a text from the only side there is: `encode`, or `decode` without an encoder."""
        if self.encoder is not None:
            return self.encode(input_ids, attention_mask, token_type_ids)
        return self.decode(input_ids, attention_mask)

    def classify(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Scores of the labels, (B, labels) of each text or (B, T, labels) of each token, as the head's `pool` says.

        With both sides the encoder reads the text, and so does the decoder, moved to the right by one: the hidden state
        at a token saw the tokens before it there, and the whole text through the encoder (Lewis 2020, section 3.1).
        """
        head = self.config.head
        if not isinstance(head, LabelHead):
            raise InputError("this network has no labels; only one with a head of kind labels can classify")
        hidden = self.read(input_ids, attention_mask, token_type_ids)
        if head.start is not None:
            moved = F.pad(input_ids[:, :-1], (1, 0), value=head.start)
            hidden = self.decode(moved, memory=hidden, memory_mask=attention_mask)
        return self.score(pool(hidden, attention_mask, head.pool))

    def score(self, hidden: Tensor) -> Tensor:
        """(B, T, D) hidden states to (B, T, V) scores, the logarithms of unnormalised probabilities."""
        out: Tensor = self._has_head().scores(hidden, self.embedding.token.weight)
        return out

    def token_losses(self, hidden: Tensor, labels: Tensor, trained: CrossEntropy = PLAIN) -> Tensor:
        """-log p(label) of each token, float32 (N,), 0 where the label (N,) is -100; `hidden` is (N, D)."""
        out: Tensor = self._has_head().token_losses(hidden, labels, self.embedding.token.weight, trained)
        return out

    def last_weights(self) -> tuple[Tensor | None, ...]:
        """The weights that scores are made with."""
        return self._has_head().last_weights(self.embedding.token.weight)

    def _has_head(self) -> HeadModule:
        if self.head is None:
            raise InputError("this network has no head: it gives hidden states, not scores")
        head: HeadModule = self.head
        return head

    def before_projection(self, hidden: Tensor) -> Tensor:
        """All of `score` but its last product."""
        return self._has_head().before_projection(hidden)

    def output_projection(self) -> tuple[Tensor, Tensor | None]:
        """Weight (V, E) and bias (V) of the last product of `score`. Raises InputError for a head that has several."""
        return self._has_head().output_projection(self.embedding.token.weight)

    def _side(
        self,
        side: StackModule | RecurrentModule | FeedForwardModule,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        position_ids: Tensor | None,
        document_ids: Tensor | None,
        memory: Tensor | None,
        memory_mask: Tensor | None,
        cache: NoCache,
    ) -> Tensor:
        self._check(input_ids, attention_mask, token_type_ids)
        shape = (input_ids.shape[0], input_ids.shape[1])
        places = cache.place(shape, input_ids.device, attention_mask, position_ids, document_ids)
        x = self.embedding(input_ids, token_type_ids, places, side.position)
        hidden: Tensor = side(x, places, memory, memory_mask, cache)
        return hidden

    def _check(self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> None:
        if input_ids.ndim != 2 or not input_ids.numel():
            raise InputError(f"input_ids: expected rows of tokens, (batch, tokens); got {tuple(input_ids.shape)}")
        if input_ids.dtype not in (torch.int64, torch.int32):
            raise InputError(f"input_ids: expected whole numbers (torch.long); got {input_ids.dtype}")
        if attention_mask is not None and attention_mask.shape != input_ids.shape:
            raise InputError(
                f"attention_mask: {tuple(attention_mask.shape)} does not fit input_ids {tuple(input_ids.shape)}"
            )
        if input_ids.device.type == "cpu" and not under_transform():  # elsewhere looking would wait
            low, high = (int(x) for x in input_ids.aminmax())
            if low < 0 or high >= self.config.vocab_size:
                wrong = low if low < 0 else high
                raise InputError(f"input_ids: {wrong} is not a token; the vocabulary has {self.config.vocab_size}")
            self._check_segments(token_type_ids, input_ids)

    def _check_segments(self, token_type_ids: Tensor | None, input_ids: Tensor) -> None:
        count = self.config.embedding.type_vocab_size
        if token_type_ids is None or not count:
            return
        if token_type_ids.shape != input_ids.shape:
            raise InputError(
                f"token_type_ids: {tuple(token_type_ids.shape)} does not fit input_ids {tuple(input_ids.shape)}"
            )
        low, high = (int(x) for x in token_type_ids.aminmax())
        if low < 0 or high >= count:
            raise InputError(
                f"token_type_ids: {low if low < 0 else high} is no segment; this model tells {count} apart"
            )
