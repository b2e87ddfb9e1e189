"""A decoder whose weights are laid out for generating: taken over from a network, layer after layer, in one copy.

What fits: a decoder of attention layers without an encoder, norms before each part, causal or a window, positions that
are added or turned, plain or gated feed-forward layers: GPT-2, Llama, Mistral, Qwen and their like. `why_not` says what
another network has that does not fit.

D hidden size, H heads, G key-value heads, K head size, F feed-forward size, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from yuyan.generate.weights import Weights
from yuyan.kernels import given, head, vectors
from yuyan.kernels.pack import Coding, Packed, give_back, memory_of, pack, padded, planned
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.attention import Attention, Heads
from yuyan.nn.ffn import GatedModule, Mlp, MlpModule
from yuyan.nn.head import LanguageModelHead, LanguageModelHeadModule
from yuyan.nn.linear import Linear
from yuyan.nn.mask import Causal, Places, Window
from yuyan.nn.norm import LayerNorm, RMSNorm
from yuyan.nn.position import Learned, NoPosition, Rotary, RotaryPosition, Sinusoidal
from yuyan.nn.rotary import DynamicScaling
from yuyan.nn.stack import Stack, StackModule


def why_not(network: object) -> str | None:
    """What keeps a model from being packed; None if it can be."""
    if not isinstance(network, NetworkModule):
        return "an n-gram model has counts, no layers"
    config = network.config
    side = config.decoder
    if config.encoder is not None or not isinstance(side, Stack):
        return "only a decoder of attention layers, without an encoder, is laid out for it"
    if network.embedding.token.weight.device.type != "cpu":
        return "the model is not on the CPU"
    wrong = {
        "norms after each part": side.residual != "pre" or not side.first_norm,
        "layers with masks of their own": side.local is not None,
        "its mask": not isinstance(side.mask, Causal | Window),
        "its positions": not isinstance(side.position, Learned | NoPosition | Rotary | Sinusoidal),
        "positions that stretch with the text": isinstance(side.position, Rotary)
        and isinstance(side.position.scaling, DynamicScaling),
        "an embedding of another width": config.embedding_size != config.hidden_size,
        "segments": bool(config.embedding.type_vocab_size),
        "its head": not isinstance(config.head, LanguageModelHead),
        "a norm of queries and keys other than RMSNorm": not isinstance(side.heads.qk_norm, RMSNorm | None),
        "weights of float64": network.embedding.token.weight.dtype == torch.float64,
    }
    found = [name for name, is_so in wrong.items() if is_so]
    assert isinstance(network.decoder, StackModule)
    if not found and not all(_plain(layer) for layer in network.decoder.layers):
        found = ["parts that stand in the place of layers, such as an adapter that is not merged"]
    return f"it has {found[0]}, which is not laid out for it" if found else None


def _plain(layer: nn.Module) -> bool:
    """Whether a layer consists of the parts that are packed, and of nothing else."""
    inner = [getattr(layer.get_submodule(name), "inner", None) for name in ("attention", "ffn")]
    if type(inner[0]) is not Attention or type(inner[1]) not in (MlpModule, GatedModule):
        return False
    return all(type(m) is Linear for m in layer.modules() if isinstance(m, nn.Linear)) and not any(
        hasattr(m, "parametrizations") or m._forward_hooks or m._forward_pre_hooks for m in layer.modules()
    )


class PackedDecoder:
    """The weights of `network`, which has none left afterwards but those of its embedding that nothing replaces.

    `why_not` must have nothing against the network.
    """

    def __init__(self, network: NetworkModule, weights: Weights):
        assert why_not(network) is None
        self.weights, self.config = weights, network.config
        side, heads, self.inner = _parts(self.config)
        self.side, self.heads = side, heads
        assert heads.head_size and heads.key_value_heads
        self.query_size, self.key_size = heads.count * heads.head_size, heads.key_value_heads * heads.head_size
        self.gated = not isinstance(side.ffn, Mlp)
        self.plans = self._planned(weights.layers, weights.head)
        self.memory = memory_of(self.bytes)
        self.table = np.array([plan.row() for plan in self.plans], dtype=np.int64)
        self.places = np.full((side.num_layers + 1, given.VECTORS), -1, dtype=np.int64)
        self._vectors: list[np.ndarray] = []
        self._length = 0
        with torch.no_grad():
            self._take(network)
        give_back()
        self.vectors = np.concatenate([*self._vectors, np.zeros(1, np.float32)])
        self.position, self.embedding = self._position, network.embedding

    @property
    def bytes(self) -> int:
        """What the packed matrices take."""
        last = self.plans[-1]
        return last.weights + last.weight_bytes + last.scale_bytes

    @property
    def read_bytes(self) -> int:
        """What is read of them for each given."""
        return sum(plan.weight_bytes + plan.scale_bytes for plan in self.plans)

    def _planned(self, layers: Coding, head: Coding) -> list[Packed]:
        """A place for each matrix: four of each layer, then the head."""
        hidden, up = self.config.hidden_size, padded(self.inner, layers)
        shapes = [
            (self.query_size + 2 * self.key_size, hidden),
            (hidden, self.query_size),
            (2 * up if self.gated else up, hidden),
            (hidden, up),
        ]
        plans = [planned(*shape, layers) for shape in shapes * self.side.num_layers]
        plans.append(planned(self.config.vocab_size, hidden, head))
        placed, at = [], 0
        for plan in plans:
            placed.append(Packed(plan.coding, plan.outputs, plan.inputs, at, at + plan.weight_bytes))
            at = -(-(at + plan.weight_bytes + plan.scale_bytes) // 4096) * 4096
        return placed

    def _take(self, network: NetworkModule) -> None:
        decoder = network.decoder
        assert isinstance(decoder, StackModule) and isinstance(network.head, LanguageModelHeadModule)
        self._position = decoder.position
        for number, layer in enumerate(decoder.layers):
            self._take_layer(number, layer)
            decoder.layers[number] = nn.Identity()
        self._note(-1, given.NORM_1, decoder.norm.get_parameter("weight"))
        self._note(-1, given.BIAS_1, getattr(decoder.norm, "bias", None))
        decoder.norm = nn.Identity()
        weight, bias = network.output_projection()
        pack(weight, self.plans[-1], self.memory)
        self.head_bias = np.zeros(0, np.float32) if bias is None else bias.float().numpy().copy()
        assert isinstance(self.config.head, LanguageModelHead)
        self.score_scale = self.config.hidden_size**-0.5 if self.config.head.scaled else 1.0
        self.tied = self.config.head.tied
        if self.tied:
            network.embedding.token.weight = nn.Parameter(torch.empty(0), requires_grad=False)
        else:
            if self.weights.kind != "float32":
                network.embedding.token.to(torch.bfloat16)
            network.head = None
        network.requires_grad_(False)
        for part in (network.embedding, decoder.position):
            for name, parameter in list(part.named_parameters()):  # a view would hold the whole file in memory
                kept = parameter.detach().clone() if name == "token.weight" else parameter.detach().float().clone()
                parameter.data = kept

    def _take_layer(self, number: int, layer: nn.Module) -> None:
        attention, ffn = layer.get_submodule("attention.inner"), layer.get_submodule("ffn.inner")
        assert isinstance(attention, Attention) and isinstance(ffn, MlpModule | GatedModule)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        up: tuple[Tensor, Tensor | None] = (ffn.up_proj.weight, ffn.up_proj.bias)
        if isinstance(ffn, GatedModule):
            width = self.plans[4 * number + given.UP].outputs // 2
            biases = None if up[1] is None else _alternating(ffn.gate_proj.bias, ffn.up_proj.bias, width)
            up = (_alternating(ffn.gate_proj.weight, ffn.up_proj.weight, width), biases)
        matrices: list[tuple[Tensor, Tensor | None]] = [
            (torch.cat([p.weight for p in projections]), _joined([p.bias for p in projections])),
            (attention.o_proj.weight, attention.o_proj.bias),
            up,
            (ffn.down_proj.weight, ffn.down_proj.bias),
        ]
        for place, (weight, bias) in enumerate(matrices):
            plan = self.plans[4 * number + place]
            pack(weight, plan, self.memory)
            self._note(number, given.QKV_BIAS + place, bias, plan.outputs)
        for name, scale, shift in (("attention", given.NORM_1, given.BIAS_1), ("ffn", given.NORM_2, given.BIAS_2)):
            norm = layer.get_submodule(f"{name}.norm")
            assert isinstance(norm.weight, Tensor)
            self._note(number, scale, norm.weight)
            self._note(number, shift, getattr(norm, "bias", None))
        for part, place in ((attention.q_norm, given.Q_NORM), (attention.k_norm, given.K_NORM)):
            self._note(number, place, getattr(part, "weight", None))

    def _note(self, layer: int, place: int, vector: Tensor | None, size: int = 0) -> None:
        """Keep a vector, with zeros up to `size`."""
        if vector is None:
            return
        found = np.zeros(max(size, len(vector)), np.float32)
        found[: len(vector)] = vector.float().numpy()
        self.places[layer, place], self._length = self._length, self._length + len(found)
        self._vectors.append(found)

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """(M,) tokens at their positions to (M, D), in float32."""
        if self.tied:
            plan = self.table[-1]
            found = np.empty((len(ids), plan[2]), np.float32)
            head.look_up(plan, self.memory, ids.numpy(), found)
            x = torch.from_numpy(found)[:, : self.config.hidden_size]
        else:
            x = self.embedding.token(ids).float()
        if self.embedding.scale != 1.0:
            x = x * self.embedding.scale
        at = positions[None]
        places = Places(0, at, uniform=False, chosen=True, query=at, key=at)
        embedded: Tensor = self.embedding.norm(self.position.embed(x[None], places))[0]
        return embedded

    def turns(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Cosines and sines of all places below `length`; empty without rotary positions."""
        if not isinstance(self.position, RotaryPosition):
            return np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)
        cos, sin = self.position.tables(length)
        return cos.numpy(), sin.numpy()

    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """The whole numbers and factors that the compiled step reads; those of a step are still 0."""
        heads, side = self.heads, self.side
        assert heads.head_size and heads.key_value_heads
        sizes = np.zeros(given.SIZES, dtype=np.int64)
        sizes[given.LAYERS], sizes[given.HIDDEN] = side.num_layers, self.config.hidden_size
        sizes[given.HEADS], sizes[given.GROUPS] = heads.count, heads.key_value_heads
        sizes[given.HEAD], sizes[given.HEAD_PAD] = heads.head_size, padded(heads.head_size)
        sizes[given.ROTARY] = heads.head_size if isinstance(side.position, Rotary) else 0
        sizes[given.WINDOW] = side.mask.size if isinstance(side.mask, Window) else 0
        sizes[given.NORM] = vectors.LAYER_NORM if isinstance(side.norm, LayerNorm) else vectors.RMS_NORM
        sizes[given.ACTIVATION], sizes[given.GATED] = vectors.ACTIVATIONS.index(side.ffn.activation), self.gated
        sizes[given.KEPT] = 0 if self.weights.kind == "float32" else 1
        sizes[given.QK_NORM] = heads.qk_norm is not None
        factors = np.zeros(3, dtype=np.float32)
        factors[given.EPS] = side.norm.eps
        factors[given.SCALE] = heads.head_size**-0.5 if heads.scale is None else heads.scale
        factors[given.QK_EPS] = heads.qk_norm.eps if heads.qk_norm else 0.0
        return sizes, factors


def _parts(config: Network) -> tuple[Stack, Heads, int]:
    """The decoder, its heads with every None decided, and the width of its feed-forward layer."""
    assert isinstance(config.decoder, Stack)
    side = config.decoder.filled(config.hidden_size)
    return side, side.heads, side.ffn.intermediate_size


def _joined(biases: list[Tensor | None]) -> Tensor | None:
    found = [bias for bias in biases if bias is not None]
    return torch.cat(found) if found else None


def _alternating(gate: Tensor, up: Tensor, width: int) -> Tensor:
    """16 rows of the gate, 16 of what it lets through, and so on; both with zeros up to `width` rows."""
    both = gate.new_zeros(width // 16, 2, 16, *gate.shape[1:])
    for side, part in enumerate((gate, up)):
        whole = part.new_zeros(width, *part.shape[1:])
        whole[: len(part)] = part
        both[:, side] = whole.view(width // 16, 16, *part.shape[1:])
    return both.flatten(0, 2)
