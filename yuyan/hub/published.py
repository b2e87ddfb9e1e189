"""A published `config.json`, read so that nothing in it is overlooked.

Each key is taken once, with its type checked; a key that was neither taken nor is known to change nothing is an error
that names it, since it might make another model of the same weights.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from yuyan.config import did_you_mean
from yuyan.errors import ConfigError
from yuyan.nn.ffn import Activation

T = TypeVar("T")

INERT = frozenset(
    [
        "architectures",
        "model_type",
        "auto_map",
        "transformers_version",
        "torch_dtype",
        "dtype",
        "use_cache",
        "_name_or_path",
        "name_or_path",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "unk_token_id",
        "sep_token_id",
        "cls_token_id",
        "mask_token_id",
        "decoder_start_token_id",
        "id2label",
        "label2id",
        "num_labels",
        "problem_type",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "output_past",
        "chunk_size_feed_forward",
        "initializer_range",
        "initializer_factor",
        "gradient_checkpointing",
        "task_specific_params",
        "finetuning_task",
        "tokenizer_class",
        "max_length",
        "min_length",
        "do_sample",
        "early_stopping",
        "num_beams",
        "num_beam_groups",
        "diversity_penalty",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
        "repetition_penalty",
        "length_penalty",
        "no_repeat_ngram_size",
        "encoder_no_repeat_ngram_size",
        "bad_words_ids",
        "num_return_sequences",
        "output_scores",
        "return_dict_in_generate",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "remove_invalid_values",
        "exponential_decay_length_penalty",
        "suppress_tokens",
        "begin_suppress_tokens",
        "prefix",
        "torchscript",
        "use_bfloat16",
        "tf_legacy_loss",
        "directionality",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
        "classifier_dropout",
        "pretraining_tp",
        "_attn_implementation",
        "_attn_implementation_autoset",
        "attn_implementation",
        "use_return_dict",
        "yuyan",
    ]
)
"""Keys that say nothing about how a forward pass is computed."""

ACTIVATION_NAMES: dict[str, Activation] = {
    "relu": "relu",
    "relu2": "relu2",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
PUBLISHED_ACTIVATIONS: dict[Activation, str] = {
    "relu": "relu",
    "relu2": "relu2",
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "silu": "silu",
    "tanh": "tanh",
}


class Published:
    """The keys of one `config.json`; `where` is its path, for messages, and `names` the tensors that go with it."""

    def __init__(self, data: Mapping[str, Any], where: str, names: Collection[str] = ()):
        self.data, self.where, self.names = data, where, names
        self._taken: set[str] = set()

    def wrong(self, key: str, said: str) -> ConfigError:
        """An error about one key."""
        return ConfigError(f"{self.where}: {key}: {said}")

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The value of `key`; null is the default. Raises ConfigError if it is missing or of another type."""
        value = self.maybe(key, kind)
        if value is not None:
            return value
        if default is None:
            raise self.wrong(key, "required, and not given")
        return default

    def maybe(self, key: str, kind: type[T]) -> T | None:
        """The value of `key`, or None if it is null or missing. Raises ConfigError if it is of another type."""
        self._taken.add(key)
        value = self.data.get(key)
        if value is None:
            return None
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong(key, f"expected {kind.__name__}; got {value!r}")
        return value

    def either(self, keys: tuple[str, ...], kind: type[T]) -> T:
        """The value under the first of several spellings that is there."""
        for key in keys:
            self._taken.add(key)
        for key in keys:
            if self.data.get(key) is not None:
                return self.take(key, kind)
        raise self.wrong(keys[0], "required, and not given")

    def only(self, key: str, *supported: object) -> None:
        """Check that `key`, if it is there, has one of these values; null is always one."""
        self._taken.add(key)
        value = self.data.get(key)
        if value is not None and value not in supported:
            expected = " or ".join(repr(s) for s in supported)
            raise self.wrong(key, f"{value!r} is not supported; only {expected}")

    def ignore(self, *keys: str) -> None:
        """Keys of this family that change nothing about the scores."""
        self._taken.update(keys)

    def activation(self, key: str, default: str) -> Activation:
        """The activation under `key`."""
        name = self.take(key, str, default)
        if name not in ACTIVATION_NAMES:
            raise self.wrong(key, f"{name!r} is not supported{did_you_mean(name, ACTIVATION_NAMES)}")
        return ACTIVATION_NAMES[name]

    def architecture(self, default: str) -> str:
        """The class the folder was saved from, such as BertForMaskedLM; `default` if it is not said."""
        names = self.maybe("architectures", list) or [default]
        return str(names[0])

    def labels(self) -> tuple[str, ...]:
        """The names of the labels, in the order of their numbers."""
        named = self.maybe("id2label", dict)
        if named is None:
            return tuple(f"LABEL_{i}" for i in range(self.take("num_labels", int, 2)))
        try:
            numbered = sorted((int(number), str(label)) for number, label in named.items())
        except ValueError:
            raise self.wrong("id2label", "its keys are not numbers") from None
        if [number for number, _ in numbered] != list(range(len(numbered))) or not numbered:
            raise self.wrong("id2label", "labels are numbered from 0 without gaps")
        return tuple(label for _, label in numbered)

    def finish(self) -> None:
        """Raise ConfigError naming the keys that nobody took, unless they are inert or off."""
        left = sorted(k for k, v in self.data.items() if k not in self._taken | INERT and not _off(v))
        if left:
            raise self.wrong(left[0], f"unknown setting {self.data[left[0]]!r}; the model might need it")


def _off(value: object) -> bool:
    """Null, false, an empty list or mapping: a setting that is not used."""
    return value is None or value is False or value == [] or value == {}
