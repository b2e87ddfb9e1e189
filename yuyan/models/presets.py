"""Networks under the names people look for: `gpt`, `bert`, `modernbert`, `electra`, `t5`, `network` for all others, and those of `classic`.

A preset chooses the seams (norm, positions, feed-forward ...) as published models do and leaves the sizes to the user;
`network` spells every seam.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from yuyan.config import Config, config_errors
from yuyan.errors import ConfigError
from yuyan.models.classic import BiLstm, Classic, Gru, Lstm, Nplm, Rnn, Seq2Seq, WordVectors
from yuyan.models.cost import GATES
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.attention import Heads
from yuyan.nn.embed import Embedding
from yuyan.nn.ffn import Gated, Mlp
from yuyan.nn.head import Head, LanguageModelHead, MaskedHead, ReplacedHead
from yuyan.nn.initialise import Initialisation
from yuyan.nn.mask import Causal, Full, TwoSidedWindow
from yuyan.nn.norm import LayerNorm, RMSNorm
from yuyan.nn.position import Learned, RelativeBias, Rotary
from yuyan.nn.stack import Local, Stack


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


class ModernBert(Config):
    """An encoder in the layout of ModernBERT (Warner et al. 2024): rotary positions, LayerNorm before each part and
    after the embedding, a gated feed-forward, no biases."""

    kind: Literal["modernbert"] = "modernbert"
    hidden_size: int = Field(192, gt=0)
    """Width of the hidden states."""
    num_layers: int = Field(4, gt=0)
    """How many blocks."""
    num_heads: int = Field(6, gt=0)
    """Attention heads in each block."""
    intermediate_size: int | None = Field(None, gt=0)
    """Width of the feed-forward layer; by default 8/3 of the hidden size, rounded up to a multiple of 64."""
    reach: int | None = Field(None, gt=0)
    """How many tokens two layers of three see on each side, for long texts; by default every layer sees all."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the embedding, of the attention weights, and inside the feed-forward that is dropped while training."""
    initialisation: Initialisation = Initialisation()
    """How the weights start."""

    @config_errors("model")
    def network(self, vocab_size: int) -> Network:
        """Every seam spelled out. Raises ConfigError for sizes that do not fit each other."""
        norm = LayerNorm(bias=False)
        inner = self.intermediate_size or -(-self.hidden_size * 8 // 3 // 64) * 64
        near = tuple(i for i in range(self.num_layers) if i % 3)
        stack = Stack(
            num_layers=self.num_layers, heads=Heads(count=self.num_heads, dropout=self.dropout),
            ffn=Gated(intermediate_size=inner, activation="gelu", dropout=self.dropout), norm=norm, first_norm=False,
            position=Rotary(), mask=Full(),
            local=Local(layers=near, mask=TwoSidedWindow(reach=self.reach), position=Rotary())
            if self.reach and near else None,
        )  # fmt: skip
        return Network(
            vocab_size=vocab_size, hidden_size=self.hidden_size, embedding=Embedding(norm=norm, dropout=self.dropout),
            encoder=stack, head=MaskedHead(norm=norm, dense_bias=False),
        )  # fmt: skip

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
    gated feed-forward and the scores with a table of their own of its version 1.1 (Shazeer 2020)."""

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
    tied: bool = False
    """Whether the scores use the embedding's weights, as in version 1.0; learns more slowly."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of each part's output that is dropped while training, of the attention weights, and inside the feed-forward."""
    initialisation: Initialisation | None = None
    """How the weights start; by default with a deviation of 1 / sqrt(hidden size)."""

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
        start = self.initialisation or Initialisation(std=self.hidden_size**-0.5)
        return self.network(vocab_size).build(seed, start)


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
RECURRENT: dict[str, type[Rnn] | type[Gru] | type[Lstm]] = {"lstm": Lstm, "gru": Gru, "rnn": Rnn}


Family = Literal["gpt", "lstm", "gru", "rnn", "nplm"]


class Auto(Config):
    """A network whose size, and how it is trained, follow from the text, the time and the machine (docs/recipes.md)."""

    kind: Literal["auto"] = "auto"
    family: Family = "gpt"
    """A Transformer, a recurrent network, or a neural n-gram model."""
    size: Literal["auto", "tiny", "small", "medium", "large"] = "auto"
    """4 layers x 128, 6 x 256, 8 x 512, 12 x 768 (a recurrent network: 1 or 2 layers of twice that width, a neural
    n-gram model one of that width over vectors of half of it); auto is what can be trained best in the time."""

    @property
    def named(self) -> Gpt | Classic | None:
        """The network of a named size."""
        if self.size == "auto":
            return None
        layers, hidden = SIZES[self.size]
        if self.family == "gpt":
            return Gpt(hidden_size=hidden, num_layers=layers, num_heads=hidden // 32)
        if self.family == "nplm":
            return Nplm(hidden_size=hidden, embedding_size=hidden // 2)
        return RECURRENT[self.family](hidden_size=2 * hidden, embedding_size=hidden, num_layers=1 if layers < 8 else 2)

    @property
    def weights(self) -> float | None:
        """About how many weights a named size has outside its embedding."""
        if self.size == "auto":
            return None
        layers, hidden = SIZES[self.size]
        if self.family == "gpt":
            return 12.0 * layers * hidden**2
        if self.family == "nplm":
            return 2.0 * hidden**2
        return 4.0 * GATES[self.family] * hidden**2 * (1 if layers < 8 else 2)

    def network(self, vocab_size: int) -> Network:
        """That of a named size. Raises ConfigError without one: then it depends on the text."""
        if self.named is None:
            raise ConfigError("model.size: auto is chosen when the text is there; name a size, or another model.kind")
        return self.named.network(vocab_size)

    def build(self, vocab_size: int, seed: int) -> NetworkModule:
        """A network with fresh weights. Raises ConfigError without a named size."""
        return self.network(vocab_size).build(seed)


ModelConfig = Annotated[
    Gpt | Lstm | Gru | Rnn | Nplm | BiLstm | Seq2Seq | Bert | ModernBert | Electra | T5 | Custom | Auto,
    Field(discriminator="kind"),
]


Embedded = Custom | Gpt | Nplm | Rnn | Gru | Lstm | BiLstm
"""Those that can begin with word vectors."""


def readable_context(network: Network, trained: int) -> int | None:
    """How many tokens a network can look at, trained on rows of `trained`: None where a state is carried on."""
    side = network.decoder or network.encoder
    if not isinstance(side, Stack):
        return None
    longest = longest_text(network)
    return trained if longest is None else min(trained, longest)


def longest_text(network: Network) -> int | None:
    """The number of positions that a network has, where it has a table of them."""
    sides = [side for side in (network.encoder, network.decoder) if isinstance(side, Stack)]
    tables = [side.position.max_position_embeddings for side in sides if isinstance(side.position, Learned)]
    return min(tables, default=None)
