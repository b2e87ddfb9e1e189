"""The layers of a network under the names of its family, where one of theirs may be several of ours.

Built from the same tables as the weights (`names.py`): a layer is a tensor's name without its last part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from yuyan.hub.families import family_of
from yuyan.hub.names import Row, Transposed, TransposedThirds, their_names
from yuyan.models.network import NetworkModule
from yuyan.nn.adapt import Adapter
from yuyan.nn.head import PoolerHead

WEIGHT = ".weight"


def plain_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter of the network under the name it has without adapters; shared ones once."""
    adapters = {name: module for name, module in model.named_modules() if isinstance(module, Adapter)}
    own = {f"{name}.{leaf}" for name in adapters for leaf in ("down", "up")}
    inside = {f"{name}.base.": f"{name}." for name in adapters}
    plain: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if name not in own:
            layer = next((prefix for prefix in inside if name.startswith(prefix)), None)
            plain[name if layer is None else inside[layer] + name.removeprefix(layer)] = parameter
    return plain


class Layers:
    """Their layers and ours, for one network, adapted or not."""

    def __init__(self, model: NetworkModule):
        self.plain = plain_parameters(model)
        self._tables = {name for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
        self._tables |= {name.removesuffix(".base") for name in self._tables}
        network, found = model.config, family_of(model.config)
        self.rows: Sequence[Row] = [Row(n, n) for n in self.plain] if found is None else found[0].table(network)
        self._prefix = found[0].prefix if found else ""
        headless = network.head is None or isinstance(network.head, PoolerHead)
        self._cut = self._prefix if headless else ""
        made = their_names(self.rows, self.plain)
        self.made = {name.removeprefix(self._cut): entry for name, entry in made.items()}
        """Their tensors: the row of each, and ours in it."""
        self._copies = dict(self._existing_copies(model))

    def _existing_copies(self, model: NetworkModule) -> Iterable[tuple[str, str]]:
        """Their tensors that are copies of another here, with ours of which they are."""
        for row in self.rows:
            ours = row.names[0] if row.names else ""
            owner = getattr(model, ours.partition(".")[0], None)
            if row.tied and ours not in self.plain and owner is not None and row.tied in self.plain:
                yield row.theirs.removeprefix(self._cut), row.tied

    # ------------------------------------------------------------ ours to theirs

    def group(self, layers: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Their layers that hold any of ours, each with all of ours that are in it."""
        wanted = {layer + WEIGHT for layer in layers}
        return {
            name.removesuffix(WEIGHT): tuple(our.removesuffix(WEIGHT) for our in ours)
            for name, (_, ours) in self.made.items()
            if wanted & set(ours)
        }

    def copies_of(self, layer: str) -> list[str]:
        """Their layers that share the weights of ours."""
        return [theirs.removesuffix(WEIGHT) for theirs, ours in self._copies.items() if ours == layer + WEIGHT]

    def modules_of(self, parameters: Iterable[str]) -> list[str]:
        """Their layers that hold any of our parameters, copies included."""
        wanted = set(parameters)
        names = [name for name, (_, ours) in self.made.items() if wanted & set(ours)]
        names += [name for name, our in self._copies.items() if our in wanted]
        return list(dict.fromkeys(name.rpartition(".")[0] for name in names))

    def tensors_of(self, module: str) -> dict[str, Tensor]:
        """All tensors inside one of their layers."""
        found = {name: self.tensor_of(name) for name in self.made if name.startswith(module + ".")}
        copies = {name: self.plain[our] for name, our in self._copies.items() if name.startswith(module + ".")}
        return found | copies

    def tensor_of(self, name: str) -> Tensor:
        """One of their tensors, as ours are now."""
        row, ours = self.made[name]
        return row.change.save([self.plain[our].detach() for our in ours])

    def outputs_of(self, layer: str) -> int:
        """How many outputs one of our layers has."""
        return self.plain[layer + WEIGHT].shape[0]

    def is_table(self, module: str) -> bool:
        """Whether one of their layers is a table of vectors."""
        if module + WEIGHT in self._copies:
            return module.rpartition(".")[2] == "embed_tokens"
        return self.made[module + WEIGHT][1][0].removesuffix(WEIGHT) in self._tables

    def is_transposed(self, module: str) -> bool:
        """Whether they store its weight with the inputs first."""
        entry = self.made.get(module + WEIGHT)
        return entry is not None and isinstance(entry[0].change, Transposed | TransposedThirds)

    def shortened(self, modules: Sequence[str]) -> list[str]:
        """The last parts of the names, if they name these layers and no other; else the names."""
        leaves = {module.rpartition(".")[2] for module in modules}
        known = {name.rpartition(".")[0] for name in [*self.made, *self._copies]}
        known |= {row.theirs.rpartition(".")[0] for row in self.rows if not row.names}
        meant = {module for module in known if module.rpartition(".")[2] in leaves}
        return sorted(leaves) if meant == set(modules) else sorted(modules)

    # ------------------------------------------------------------ theirs to ours

    def known(self, tensor: str) -> str | None:
        """One of their tensors as this network's class calls it, or None if it has no such."""
        names = (tensor, self._prefix + tensor, tensor.removeprefix(self._prefix))
        return next((name for name in names if name in self.made or name in self._copies), None)

    def is_copy(self, tensor: str) -> bool:
        """Whether one of their tensors is a copy of another here."""
        return tensor in self._copies

    @property
    def copies(self) -> dict[str, str]:
        """Their tensors that are copies here, and their name of the original."""
        named = {our: name for name, (_, ours) in self.made.items() for our in ours}
        return {copy: named[our] for copy, our in self._copies.items()}
