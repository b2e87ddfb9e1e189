"""The strategies as one union, chosen by `kind`; without one it is `sampling`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yuyan.config import build, did_you_mean
from yuyan.errors import ConfigError
from yuyan.generate.beam import Beam, BeamSearch
from yuyan.generate.contrastive import Contrastive, ContrastiveSearch
from yuyan.generate.sampling import Greedy, Sampling
from yuyan.generate.search import LineSearch, Search, Start

DEFAULT = "sampling"
Settings = Greedy | Sampling | Beam | Contrastive
KINDS: dict[str, type[Settings]] = {
    "greedy": Greedy, "sampling": Sampling, "beam": Beam, "contrastive": Contrastive,
}  # fmt: skip


def decoding(values: Mapping[str, Any], where: str = "generate") -> Settings:
    """The strategy that plain values say, such as `{"kind": "beam", "beams": 4}`. Raises ConfigError."""
    kind = values.get("kind", DEFAULT)
    if kind not in KINDS:
        raise ConfigError(
            f"{where}: kind: expected one of {', '.join(KINDS)}; got {kind!r}{did_you_mean(str(kind), KINDS)}"
        )
    for key in values:
        others = [name for name, one in KINDS.items() if key in one.model_fields]
        if others and kind not in others:
            default = "" if "kind" in values else ", the default"
            raise ConfigError(f"{where}: {key}: a key of kind {' or '.join(others)}; the kind here is {kind}{default}")
    return build(KINDS[kind], dict(values), where=where)


def search_for(settings: Settings, start: Start) -> Search:
    """The search that a strategy is."""
    if isinstance(settings, Beam):
        return BeamSearch(settings, start)
    if isinstance(settings, Contrastive):
        return ContrastiveSearch(settings, start)
    return LineSearch(settings, start)
