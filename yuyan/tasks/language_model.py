"""A model and its tokenizer, together: what `yuyan.load(folder)` gives.

It opens a model folder (Hugging Face layout or ours), a run, a rung of a ladder, or an adapter in PEFT's format, of any
family: decoders, encoders, both. It scores and represents texts, and continues them where it has a decoder. Training,
Python and the command line all generate through `events`, so they give the same tokens.

B texts, S and T tokens, D hidden size, V vocabulary or number of labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from yuyan.console import say, warn
from yuyan.errors import InputError
from yuyan.generate import Done, Event, Greedy, Request, Sampling, Token
from yuyan.generate.grammar import Grammars
from yuyan.generate.prefixes import Prefixes
from yuyan.generate.speculation import DraftModel
from yuyan.generate.strategy import Settings
from yuyan.generate.weights import Weights, weights_of
from yuyan.hub import read_adapter, read_model, write_model
from yuyan.hub.files import read_json
from yuyan.hub.links import refuse_links
from yuyan.hub.peft import CONFIG as ADAPTER_CONFIG
from yuyan.hub.sentence import Sentence, read_sentence, write_sentence
from yuyan.models.network import NetworkModule
from yuyan.models.ngram import NGram
from yuyan.models.surgery import without_adapters
from yuyan.nn.adapt import adapters_of
from yuyan.nn.head import LabelHead, PoolerHead
from yuyan.nn.position import Learned
from yuyan.nn.stack import Stack
from yuyan.store import publish_folder, verify, write_json
from yuyan.tasks import AnyTask, Converse
from yuyan.tasks.alignment import Alignment, alignment, attentions
from yuyan.tasks.base import Task
from yuyan.tasks.chat import Overflow, ends_of_chat
from yuyan.tasks.chat_template import ChatTemplate
from yuyan.tasks.embed import embed
from yuyan.tasks.ends import special_ids, stored_ends
from yuyan.tasks.folder import changed_task, stored_task, task_of_labels, write_task
from yuyan.tasks.infill import GAP, Filled, fill
from yuyan.tasks.model_folder import CONTEXT_FILE, framed, is_ngram, model_folder, stored_context, stored_start
from yuyan.tasks.talk import Talker
from yuyan.tasks.writing import Completion, Writer, completions, ends_of, settings_of, why_unfinished
from yuyan.tokens import Tokenizer, load_tokenizer
from yuyan.tokens.tokenizer import TEMPLATE

if TYPE_CHECKING:
    from yuyan.generate.packed import PackedDecoder


class LanguageModel:
    """`network` (a torch module, or an n-gram model), `tokenizer`, and how many tokens it reads (`context`).

    `sentence` says how a text becomes one vector, `start` is the token that a decoder with an encoder begins with, `ends`
    are tokens that end a text beside the tokenizer's, `task` is what the model was trained to answer.
    """

    def __init__(
        self, network: NetworkModule | NGram, tokenizer: Tokenizer, context: int | None, *,
        sentence: Sentence | None = None, start: int | None = None, task: AnyTask | None = None,
        ends: frozenset[int] = frozenset(),
    ):  # fmt: skip
        self.network, self.tokenizer, self.context = network, tokenizer, context
        self.sentence, self.start, self.task, self.ends = sentence, start, task, ends_of(tokenizer) | ends
        self.prefixes: Prefixes | None = None
        self.packed: PackedDecoder | None = None
        """The weights, where they are laid out for generating (`pack`)."""
        self._drafts: dict[Path, LanguageModel] = {}
        self._grammars = Grammars(tokenizer, self.ends)
        if isinstance(network, NetworkModule):
            network.eval()

    # ------------------------------------------------------------ files

    @classmethod
    def load(cls, path: str | Path, *, weights: Weights | str | Mapping[str, Any] | None = None) -> LanguageModel:
        """Open a model folder, a run folder, a rung, or an adapter; with `weights` to generate only (`pack`).

        Raises InputError, ConfigError or CheckpointCorrupt.
        """
        chosen = None if weights is None else weights_of(weights)
        model = cls._load(Path(path))
        if chosen is not None:
            model.pack(chosen)
        return model

    @classmethod
    def _load(cls, path: Path) -> LanguageModel:
        if (path / ADAPTER_CONFIG).is_file() and not (path / "config.json").is_file():
            return cls._with_adapter(path)
        folder = model_folder(path)
        refuse_links(folder)
        verify(folder, required=False)
        network = NGram.load(folder) if is_ngram(folder) else read_model(folder)
        tokenizer = load_tokenizer(folder)
        vocab_size = network.vocab_size if isinstance(network, NGram) else network.config.vocab_size
        if vocab_size < len(tokenizer):
            raise InputError(
                f"{folder}: the tokenizer has {len(tokenizer)} tokens and the model {vocab_size}; "
                "they do not belong together"
            )
        return cls(
            network, tokenizer, stored_context(folder, network), sentence=read_sentence(folder),
            start=stored_start(folder), task=stored_task(folder, network), ends=stored_ends(folder, network),
        )  # fmt: skip

    @classmethod
    def _with_adapter(cls, path: Path) -> LanguageModel:
        """The base that an adapter names, with the adapter on it."""
        base = read_json(path / ADAPTER_CONFIG).get("base_model_name_or_path")
        if not isinstance(base, str) or not Path(base).is_dir():
            raise InputError(
                f"{path}: an adapter for {base!r}, which is no folder here; open the folder of its base, "
                "and put the adapter on it with add_adapter"
            )
        model = cls.load(base)
        model.add_adapter(path)
        return model

    def add_adapter(self, folder: str | Path) -> None:
        """Put an adapter in PEFT's format on the network; `save` merges it. Raises InputError if it is for another."""
        read_adapter(self._module("take an adapter"), Path(folder))

    def save(self, folder: str | Path) -> None:
        """Write the folder, whole or not at all: weights, config, tokenizer, manifest."""
        with publish_folder(Path(folder)) as temporary:
            self.write(temporary)

    def write(self, folder: Path) -> None:
        """Write all files of the model into an existing folder."""
        self._refuse_packed("save it")
        if isinstance(self.network, NGram):
            self.network.save(folder)
        else:
            network = without_adapters(self.network) if adapters_of(self.network) else self.network
            ids = special_ids(self.tokenizer.special, self.ends, self.start)
            write_model(network, folder, special_ids=ids, context=self.context)
            if self.sentence is not None:
                write_sentence(self.sentence, folder, self.network.config.hidden_size)
        framed(self.tokenizer, self.network, self.task, self.sentence).save(folder)
        if self.task is not None:
            write_task(self.task, folder)
        start = {} if self.start is None else {"decoder_start_token_id": self.start}
        write_json(folder / CONTEXT_FILE, {"context": self.context, **start})

    def pack(self, weights: Weights | str | Mapping[str, Any]) -> None:
        """Lay out the weights for generating fast on this CPU: float32, bfloat16, int8 or int4.

        They are kept once, so from here on the model only generates. One that cannot be laid out (`why_not`) is left as
        it is, with a warning. Raises ConfigError for weights that are none, InputError for a model packed before.
        """
        from yuyan.generate.packed import PackedDecoder, why_not
        from yuyan.kernels.ready import first_time

        chosen = weights_of(weights)
        if self.packed is not None:
            raise InputError(f"weights: they are {self.packed.weights.kind} already; open the folder again")
        if why := why_not(self.network):
            warn(f"--weights {chosen.kind}: {why}; the model computes with its weights as they are stored")
            return
        if first_time():
            say("compiling the arithmetic for this processor, once: about 15 seconds")
        assert isinstance(self.network, NetworkModule)
        self.packed = PackedDecoder(self.network, chosen)

    # ------------------------------------------------------------ use

    def stream(self, prompt: str, settings: Settings | None = None, **changes: object) -> Iterator[str]:
        """Continue `prompt`, piece by piece; a piece never ends inside a character, nor shows a part of a stop string.

        Settings and errors are those of `generate`; that a text ended before it obeyed is raised behind its last piece.
        """
        count = 0
        for event in self.events(prompt, settings_of(settings, changes, one=True)):
            count += isinstance(event, Token)
            if event.text:
                yield event.text
            if isinstance(event, Done) and event.valid is False:
                raise InputError(why_unfinished(event.reason, count))

    def events(self, prompt: str, settings: Settings | None = None) -> Iterator[Event]:
        """The tokens themselves, and why they ended. With an encoder, `prompt` is the text that it reads.

        Raises InputError for a model that cannot write, and for a prompt that is too long.
        """
        engine = self.writer().engine()
        engine.add(self._request(prompt, settings or Sampling()))
        return engine.run()

    def generate(self, prompt: str, settings: Settings | None = None, **changes: object) -> str:
        """The continuation of `prompt`; changes are keys of the strategy: `temperature=0.7`, `kind="beam", beams=4`.

        `schema=`, `regex=` or `grammar=` is what the text must obey. Raises ConfigError for settings that are none,
        InputError for a model that cannot write, a prompt too long, and a text that ended before it obeyed.
        """
        return "".join(self.stream(prompt, settings, **changes))

    def complete(
        self, prompts: Sequence[str], settings: Settings | None = None, *, batch: int = 16, **changes: object
    ) -> list[list[Completion]]:
        """The texts for each prompt, as many as `n` says, with tokens, reason and log-probabilities.

        At most `batch` prompts are under way at once; what is written does not depend on it. Raises as `generate`, but
        a text that ended before it obeyed its constraint is given, and not `valid`.
        """
        if isinstance(prompts, str) or batch < 1:
            raise InputError("prompts: expected a list of texts" if batch >= 1 else f"batch: {batch}; at least 1")
        chosen, engine = settings_of(settings, changes), self.writer().engine()
        found = dict(completions(engine, (self._request(prompt, chosen) for prompt in prompts), batch))
        return [found[place] for place in range(len(prompts))]

    def chat(
        self, messages: Sequence[Any] | str, settings: Settings | None = None, *, overflow: Overflow = "error",
        **changes: object,
    ) -> str:  # fmt: skip
        """The answer to messages `[{"role": "user", "content": ...}, ...]`, or to what one user says.

        `overflow="drop"` leaves out the oldest turns of a dialogue that the model cannot read whole. Raises InputError for a
        model without a chat template, messages that do not alternate, and a dialogue that is too long.
        """
        talker = self.talker()
        chosen = talker.settings_of(settings, **changes)
        return "".join(talker.stream(talker.asked(messages, chosen, overflow).ids, chosen))

    def talker(self, system: str | None = None) -> Talker:
        """The model as one that answers, with a system text of its own. Raises ConfigError without a chat template."""
        mine = self.task if isinstance(self.task, Converse) else Converse()
        writer = Writer(
            self.network, self.tokenizer, self.context, prefixes=self.prefixes, ends=ends_of_chat(self.tokenizer) | self.ends,
            packed=self.packed,
        )  # fmt: skip
        settings = Sampling(**dict(mine.generate))
        template, said = ChatTemplate.of(self.tokenizer), system or mine.system
        return Talker(writer, template, system=said, settings=settings, draft=self._draft)

    def fill(self, text: str, settings: Settings | None = None, *, gap: str = GAP, top: int = 5) -> Filled:
        """Fill the gaps of a text with a masked encoder or a T5; `settings` say how the latter writes.

        Raises InputError for a text without a gap, and for a model that cannot fill one.
        """
        self._refuse_packed("fill gaps")
        return fill(self.network, self.tokenizer, text, gap=gap, top=top, settings=settings, start=self.start)

    def predict(self, texts: str | Mapping[str, Any] | Sequence[Any], **changes: object) -> Any:
        """The answers of the task that the model was trained for: one for a text, a list for a list.

        A question is a mapping with question and context.
        `changes` are keys of the task, such as `too_long="truncate"`. Raises InputError for a model without a task.
        """
        task = self.trained_task(changes)
        one = isinstance(texts, str | Mapping)
        answers = task.answer(self._module("answer"), task.config.records_of([texts] if one else texts))
        return answers[0] if one else answers

    def alignment(self, source: str, target: str | None = None) -> Alignment:
        """What a model with an encoder and a decoder reads of `source` as it writes each token of `target`, by default the
        text that it writes itself (greedily, or as its task does).

        Raises InputError for a model that reads no source by attention.
        """
        network = self._module("align")
        attentions(network)
        if target is None:
            target = self.generate(source, kind="greedy") if self.task is None else self.predict(source).text
        request = self.writer().request((getattr(self.task, "prompt", None) or "") + source, Greedy())
        assert request.source is not None
        return alignment(
            network, self.tokenizer, list(request.source), [*request.prompt, *self.tokenizer.encode(target)]
        )

    def trained_task(self, changes: Mapping[str, object] | None = None) -> Task:
        """The task of the model. Raises InputError for a model without one, ConfigError for changes that are none."""
        head = None if isinstance(self.network, NGram) else self.network.config.head
        if self.task is None and isinstance(head, LabelHead) and task_of_labels(head) is None:
            raise InputError("this model gives a text one number and no label: use logits")
        if self.task is None and TEMPLATE not in self.tokenizer.settings:
            raise InputError(
                "this model was trained for no task: it has no labels to answer with (yuyan train with task)"
            )
        task = changed_task(self.task or Converse(template="own"), changes or {})  # a published model that talks
        return task.build(self.tokenizer, self.context)

    def keep_prefixes(self, tokens: int) -> Prefixes:
        """From now on remember beginnings of prompts, at most so many tokens, and read them only once."""
        self.prefixes = Prefixes(tokens)
        return self.prefixes

    def writer(self) -> Writer:
        """What asks the engine for this model's texts. Raises InputError for a model that writes none."""
        return Writer(
            self.network,
            self.tokenizer,
            self.context,
            start=self.start,
            ends=self.ends,
            prefixes=self.prefixes,
            grammars=self._grammars,
            packed=self.packed,
        )

    def _request(self, prompt: str, settings: Settings) -> Request:
        return self.writer().request(prompt, settings, self._draft(settings))

    def _draft(self, settings: Settings) -> Writer | None:
        """The small model that guesses ahead, if the settings name one."""
        if not isinstance(settings, Greedy | Sampling) or not isinstance(settings.speculation, DraftModel):
            return None
        path = settings.speculation.path
        if path not in self._drafts:
            self._drafts[path] = LanguageModel.load(path)
        return self._drafts[path].writer()

    @torch.no_grad()
    def logits(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, decoder_input_ids: Tensor | None = None
    ) -> Tensor:
        """Scores of (B, T) ids: (B, T, V) of the next token, or of the hidden one where there is only an encoder.

        With both sides the decoder's, which read `decoder_input_ids`. Those of labels where the model has labels:
        (B, V) of a text, (B, T, V) of its tokens; there the decoder, if there is one, reads the text itself. Raises
        InputError for a model without scores.
        """
        network = self.network
        self._refuse_packed("give scores")
        _check_mask(attention_mask)
        if isinstance(network, NGram):
            return network.score(network.decode(input_ids, attention_mask))
        if isinstance(network.config.head, LabelHead):
            if decoder_input_ids is not None:
                both = network.encoder is not None and network.decoder is not None
                why = "to score labels the decoder reads the text itself" if both else "this model has one side only"
                raise InputError(f"decoder_input_ids: {why}; give input_ids alone")
            return network.classify(input_ids, attention_mask)
        if network.head is None or isinstance(network.config.head, PoolerHead):
            raise InputError("this model gives no scores: it has no head; use hidden or embed")
        if network.encoder is not None and network.decoder is not None and decoder_input_ids is None:
            raise InputError("decoder_input_ids: this model reads a text and writes another; give what is written")
        return network.score(self.hidden(input_ids, attention_mask, decoder_input_ids))

    @torch.no_grad()
    def hidden(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, decoder_input_ids: Tensor | None = None
    ) -> Tensor:
        """(B, T, D) hidden states of the last layer; with `decoder_input_ids` those of the decoder."""
        network = self._module("give hidden states")
        _check_mask(attention_mask)
        if decoder_input_ids is None:
            return network.read(input_ids, attention_mask)
        if network.encoder is None or network.decoder is None:
            raise InputError("decoder_input_ids: this model has one side only; give input_ids")
        memory = network.encode(input_ids, attention_mask)
        return network.decode(decoder_input_ids, memory=memory, memory_mask=attention_mask)

    def embed(self, texts: Sequence[str], *, prompt: str | None = None, batch: int = 32) -> Tensor:
        """(N, D): one vector for each text, as the folder says, else the mean of its tokens with length 1.

        `prompt` is the name of one of the folder's, `batch` how many texts are read at once. Raises InputError.
        """
        network = self._module("represent texts")
        side = network.config.encoder or network.config.decoder
        longest = None
        if isinstance(side, Stack):
            longest = side.position.max_position_embeddings if isinstance(side.position, Learned) else self.context
        sentence = self.sentence or Sentence()
        return embed(network, self.tokenizer, texts, sentence, longest=longest, prompt=prompt, batch=batch)

    def _module(self, what: str) -> NetworkModule:
        if isinstance(self.network, NGram):
            raise InputError(f"an n-gram model cannot {what}: it has counts, no layers")
        self._refuse_packed(what)
        return self.network

    def _refuse_packed(self, what: str) -> None:
        if self.packed is not None:
            raise InputError(
                f"its weights are laid out for generating only; to {what}, load the folder without weights"
            )


def _check_mask(attention_mask: Tensor | None) -> None:
    """Raise InputError for a mask of other numbers than 0 and 1, and for a row without a token: it has no scores."""
    if attention_mask is None or not attention_mask.numel():
        return
    real = attention_mask == 1
    if not bool((real | (attention_mask == 0)).all()):
        raise InputError("attention_mask: expected 1 for each token and 0 for padding")
    empty = (~real.any(-1)).nonzero()
    if len(empty):
        raise InputError(f"attention_mask: row {int(empty[0])} is padding alone; leave the row out")
