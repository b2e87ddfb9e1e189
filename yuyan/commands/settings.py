"""The parts of a run's config that say where its text comes from, how it is trained and how it is measured."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from yuyan.config import Config, Place
from yuyan.corpus.augment import Augmentation
from yuyan.corpus.pack import Documents
from yuyan.corpus.weight import ByQuality
from yuyan.errors import ConfigError
from yuyan.text import DataConfig
from yuyan.train import (
    AdamW,
    Averaging,
    Clock,
    NonFinite,
    OptimizerConfig,
    Penalty,
    Precision,
    Schedule,
    WarmupStableDecay,
)
from yuyan.train.device import Device
from yuyan.train.parallel import Auto as AutoParallel
from yuyan.train.parallel import Parallel


def seconds_of(text: str) -> float:
    """`90s`, `10m`, `1.5h` as seconds. Raises ConfigError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    if not match or float(match[1]) == 0:
        raise ConfigError(f"{text!r} is not a time; write 90s, 10m or 1.5h")
    return float(match[1]) * {"s": 1, "": 1, "m": 60, "h": 3600}[match[2]]


class From(Config):
    """Something made before, taken from its folder."""

    kind: Literal["from"] = "from"
    path: Place
    """The folder; in a file, relative to that file."""


class RecordsConfig(Config):
    """Records with named parts, one JSON object a line; `clean`, `documents` and `text_column` do not concern them."""

    fields: dict[str, str] = Field(default_factory=dict)
    """What a part is called in the files, where that is another name: {answer: response}."""
    too_long: Literal["error", "truncate"] = "error"
    """Records longer than train.context: stop and say how many, or cut them: first the beginning of the prompt, then the
    ends of the other parts."""


class RunData(DataConfig):
    """The text of a run: files to prepare, or what another run has prepared."""

    prepared: Place | None = None
    """The data folder of another run, instead of `sources`."""
    records: RecordsConfig | None = None
    """For files of records instead of texts: prompt and answer (prefix_lm); prompt, chosen and rejected (preference); query,
    document and, optional, a list of negatives (contrastive); inputs and labels (ctc). `{}` takes them as they are."""

    augment: tuple[Augmentation, ...] = ()
    """Changes at random to what is read in training, one after the other: token_dropout, delete, swap, replace."""
    sampling: ByQuality | None = None
    """How often documents are read: good ones more often, or null for each once an epoch."""

    @property
    def plain(self) -> DataConfig:
        """How the files are read, without what concerns a run."""
        return DataConfig(**{key: getattr(self, key) for key in DataConfig.model_fields})

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if bool(self.sources) == (self.prepared is not None):
            raise ValueError("give either data.sources or data.prepared")
        if self.records is not None and self.sampling is not None:
            raise ValueError("data.sampling draws documents; with data.records each record is read once an epoch")
        return self


class TrainConfig(Config):
    """How long, how fast, how exact."""

    steps: int | None = Field(None, ge=1)
    """Updates to take. Exactly one of `steps`, `epochs` and `budget`; a budget cannot be repeated bit for bit."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the training data."""
    budget: str | None = None
    """Time to train, such as 10m; the schedule follows the clock."""
    clock: Clock = "wall"
    """What a budget is counted in: time that passes, or time that the processor works for this process (cpu), which other
    programs on the machine cannot take away."""
    context: int = Field(256, ge=2)
    """Tokens of one row: how far back a Transformer can look."""
    documents: Documents = "joined"
    """Whether the documents that share a row are read as one text (joined) or each by itself (apart): then no token sees or
    predicts one of another document, positions restart, and so does the state of an LSTM."""
    batch_tokens: int = Field(4096, ge=1)
    """Tokens of one update over all processes; rounded down to whole rows of `context`, of which there is one at least."""
    micro_tokens: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    """Tokens of one forward pass, by default all of an update; fewer need less memory and change nothing else but the order
    of sums (contrastive compares the rows of a forward pass, so there they change what is learned). auto: as many as are fastest and fit into memory, found by measurement when the run starts."""
    carry_state: bool = False
    """Whether a network that carries a state takes it along to the next update, whose rows then go on where the last ones
    ended; gradients do not pass the border of a row."""
    activation_checkpointing: bool = False
    """Whether to keep only the inputs of each attention block and compute the rest again for the gradients: much less memory for up
    to a third more time, and the same result."""
    compile: bool | Literal["auto"] = False
    """Whether torch.compile joins what an attention block computes between its products. auto measures it when the run starts,
    for half a minute, and takes what is faster. On the processors that we measured it is slower than our own passes."""
    optimizer: OptimizerConfig = AdamW()
    """What turns gradients into steps."""
    schedule: Schedule = WarmupStableDecay()
    """How the learning rate moves."""
    penalty: Penalty | None = None
    """What large weights cost, beside the optimizer's decay: {l1: ...} or {l2: ...}; null is nothing."""
    average: Averaging | None = None
    """An average of the weights over the run, which is then what is measured and exported: ema, polynomial; null is none."""
    clip: float | None = Field(1.0, gt=0)
    """Largest norm of the gradient; null for none."""
    non_finite: NonFinite = "skip"
    """What to do with a batch whose loss or gradient is not a number: skip it, up to ten in a row, or stop. What it read is kept in `bad_batches.jsonl`."""
    spike: float | None = Field(6.0, gt=0)
    """From how many robust deviations above the last losses one is reported as a spike; null for none. A task has none: its small batches
    differ too much."""
    precision: Precision = "auto"
    """Number format of the computation; auto is bfloat16 where the processor has it."""
    device: Device = "auto"
    """What computes: the processor (cpu) or a GPU that PyTorch reaches by CUDA (cuda); auto is the GPU where there is one."""
    parallel: Parallel = AutoParallel()
    """How several processes share the work, where `torchrun` starts several; one process ignores it."""
    threads: int | None = Field(None, ge=1)
    """Threads to compute with; by default one a core. Another number changes the order of sums."""
    save_every: str = "60s"
    """Time between checkpoints."""
    save_steps: int | None = Field(None, ge=1)
    """Also save after every so many steps."""
    keep: int = Field(2, ge=1)
    """Checkpoints to keep."""

    @property
    def batch_rows(self) -> int:
        """Rows of one update."""
        return max(1, self.batch_tokens // self.context)

    @property
    def micro_rows(self) -> int:
        """Rows of one forward pass, as far as the config says."""
        given = self.micro_tokens if isinstance(self.micro_tokens, int) else self.batch_tokens
        return max(1, min(self.batch_tokens, given) // self.context)

    @field_validator("budget", "save_every", mode="before")
    @classmethod
    def _a_time(cls, value: object) -> object:
        if isinstance(value, int | float):
            raise ValueError(f"{value} has no unit; write {value}s, {value}m or {value}h")
        if isinstance(value, str):
            seconds_of(value)
        return value

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        given = {key: value for key in ("steps", "epochs", "budget") if (value := getattr(self, key)) is not None}
        if len(given) != 1:
            said = " and ".join(f"train.{key}={value}" for key, value in given.items()) or "none of them"
            more = "; take back the other with =null" if given else ""
            raise ValueError(f"give exactly one of train.steps, train.epochs and train.budget; there is {said}{more}")
        if "batch_tokens" in self.model_fields_set and self.batch_tokens < self.context:
            raise ValueError(
                f"train.batch_tokens={self.batch_tokens} is less than one row of train.context={self.context} tokens; give at least as many"
            )
        return self


class EvaluateConfig(Config):
    """When and on how much text to measure."""

    every: int | None = Field(None, ge=1)
    """Updates between two looks at the validation text; by default about twenty looks a run."""
    tokens: int = Field(60_000, ge=1)
    """How much of the validation text such a look reads, in pieces spread evenly; the report at the end reads all of it."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many looks without a better one."""
