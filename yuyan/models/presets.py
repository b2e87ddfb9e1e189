"""Networks under the names people look for: `gpt`, `lstm`, `bilstm`, `bert`, `electra`, `t5`, and `network` for all others.

A preset chooses the seams (norm, positions, feed-forward ...) as published models do and leaves the sizes to the user;
`network` spells every seam.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from yuyan.config import Config, Place, config_errors
from yuyan.errors import ConfigError
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.attention import Heads
from yuyan.nn.embed import Embedding
from yuyan.nn.ffn import Gated, Mlp
from yuyan.nn.head import Head, LanguageModelHead, MaskedHead, ReplacedHead
from yuyan.nn.initialise import Initialisation
from yuyan.nn.mask import Causal, Full
from yuyan.nn.norm import LayerNorm, RMSNorm
from yuyan.nn.position import Learned, RelativeBias, Rotary
from yuyan.nn.recurrent import Recurrent
from yuyan.nn.stack import Stack


class WordVectors(Config):
    """Word vectors as the first weights of the embedding, for tokenizers of words or characters."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    path: Place = Field(alias="from")
    """A folder of `yuyan vectors train`, or a word2vec, .vec or GloVe file; in a config file, relative to it."""
    frozen: bool = False
    """Whether the vectors stay as they are."""


class Gpt(Config):
    """A decoder in the layout of Qwen3, which is Llama's with a norm on queries and keys: rotary positions, RMSNorm
    before each part, SwiGLU, no biases (Touvron et al. 2023, section 2.2; Yang et al. 2025, section 2)."""

    kind: Literal["gpt"] = "gpt"
    hidden_size: int = Field(192, gt=0)
    """Width of the hidden states."""
    num_layers: int = Field(4, gt=0)
    """How many blocks."""
    num_heads: int = Field(6, gt=0)
    """Attention heads in each block."""
    key_value_heads: int | None = Field(None, gt=0)
    """Heads of keys and values, each shared by a group of queries; by default as many as heads."""
    intermediate_size: int | None = Field(None, gt=0)
    """Width of the feed-forward layer; by default 8/3 of the hidden size, rounded up to a multiple of 64."""
    tied: bool = True
    """Whether the scores use the embedding's weights."""
    embedding: WordVectors | None = None
    """Word vectors of `hidden_size` dimensions to begin with; tokens without one are drawn like them."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of each part's output that is dropped while training."""
    initialisation: Initialisation = Initialisation()
    """How the weights start."""

    @config_errors("model")
    def network(self, vocab_size: int) -> Network:
        """Every seam spelled out. Raises ConfigError for sizes that do not fit each other."""
        inner = self.intermediate_size or -(-self.hidden_size * 8 // 3 // 64) * 64
        heads = Heads(count=self.num_heads, key_value_heads=self.key_value_heads, qk_norm=RMSNorm())
        stack = Stack(
            num_layers=self.num_layers, heads=heads, ffn=Gated(intermediate_size=inner), norm=RMSNorm(),
            position=Rotary(), dropout=self.dropout,
        )  # fmt: skip
        return Network(
            vocab_size=vocab_size, hidden_size=self.hidden_size, embedding=Embedding(dropout=self.dropout),
            decoder=stack, head=LanguageModelHead(tied=self.tied),
        )  # fmt: skip

    def build(self, vocab_size: int, seed: int) -> NetworkModule:
        """A network with fresh weights."""
        return self.network(vocab_size).build(seed, self.initialisation)


class Lstm(Config):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000)."""

    kind: Literal["lstm"] = "lstm"
    hidden_size: int = Field(384, gt=0)
    """Width of the state."""
    embedding_size: int | None = Field(None, gt=0)
    """Width of the token vectors; by default the hidden size."""
    num_layers: int = Field(1, gt=0)
    """Layers on top of each other."""
    tied: bool = True
    """Whether the scores use the embedding's weights (Press & Wolf 2017)."""
    embedding: WordVectors | None = None
    """Word vectors to begin with; tokens without one are drawn like them."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of inputs, outputs and what lies between layers that is dropped while training."""
    initialisation: Initialisation = Initialisation(embedding_std=0.05)
    """How the weights start."""

    @config_errors("model")
    def network(self, vocab_size: int) -> Network:
        """Every seam spelled out. Raises ConfigError for sizes that do not fit each other."""
        side = Recurrent(cell="lstm", num_layers=self.num_layers, dropout=self.dropout, output_dropout=self.dropout)
        return Network(
            vocab_size=vocab_size, hidden_size=self.hidden_size, decoder=side,
            embedding=Embedding(size=self.embedding_size, dropout=self.dropout), head=LanguageModelHead(tied=self.tied),
        )  # fmt: skip

    def build(self, vocab_size: int, seed: int) -> NetworkModule:
        """A network with fresh weights."""
        return self.network(vocab_size).build(seed, self.initialisation)


class BiLstm(Config):
    """Two LSTMs, one of which reads backwards, for texts that are read whole (Graves & Schmidhuber 2005)."""

    kind: Literal["bilstm"] = "bilstm"
    hidden_size: int = Field(256, gt=0, multiple_of=2)
    """Width of the state, half of it for each direction."""
    embedding_size: int | None = Field(None, gt=0)
    """Width of the token vectors; by default the hidden size."""
    num_layers: int = Field(1, gt=0)
    """Layers on top of each other."""
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


class Bert(Config):
    """An encoder in BERT's layout (Devlin et al. 2019): full attention, learned positions, the norm after each part."""

    kind: Literal["bert"] = "bert"
    hidden_size: int = Field(128, gt=0)
    """Width of the hidden states."""
    num_layers: int = Field(4, gt=0)
    """How many blocks."""
    num_heads: int = Field(4, gt=0)
    """Attention heads in each block."""
    intermediate_size: int | None = Field(None, gt=0)
    """Width of the feed-forward layer; by default four times the hidden size."""
    max_position_embeddings: int = Field(512, gt=0)
    """The longest text in tokens."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of each part's output that is dropped while training, and of the attention weights."""
    initialisation: Initialisation = Initialisation()
    """How the weights start."""

    @config_errors("model")
    def network(self, vocab_size: int) -> Network:
        """Every seam spelled out. Raises ConfigError for sizes that do not fit each other."""
        return _bert(self, vocab_size, None, MaskedHead())

    def build(self, vocab_size: int, seed: int) -> NetworkModule:
        """A network with fresh weights."""
        return self.network(vocab_size).build(seed, self.initialisation)


class Electra(Config):
    """A discriminator in ELECTRA's layout (Clark et al. 2020): BERT's encoder, which says of each token whether it was
    replaced."""

    kind: Literal["electra"] = "electra"
    hidden_size: int = Field(128, gt=0)
    """Width of the hidden states."""
    embedding_size: int | None = Field(None, gt=0)
    """Width of the token vectors, which the generator shares; by default the hidden size."""
    num_layers: int = Field(4, gt=0)
    """How many blocks."""
    num_heads: int = Field(4, gt=0)
    """Attention heads in each block."""
    intermediate_size: int | None = Field(None, gt=0)
    """Width of the feed-forward layer; by default four times the hidden size."""
    max_position_embeddings: int = Field(512, gt=0)
    """The longest text in tokens."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of each part's output that is dropped while training, and of the attention weights."""
    initialisation: Initialisation = Initialisation()
    """How the weights start."""

    @config_errors("model")
    def network(self, vocab_size: int) -> Network:
        """Every seam spelled out. Raises ConfigError for sizes that do not fit each other."""
        return _bert(self, vocab_size, self.embedding_size or self.hidden_size, ReplacedHead())

    def build(self, vocab_size: int, seed: int) -> NetworkModule:
        """A network with fresh weights."""
        return self.network(vocab_size).build(seed, self.initialisation)


def _bert(model: Bert | Electra, vocab_size: int, embedding_size: int | None, head: Head) -> Network:
    norm = LayerNorm(eps=1e-12)
    stack = Stack(
        num_layers=model.num_layers, heads=Heads(count=model.num_heads, bias=True, dropout=model.dropout),
        ffn=Mlp(intermediate_size=model.intermediate_size or 4 * model.hidden_size), norm=norm, residual="post",
        position=Learned(max_position_embeddings=model.max_position_embeddings), mask=Full(), dropout=model.dropout,
    )  # fmt: skip
    embedding = Embedding(size=embedding_size, type_vocab_size=2, norm=norm, dropout=model.dropout)
    return Network(vocab_size=vocab_size, hidden_size=model.hidden_size, embedding=embedding, encoder=stack, head=head)


class T5(Config):
    """An encoder and a decoder in T5's layout (Raffel et al. 2020): relative positions, RMSNorm before each part, the
    gated feed-forward of its version 1.1 (Shazeer 2020), scores by the embedding's weights as in version 1.0."""

    kind: Literal["t5"] = "t5"
    hidden_size: int = Field(128, gt=0)
    """Width of the hidden states."""
    num_layers: int = Field(4, gt=0)
    """How many blocks in the encoder, and by default in the decoder."""
    num_decoder_layers: int | None = Field(None, gt=0)
    """How many blocks in the decoder."""
    num_heads: int = Field(4, gt=0)
    """Attention heads in each block."""
    intermediate_size: int | None = Field(None, gt=0)
    """Width of the feed-forward layer; by default 8/3 of the hidden size, rounded up to a multiple of 64."""
    tied: bool = True
    """Whether the scores use the embedding's weights."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of each part's output that is dropped while training, of the attention weights, and inside the feed-forward."""
    initialisation: Initialisation = Initialisation()
    """How the weights start."""

    @config_errors("model")
    def network(self, vocab_size: int) -> Network:
        """Every seam spelled out. Raises ConfigError for sizes that do not fit each other."""
        inner = self.intermediate_size or -(-self.hidden_size * 8 // 3 // 64) * 64
        head = LanguageModelHead(tied=self.tied, scaled=self.tied)
        return Network(
            vocab_size=vocab_size, hidden_size=self.hidden_size, embedding=Embedding(dropout=self.dropout),
            encoder=self._side(inner, encoder=True), decoder=self._side(inner, encoder=False), head=head,
        )  # fmt: skip

    def _side(self, inner: int, *, encoder: bool) -> Stack:
        return Stack(
            num_layers=self.num_layers if encoder else self.num_decoder_layers or self.num_layers,
            heads=Heads(count=self.num_heads, scale=1.0, dropout=self.dropout),
            ffn=Gated(intermediate_size=inner, activation="gelu_tanh", dropout=self.dropout), norm=RMSNorm(),
            position=RelativeBias(bidirectional=encoder), mask=Full() if encoder else Causal(), cross=not encoder,
            dropout=self.dropout,
        )  # fmt: skip

    def build(self, vocab_size: int, seed: int) -> NetworkModule:
        """A network with fresh weights."""
        return self.network(vocab_size).build(seed, self.initialisation)


class Custom(Config):
    """A network whose every seam is in the config."""

    kind: Literal["network"] = "network"
    architecture: Network
    """The seams; its `vocab_size` must be the tokenizer's."""
    embedding: WordVectors | None = None
    """Word vectors to begin with; tokens without one are drawn like them."""
    initialisation: Initialisation = Initialisation()
    """How the weights start."""

    def network(self, vocab_size: int) -> Network:
        """As given. Raises ConfigError if it is made for another number of tokens."""
        if self.architecture.vocab_size != vocab_size:
            raise ConfigError(
                f"model.architecture.vocab_size: {self.architecture.vocab_size}, but the tokenizer has {vocab_size} tokens"
            )
        return self.architecture

    def build(self, vocab_size: int, seed: int) -> NetworkModule:
        """A network with fresh weights."""
        return self.network(vocab_size).build(seed, self.initialisation)


SIZES = {"tiny": (4, 128), "small": (6, 256), "medium": (8, 512), "large": (12, 768)}
"""Layers and width."""


class Auto(Config):
    """A network whose size, and how it is trained, follow from the text, the time and the machine (docs/recipes.md)."""

    kind: Literal["auto"] = "auto"
    family: Literal["gpt", "lstm"] = "gpt"
    """A Transformer or a recurrent network."""
    size: Literal["auto", "tiny", "small", "medium", "large"] = "auto"
    """4 layers x 128, 6 x 256, 8 x 512, 12 x 768 (a recurrent network: 1 or 2 layers of twice that width); auto is
    what can be trained best in the time."""

    @property
    def gpt(self) -> Gpt | None:
        """The Transformer of a named size."""
        if self.size == "auto":
            return None
        layers, hidden = SIZES[self.size]
        return Gpt(hidden_size=hidden, num_layers=layers, num_heads=hidden // 32)

    @property
    def lstm(self) -> Lstm | None:
        """The recurrent network of a named size."""
        if self.size == "auto":
            return None
        layers, hidden = SIZES[self.size]
        return Lstm(hidden_size=2 * hidden, embedding_size=hidden, num_layers=1 if layers < 8 else 2)

    @property
    def weights(self) -> float | None:
        """About how many weights a named size has outside its embedding."""
        if self.size == "auto":
            return None
        layers, hidden = SIZES[self.size]
        return 12.0 * layers * hidden**2 if self.family == "gpt" else 16.0 * hidden**2 * (1 if layers < 8 else 2)

    def network(self, vocab_size: int) -> Network:
        """That of a named size. Raises ConfigError without one: then it depends on the text."""
        preset = self.gpt if self.family == "gpt" else self.lstm
        if preset is None:
            raise ConfigError("model.size: auto is chosen when the text is there; name a size, or another model.kind")
        return preset.network(vocab_size)

    def build(self, vocab_size: int, seed: int) -> NetworkModule:
        """A network with fresh weights. Raises ConfigError without a named size."""
        return self.network(vocab_size).build(seed)


ModelConfig = Annotated[Gpt | Lstm | BiLstm | Bert | Electra | T5 | Custom | Auto, Field(discriminator="kind")]


def readable_context(network: Network, trained: int) -> int | None:
    """How many tokens a network can look at, trained on rows of `trained`: None where a state is carried on."""
    side = network.decoder or network.encoder
    if isinstance(side, Recurrent):
        return None
    longest = longest_text(network)
    return trained if longest is None else min(trained, longest)


def longest_text(network: Network) -> int | None:
    """The number of positions that a network has, where it has a table of them."""
    sides = [side for side in (network.encoder, network.decoder) if isinstance(side, Stack)]
    tables = [side.position.max_position_embeddings for side in sides if isinstance(side.position, Learned)]
    return min(tables, default=None)
