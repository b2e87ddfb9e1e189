"""In what numbers a model's weights are kept while it generates, as a setting; `packed.py` lays them out.

Without one the model computes with the weights as they are stored. All of these serve decoders of attention layers on a
CPU. Vectors (norms, biases) stay float32; keys and values are kept in float32 or, with fewer bits, in bfloat16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from yuyan.config import Config, build, did_you_mean
from yuyan.errors import ConfigError
from yuyan.kernels.pack import Coding

Group = Literal[32, 64, 128]


class Float32(Config):
    """4 bytes a weight: exact."""

    kind: Literal["float32"] = "float32"

    @property
    def layers(self) -> Coding:
        """How the weights of the layers are kept."""
        return Coding("float32")

    @property
    def head(self) -> Coding:
        """How those of the head are, which a tied embedding shares."""
        return self.layers


class Bfloat16(Config):
    """2 bytes a weight: the 8 leading bits of each, as most published models are trained."""

    kind: Literal["bfloat16"] = "bfloat16"

    @property
    def layers(self) -> Coding:
        """How the weights of the layers are kept."""
        return Coding("bfloat16")

    @property
    def head(self) -> Coding:
        """How those of the head are, which a tied embedding shares."""
        return self.layers


class Int8(Config):
    """1 byte a weight, with a scale for each group; what is multiplied is rounded to 8 bits too."""

    kind: Literal["int8"] = "int8"
    group: Group = Field(default=64)
    """How many weights of a row share a scale."""

    @property
    def layers(self) -> Coding:
        """How the weights of the layers are kept."""
        return Coding("int8", self.group)

    @property
    def head(self) -> Coding:
        """How those of the head are, which a tied embedding shares."""
        return self.layers


class Int4(Config):
    """Half a byte a weight, with a scale for each group; the head, and an embedding tied to it, have 8 bits."""

    kind: Literal["int4"] = "int4"
    group: Group = Field(default=32)
    """How many weights of a row share a scale: fewer are more exact, and read more scales."""

    @property
    def layers(self) -> Coding:
        """How the weights of the layers are kept."""
        return Coding("int4", self.group)

    @property
    def head(self) -> Coding:
        """How those of the head are, which a tied embedding shares."""
        return Coding("int8", self.group)


Weights = Float32 | Bfloat16 | Int8 | Int4
KINDS: dict[str, type[Weights]] = {"float32": Float32, "bfloat16": Bfloat16, "int8": Int8, "int4": Int4}


def weights_of(values: Weights | str | Mapping[str, Any]) -> Weights:
    """The setting that a name (`int4`) or plain values (`{"kind": "int4", "group": 128}`) say. Raises ConfigError."""
    if isinstance(values, Float32 | Bfloat16 | Int8 | Int4):
        return values
    plain = {"kind": values} if isinstance(values, str) else dict(values)
    kind = str(plain.get("kind"))
    if kind not in KINDS:
        raise ConfigError(f"weights: expected one of {', '.join(KINDS)}; got {kind!r}{did_you_mean(kind, KINDS)}")
    return build(KINDS[kind], plain, where="weights")
