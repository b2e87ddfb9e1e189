"""Networks from before the Transformer under the names people look for: `nplm`, `rnn`, `gru`, `lstm`, `bilstm`, `seq2seq`."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from yuyan.config import Config, Place, config_errors
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.embed import Embedding
from yuyan.nn.feed_forward import FeedForward
from yuyan.nn.head import AdaptiveHead, LanguageModelHead
from yuyan.nn.initialise import Initialisation
from yuyan.nn.layered import DropoutMasks
from yuyan.nn.recurrent import Additive, FirstState, Multiplicative, Recurrent, RecurrentCross


class WordVectors(Config):
    """Word vectors as the first weights of the embedding, for tokenizers of words or characters."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    path: Place = Field(alias="from")
    """A folder of `yuyan vectors train`, or a word2vec, .vec or GloVe file; in a config file, relative to it."""
    frozen: bool = False
    """Whether the vectors stay as they are."""


class Nplm(Config):
    """The neural n-gram model (Bengio et al. 2003): one layer over the vectors of the last n - 1 tokens."""

    kind: Literal["nplm"] = "nplm"
    order: int = Field(5, ge=2)
    """The n of the n-gram: a token is predicted from the n - 1 before it."""
    embedding_size: int = Field(30, gt=0)
    """Width of the token vectors (m in the paper)."""
    hidden_size: int = Field(100, gt=0)
    """Width of the tanh layer (h in the paper)."""
    direct: bool = False
    """Whether the token vectors reach the scores beside the layer too."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of token vectors and of the layer that is dropped while training."""
    embedding: WordVectors | None = None
    """Word vectors to begin with; tokens without one are drawn like them."""
    initialisation: Initialisation = Initialisation(std=0.05, embedding_std=0.1)
    """How the weights start."""

    @config_errors("model")
    def network(self, vocab_size: int) -> Network:
        """Every seam spelled out. Raises ConfigError for sizes that do not fit each other."""
        beside = (self.order - 1) * self.embedding_size if self.direct else 0
        return Network(
            vocab_size=vocab_size, hidden_size=self.hidden_size + beside,
            embedding=Embedding(size=self.embedding_size, dropout=self.dropout),
            decoder=FeedForward(order=self.order, direct=self.direct, dropout=self.dropout),
            head=LanguageModelHead(tied=False, bias=True),
        )  # fmt: skip

    def build(self, vocab_size: int, seed: int) -> NetworkModule:
        """A network with fresh weights."""
        return self.network(vocab_size).build(seed, self.initialisation)


class RecurrentPreset(Config):
    """What Rnn, Gru and Lstm share: all but the cell."""

    kind: Literal["rnn", "gru", "lstm"]
    hidden_size: int = Field(384, gt=0)
    """Width of the state."""
    embedding_size: int | None = Field(None, gt=0)
    """Width of the token vectors; by default the hidden size."""
    num_layers: int = Field(1, gt=0)
    """Layers on top of each other."""
    tied: bool = True
    """Whether the scores use the embedding's weights (Press & Wolf 2017)."""
    classes: AdaptiveHead | None = None
    """Scores by classes of frequency (adaptive softmax) instead of one product for all, tied to nothing: {} or {cutoffs: ...}."""
    embedding: WordVectors | None = None
    """Word vectors to begin with; tokens without one are drawn like them."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of inputs, outputs and what lies between layers that is dropped while training."""
    dropout_masks: DropoutMasks = "token"
    """What is dropped is drawn for each token anew, or once for a whole text (variational: Gal & Ghahramani 2016)."""
    weight_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the recurrent weights that is dropped for a whole text while training (Merity et al. 2018)."""
    initialisation: Initialisation = Initialisation(embedding_std=0.05)
    """How the weights start."""

    @config_errors("model")
    def network(self, vocab_size: int) -> Network:
        """Every seam spelled out. Raises ConfigError for sizes that do not fit each other."""
        side = Recurrent(
            cell=self.kind, num_layers=self.num_layers, dropout=self.dropout, output_dropout=self.dropout,
            dropout_masks=self.dropout_masks, weight_dropout=self.weight_dropout,
        )  # fmt: skip
        return Network(
            vocab_size=vocab_size, hidden_size=self.hidden_size, decoder=side,
            embedding=Embedding(size=self.embedding_size, dropout=self.dropout, dropout_masks=self.dropout_masks),
            head=self.classes or LanguageModelHead(tied=self.tied),
        )  # fmt: skip

    def build(self, vocab_size: int, seed: int) -> NetworkModule:
        """A network with fresh weights."""
        return self.network(vocab_size).build(seed, self.initialisation)


class Rnn(RecurrentPreset):
    """The plain recurrent network, h = tanh(W x + U h) (Elman 1990; as a language model Mikolov et al. 2010)."""

    kind: Literal["rnn"] = "rnn"


class Gru(RecurrentPreset):
    """Gated recurrent units (Cho et al. 2014)."""

    kind: Literal["gru"] = "gru"


class Lstm(RecurrentPreset):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000)."""

    kind: Literal["lstm"] = "lstm"


class BiLstm(Config):
    """Two LSTMs, one of which reads backwards, for texts that are read whole (Graves & Schmidhuber 2005)."""

    kind: Literal["bilstm"] = "bilstm"
    hidden_size: int = Field(256, gt=0, multiple_of=2)
    """Width of the state, half of it for each direction."""
    embedding_size: int | None = Field(None, gt=0)
    """Width of the token vectors; by default the hidden size."""
    num_layers: int = Field(1, gt=0)
    """Layers on top of each other."""
    embedding: WordVectors | None = None
    """Word vectors to begin with; tokens without one are drawn like them."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Share of inputs, outputs and what lies between layers that is dropped while training."""
    initialisation: Initialisation = Initialisation(embedding_std=0.05)
    """How the weights start."""

    @config_errors("model")
    def network(self, vocab_size: int) -> Network:
        """Every seam spelled out. Raises ConfigError for sizes that do not fit each other."""
        side = Recurrent(
            cell="lstm",
            num_layers=self.num_layers,
            bidirectional=True,
            dropout=self.dropout,
            output_dropout=self.dropout,
        )
        return Network(
            vocab_size=vocab_size, hidden_size=self.hidden_size, encoder=side,
            embedding=Embedding(size=self.embedding_size, dropout=self.dropout),
        )  # fmt: skip

    def build(self, vocab_size: int, seed: int) -> NetworkModule:
        """A network with fresh weights."""
        return self.network(vocab_size).build(seed, self.initialisation)


class Seq2Seq(Config):
    """A recurrent encoder, which reads both ways, and a recurrent decoder that attends to what it read (Bahdanau et al.
    2015; Luong et al. 2015); without attention the encoder only sets the decoder's first state (Sutskever et al. 2014)."""

    kind: Literal["seq2seq"] = "seq2seq"
    cell: Literal["gru", "lstm"] = "gru"
    """What a layer does at each token."""
    attention: Literal["additive", "multiplicative", "none"] = "additive"
    """Bahdanau's score, read before each step; Luong's, read after it; or none."""
    hidden_size: int = Field(256, gt=0, multiple_of=2)
    """Width of the states, half of it for each direction of the encoder."""
    embedding_size: int | None = Field(None, gt=0)
    """Width of the token vectors, which both sides share; by default the hidden size."""
    num_layers: int = Field(1, gt=0)
    """Layers on top of each other, on each side."""
    tied: bool = True
    """Whether the scores use the embedding's weights."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of inputs, outputs and what lies between layers that is dropped while training."""
    initialisation: Initialisation = Initialisation(std=0.05, embedding_std=0.05)
    """How the weights start."""

    @config_errors("model")
    def network(self, vocab_size: int) -> Network:
        """Every seam spelled out. Raises ConfigError for sizes that do not fit each other."""
        crossings: dict[str, RecurrentCross] = {
            "additive": Additive(), "multiplicative": Multiplicative(), "none": FirstState(),
        }  # fmt: skip
        side = Recurrent(cell=self.cell, num_layers=self.num_layers, dropout=self.dropout, output_dropout=self.dropout)
        return Network(
            vocab_size=vocab_size, hidden_size=self.hidden_size,
            embedding=Embedding(size=self.embedding_size, dropout=self.dropout),
            encoder=side.model_copy(update={"bidirectional": True}),
            decoder=side.model_copy(update={"cross": crossings[self.attention]}), head=LanguageModelHead(tied=self.tied),
        )  # fmt: skip

    def build(self, vocab_size: int, seed: int) -> NetworkModule:
        """A network with fresh weights."""
        return self.network(vocab_size).build(seed, self.initialisation)


Classic = Nplm | Rnn | Gru | Lstm
