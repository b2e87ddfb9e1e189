"""Changes to a built network: more blocks, another vocabulary, adapters merged into the weights.

Each leaves a network that says the same as before (more blocks, merging) or the same of the tokens it knew (a larger
vocabulary), and keeps `config` true to the weights.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from yuyan.errors import InputError
from yuyan.models.network import NetworkModule
from yuyan.nn.adapt import Adapter, adapters_of, merge, remove_adapters
from yuyan.nn.attention import Attention
from yuyan.nn.ffn import GatedModule, MlpModule
from yuyan.nn.head import AdaptiveHeadModule, LabelHead, LanguageModelHeadModule, MaskedHeadModule, PoolerHeadModule
from yuyan.nn.initialise import Initialisation, initialise
from yuyan.nn.stack import Block, Stack, StackModule

PROBE_ROWS, PROBE_TOKENS = 2, 12


# ---------------------------------------------------------------- more blocks


def deepen(model: NetworkModule, blocks: int, side: Literal["encoder", "decoder"] | None = None) -> None:
    """Add `blocks` attention blocks, evenly among those of one side (by default the decoder, else the encoder).

    Each is a copy of the block before it whose outputs start at zero, so the network computes what it did (Wu et al.
    2024, LLaMA Pro, section 3.2). Raises InputError for a recurrent side, and for norms after the parts, where no
    block can start as the identity.
    """
    name = side or ("decoder" if model.decoder is not None else "encoder")
    stack = model.encoder if name == "encoder" else model.decoder
    if not isinstance(stack, StackModule):
        raise InputError(f"blocks cannot be added: the network has no attention blocks in its {name}")
    if stack.config.residual != "pre":
        raise InputError("blocks cannot be added: with the norm after each part, no new block starts as the identity")
    if blocks < 1 or adapters_of(stack):
        raise InputError(
            "blocks cannot be added: " + ("give at least one" if blocks < 1 else "merge the adapters first")
        )
    old = len(stack.layers)
    origins = sorted([*range(old), *((i + 1) * old // blocks - 1 if blocks <= old else i % old for i in range(blocks))])
    config = _deeper(stack.config, origins)
    assert isinstance(model.config.hidden_size, int)
    layers: list[nn.Module] = []
    for place, origin in enumerate(origins):
        fresh = place > 0 and origins[place - 1] == origin
        layers.append(
            _identity_block(stack, config, origin, model.config.hidden_size) if fresh else stack.layers[origin]
        )
    stack.layers, stack.config = nn.ModuleList(layers), config
    model.config = model.config.model_copy(update={name: config})


def _deeper(config: Stack, origins: list[int]) -> Stack:
    update: dict[str, object] = {"num_layers": len(origins)}
    if config.local:
        near = tuple(place for place, origin in enumerate(origins) if origin in config.local.layers)
        update["local"] = config.local.model_copy(update={"layers": near})
    return config.model_copy(update=update)


def _identity_block(stack: StackModule, config: Stack, origin: int, hidden_size: int) -> Block:
    source = stack.layers[origin]
    like = next(source.parameters())
    block = Block(config, hidden_size, norm_input=True).to(device=like.device, dtype=like.dtype)
    block.load_state_dict(source.state_dict(), strict=False)  # the first block may have no norm to copy
    for part in block.modules():
        output = part.o_proj if isinstance(part, Attention) else None
        output = part.down_proj if isinstance(part, MlpModule | GatedModule) else output
        if output is not None:
            for parameter in output.parameters():
                nn.init.zeros_(parameter)
    return block.train(stack.training)


# ---------------------------------------------------------------- labels


def give_labels(model: NetworkModule, head: LabelHead, seed: int) -> None:
    """Let the network score labels instead of what it scored. What fits of its old head is kept, the rest is drawn.

    A head with the same labels is kept whole, BERT's pooler as the layer before the scores.
    """
    config = model.config
    old, new = model.head, head.build(config.vocab_size, config.hidden_size, config.embedding_size)
    initialise(new, Initialisation(), seed)
    like = model.embedding.token.weight
    new.to(device=like.device, dtype=like.dtype)
    if isinstance(config.head, LabelHead) and config.head.model_copy(update={"dropout": head.dropout}) == head:
        assert old is not None
        new.load_state_dict(old.state_dict())
    elif isinstance(old, PoolerHeadModule) and head.pool == "first" and head.activation == "tanh":
        new.load_state_dict(old.state_dict(), strict=False)
    model.head, model.config = new, config.model_copy(update={"head": head})


# ---------------------------------------------------------------- another vocabulary


def resize_embeddings(model: NetworkModule, vocab_size: int) -> None:
    """Make the network know `vocab_size` tokens: new ones start as the mean of the others, last ones are cut off.

    The mean keeps a new token from drawing all probability before it is trained (Hewitt 2021). Tied scores follow the
    table; a table of their own, and biases, are treated alike. Raises InputError.
    """
    if vocab_size < 1:
        raise InputError(f"a network needs at least one token; {vocab_size} were asked for")
    head = model.head
    if isinstance(head, AdaptiveHeadModule):
        raise InputError("the vocabulary of a head of kind adaptive is divided by frequency and cannot be changed")
    output = head.output if isinstance(head, LanguageModelHeadModule | MaskedHeadModule) else None
    if isinstance(model.embedding.token, Adapter) or isinstance(output, Adapter):
        raise InputError("the vocabulary cannot be changed under an adapter: merge it first")
    table = model.embedding.token
    table.weight, table.num_embeddings = _resized(table.weight, vocab_size), vocab_size
    if output is not None:
        output.weight, output.out_features = _resized(output.weight, vocab_size), vocab_size
        if output.bias is not None:
            output.bias = _resized(output.bias, vocab_size)
    if isinstance(head, LanguageModelHeadModule | MaskedHeadModule) and head.bias is not None:
        head.bias = _resized(head.bias, vocab_size)
    model.config = model.config.model_copy(update={"vocab_size": vocab_size})


def _resized(parameter: Tensor, size: int) -> nn.Parameter:
    old = parameter.detach()
    more = old.float().mean(0, keepdim=True).to(old.dtype).expand(max(0, size - len(old)), *old.shape[1:])
    return nn.Parameter(torch.cat((old[:size], more)).clone(), requires_grad=parameter.requires_grad)


# ---------------------------------------------------------------- adapters


def fixed_scores(model: NetworkModule) -> Tensor:
    """What the network makes of the same few random texts each time: scores where it has a head, else hidden states."""
    generator, shape = torch.Generator().manual_seed(0), (PROBE_ROWS, PROBE_TOKENS)
    ids = torch.randint(0, model.config.vocab_size, shape, generator=generator).to(model.embedding.token.weight.device)
    if isinstance(model.config.head, LabelHead):
        return model.classify(ids)
    pair = model.encoder is not None and model.decoder is not None
    hidden = model.decode(ids, memory=model.encode(ids)) if pair else model.read(ids)
    return hidden if model.head is None else model.score(hidden)


def merge_adapters(model: NetworkModule, tolerance: float | None = None) -> float:
    """Merge in place after comparing the scores of fixed texts before and after; `unmerge` undoes it. Raises InputError."""
    return merge(model, lambda: fixed_scores(model), tolerance)


def without_adapters(model: NetworkModule, tolerance: float | None = None) -> NetworkModule:
    """A copy with the adapters merged into plain layers, checked; a copy as it is where there are none."""
    plain = copy.deepcopy(model)
    if adapters_of(plain):
        merge_adapters(plain, tolerance)
        remove_adapters(plain)
    for parameter in plain.parameters():
        parameter.requires_grad_(True)
    return plain
