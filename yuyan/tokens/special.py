"""Control tokens by role: what they are called, and which ids they have.

A control token stands for no text. It is put into a sequence by whoever builds the sequence, never by `encode`: text that
happens to contain `</s>` or `[MASK]` is text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

PAD, BOS, EOS, UNK, MASK = "<pad>", "<s>", "</s>", "<unk>", "<mask>"
ROLES = ("bos", "eos", "pad", "unk", "mask", "cls", "sep")
NAMES = {"bos": BOS, "eos": EOS, "pad": PAD, "unk": UNK, "mask": MASK}


def sentinel(number: int) -> str:
    """The name of a sentinel, which stands for a removed span (Raffel et al. 2020, section 3.1.4)."""
    return f"<extra_id_{number}>"


@dataclass(frozen=True, slots=True)
class Special:
    """The id of each role, None where a tokenizer has no such token. `others` are control tokens without a role."""

    bos: int | None = None
    eos: int | None = None
    pad: int | None = None
    unk: int | None = None
    mask: int | None = None
    cls: int | None = None
    sep: int | None = None
    sentinels: tuple[int, ...] = ()
    others: frozenset[int] = frozenset()

    @property
    def start(self) -> int | None:
        """What a decoder with an encoder begins with where nothing else is said: pad, as in T5, else bos."""
        return self.bos if self.pad is None else self.pad

    @property
    def control(self) -> frozenset[int]:
        """Every id that stands for no text. `unk` stands for some, unless it shares its id with another role."""
        roles = (self.bos, self.eos, self.pad, self.mask, self.cls, self.sep)
        return (
            frozenset(i for i in roles if i is not None)
            | frozenset(self.sentinels)
            | (self.others - {-1 if self.unk is None else self.unk})
        )


def names_in(settings: Mapping[str, object]) -> dict[str, str]:
    """The control tokens by role in a `tokenizer_config.json` or `special_tokens_map.json`."""
    names = {}
    for role in ROLES:
        value = settings.get(f"{role}_token")
        value = value.get("content") if isinstance(value, Mapping) else value
        if isinstance(value, str):
            names[role] = value
    return names


CONVENTIONAL = {
    "bos": ("<s>", "<bos>", "<|begin_of_text|>"),
    "eos": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
    "pad": ("<pad>", "[PAD]"), "unk": ("<unk>", "[UNK]"), "mask": ("<mask>", "[MASK]"), "cls": ("[CLS]",), "sep": ("[SEP]",),
}  # fmt: skip


def conventional(added: Collection[str]) -> dict[str, str]:
    """The roles of control tokens that bear usual names, for a `tokenizer.json` that comes alone."""
    return {
        f"{role}_token": name
        for role, names in CONVENTIONAL.items()
        if (name := next((name for name in names if name in added), None)) is not None
    }


def resolve(names: Mapping[str, str], added: Mapping[int, str], token_to_id: Callable[[str], int | None]) -> Special:
    """Turn names into ids. `added` are all control tokens of the tokenizer by id."""
    ids = {role: token_to_id(name) for role, name in names.items()}
    by_name = {name: i for i, name in added.items()}
    sentinels: list[int] = []
    while (name := sentinel(len(sentinels))) in by_name:
        sentinels.append(by_name[name])
    return Special(**ids, sentinels=tuple(sentinels), others=frozenset(added))
