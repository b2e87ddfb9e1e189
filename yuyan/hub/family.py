"""What a family is: a function from their config to ours, one back, and a table of names.

`write` may be hopeful: a family can express a network if and only if reading what it wrote gives the same network.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from yuyan.config import dump
from yuyan.errors import ConfigError
from yuyan.hub.names import Row
from yuyan.hub.published import Published
from yuyan.models.network import Network


@dataclass(frozen=True)
class Family:
    """One published architecture."""

    model_type: str
    """What `config.json` calls it."""
    read: Callable[[Published], Network]
    """Their config as ours."""
    write: Callable[[Network], dict[str, Any] | None]
    """Ours as theirs; None when it is plainly another family's."""
    table: Callable[[Network], Sequence[Row]]
    """The names of the tensors."""
    prefix: str
    """What names begin with in a model with a head, and lack in one without."""

    def network(self, data: dict[str, Any], where: str, names: Collection[str] = ()) -> Network:
        """Their config as ours, with every None decided; `names` are the tensors that come with it.

        Raises ConfigError naming the key that cannot be had.
        """
        published = Published(data, where, names)
        try:
            network = self.read(published)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"{where}: {self.model_type}: {place}: {first['msg']}") from None
        published.finish()
        return network.filled()


def comparable(network: Network) -> Any:
    """What decides the scores: the config without its dropouts."""
    return _without_dropout(dump(network.filled()))


def _without_dropout(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_dropout(value) for key, value in data.items() if not key.endswith("dropout")}
    return data
