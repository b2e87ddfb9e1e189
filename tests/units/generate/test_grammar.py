"""A text that must obey a schema, an expression or a grammar does, or says that it does not."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from contracts.sides import ALL, strong
from contracts.test_tokenizers import KINDS
from hypothesis import given, settings
from hypothesis import strategies as st

from yuyan.errors import InputError
from yuyan.generate import Beam, Contrastive, Greedy, PlainForward, Sampling
from yuyan.generate.engine import Engine, Request
from yuyan.generate.grammar import Grammars
from yuyan.generate.guess import DraftGuesser
from yuyan.generate.shape import JsonSchema, Lark, Pattern
from yuyan.generate.speculation import PromptLookup
from yuyan.models.network import NetworkModule
from yuyan.models.ngram import NGram
from yuyan.tasks.language_model import LanguageModel
from yuyan.tasks.writing import Completion
from yuyan.tokens import Tokenizer, train_tokenizer

jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("llguidance")

TEXTS = [
    "the fox, 狐狸 and 狗。",
    '{"name": "ab", "n": [1, 2.5, -30, true, null]}',
    "the fox the fox 0123456789 e+ the fox: \\ abcdefghijklmnopqrstuvwxyz",
] * 3
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 4},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "狐"]}, "maxItems": 2},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
WORDS = "(the|fox)( the| fox){2,5}"
SUM = 'start: sum\nsum: NUMBER ("+" NUMBER)*\nNUMBER: /[0-9]{1,3}/'
STRATEGIES: dict[str, Any] = {
    "greedy": Greedy(),
    "sampling": Sampling(temperature=1.0, seed=4, n=2),
    "best": Sampling(temperature=1.0, n=2, best_of=3),
    "lookup": Sampling(temperature=1.0, speculation=PromptLookup(ngram=1)),
    "beam": Beam(beams=3, n=2),
    "diverse": Beam(beams=4, groups=2, n=4),
    "contrastive": Contrastive(),
}


@cache
def tokenizer(kind: str) -> Tokenizer:
    return train_tokenizer(TEXTS, KINDS[kind].model_copy(update={"mask": False, "sentinels": 0}))


@cache
def model(name: str, kind: str = "bpe") -> LanguageModel:
    words = tokenizer(kind)
    if name == "ngram":
        special, random = words.special, np.random.default_rng(0)
        ids = random.choice([i for i in range(len(words)) if i not in special.control], 3000)
        made: Any = NGram.fit(
            ids, np.array([0, 3000]), order=2, vocab_size=len(words), bos=special.bos, eos=special.eos
        )
    else:
        made = strong(ALL[name].model_copy(update={"vocab_size": len(words)}))
    return LanguageModel(made, words, None)


def texts(one: LanguageModel, base: Any, **changes: Any) -> list[Completion]:
    (found,) = one.complete(["the fox"], base, **{"max_tokens": 1000, **changes})
    return found


def valid(completion: Completion, schema: Any) -> bool:
    jsonschema.validate(json.loads(completion.text), schema)
    return completion.valid is True and completion.reason == "stop"


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_every_strategy_obeys(strategy: str) -> None:
    base = STRATEGIES[strategy]
    for completion in texts(model("llama"), base, schema=PERSON):
        assert valid(completion, PERSON)
    for completion in texts(model("llama"), base, regex=WORDS):
        assert re.fullmatch(WORDS, completion.text) and completion.valid
    for completion in texts(model("llama"), base, grammar=SUM, max_tokens=30):
        assert (re.fullmatch(r"\d{1,3}(\+\d{1,3})*", completion.text) is not None) >= bool(completion.valid)
        assert completion.valid or completion.reason == "length"


@pytest.mark.parametrize("name", ["lstm", "ngram", "t5", "bahdanau"])
def test_every_kind_of_model_obeys(name: str) -> None:
    for strategy in ("sampling", "beam"):
        for completion in texts(model(name), STRATEGIES[strategy], schema=PERSON):
            assert valid(completion, PERSON)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_every_kind_of_tokenizer_obeys(name: str, kind: str) -> None:
    for completion in texts(model(name, kind), STRATEGIES["sampling"], regex=WORDS):
        assert re.fullmatch(WORDS, completion.text) and completion.valid
    if kind in ("bpe", "unigram", "char"):
        for completion in texts(model(name, kind), STRATEGIES["sampling"], schema=PERSON):
            assert valid(completion, PERSON)


def test_tokens_that_are_parts_of_characters() -> None:
    for seed in range(5):
        (completion,) = texts(model("llama"), Sampling(temperature=2.0, seed=seed), regex="[一-龥]{3}[😀-😆]")
        assert re.fullmatch("[一-龥]{3}[😀-😆]", completion.text) and completion.valid
        assert len(completion.ids) > 4, "bytes, not characters"


def test_the_stream_is_the_text() -> None:
    one = model("llama")
    pieces = list(one.stream("the", Sampling(seed=1), schema=PERSON, max_tokens=1000))
    assert len(pieces) > 3
    assert "".join(pieces) == one.generate("the", Sampling(seed=1), schema=PERSON, max_tokens=1000)


def test_a_draft_has_read_the_prompt_too() -> None:
    """The model as its own draft: all that it guesses holds, so a pass writes a guess and one token more."""
    one = model("llama")
    assert isinstance(one.network, NetworkModule)
    writer = one.writer()
    request = writer.request("the fox", Greedy(max_tokens=24), None)
    constraint = writer.grammars.constraint(Pattern(content="[a-z ]{24,60}"))
    draft = DraftGuesser(one.network, 3, None, len(one.tokenizer))
    engine, passes = writer.engine(), 0
    engine.add(replace(request, constraint=constraint, guesser=draft))
    while engine.busy:
        engine.step()
        passes += 1
    assert passes <= 1 + 24 / 3


names = st.sampled_from(["a", "b", "狐", "x y", 'q"'])
leaves = st.one_of(
    st.just({"type": "null"}),
    st.just({"type": "boolean"}),
    st.tuples(st.integers(-50, 50), st.integers(0, 60)).map(
        lambda pair: {"type": "integer", "minimum": pair[0], "maximum": pair[0] + pair[1]}
    ),
    st.integers(1, 9).map(lambda n: {"type": "integer", "multipleOf": n, "minimum": 0, "maximum": 10 * n}),
    st.tuples(st.integers(0, 2), st.integers(0, 2)).map(
        lambda pair: {"type": "string", "minLength": pair[0], "maxLength": sum(pair)}
    ),
    st.sampled_from(["^[a-c]{1,3}$", "^\\d{2}-\\d$", "^(狐|狗)+?$", "x[yz]{0,2}"]).map(
        lambda pattern: {"type": "string", "pattern": pattern, "maxLength": 6}
    ),
    st.lists(st.one_of(st.integers(-9, 9), st.booleans(), st.text("ab狐\n", max_size=3), st.none()), min_size=1, max_size=4).map(
        lambda values: {"enum": values}
    ),
    st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=3), st.lists(st.booleans(), max_size=2)).map(lambda value: {"const": value}),
    st.sampled_from(["date", "time", "ipv4", "uuid"]).map(lambda name: {"type": "string", "format": name}),
    st.just({"$ref": "#/$defs/shared"}),
)  # fmt: skip


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def made(parts: tuple[dict[str, Any], Any, Any]) -> dict[str, Any]:
        properties, required, rest = parts
        return {
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name in required],
            "additionalProperties": False,
            **rest,
        }

    return st.tuples(
        st.dictionaries(names, inner, max_size=3), st.sets(names, max_size=3), st.sampled_from([{}, {"title": "t"}])
    ).map(made)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.tuples(inner, st.integers(0, 1), st.integers(0, 2)).map(
            lambda t: {"type": "array", "items": t[0], "minItems": t[1], "maxItems": t[1] + t[2]}
        ),
        st.lists(inner, min_size=1, max_size=2).map(
            lambda some: {"type": "array", "prefixItems": some, "items": False, "minItems": len(some)}
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: {"anyOf": some}),
        objects(inner),
    )


schemas = st.recursive(leaves, containers, max_leaves=5).map(
    lambda schema: {**schema, "$defs": {"shared": {"type": "integer", "minimum": 1, "maximum": 12}}}
)


@settings(max_examples=40, deadline=None)
@given(schemas, st.integers(0, 1000))
def test_what_is_written_obeys_any_schema(schema: Any, seed: int) -> None:
    for completion in texts(model("llama"), Sampling(temperature=1.5, seed=seed), schema=schema, max_tokens=3000):
        assert valid(completion, schema)


# ---------------------------------------------------------------- when it cannot


def test_an_unfinished_text_is_never_passed_as_valid() -> None:
    one, long = model("llama"), "[0-9]{20}"
    for base in STRATEGIES.values():
        for completion in texts(one, base, regex=long, max_tokens=3):
            assert (completion.reason, completion.valid) == ("length", False)
            assert completion.unfinished and "after 3 tokens" in completion.unfinished
    with pytest.raises(InputError, match="after 3 tokens, before it obeyed its constraint; allow more"):
        one.generate("the", regex=long, max_tokens=3)
    given_so_far = []
    with pytest.raises(InputError, match="before it obeyed"):
        given_so_far += one.stream("the", regex=long, max_tokens=3)
    (whole,) = texts(one, Greedy(), regex="[0-9]+", max_tokens=3, min_tokens=3)
    assert (whole.reason, whole.valid) == ("length", True), "it may end there, too"
    assert texts(one, Greedy())[0].valid is None


def test_of_several_texts_those_that_obey_come_first() -> None:
    base = Sampling(temperature=1.0, n=3, best_of=12, seed=1)
    found = [completion.valid for completion in texts(model("llama"), base, regex="(0|a.{30})", max_tokens=5)]
    assert found == sorted(found, reverse=True) and any(found)


def test_no_end_mark_where_the_grammar_is_not_complete() -> None:
    words = tokenizer("bpe")
    constraint = Grammars(words, {2}).constraint(Pattern(content="ab?"))
    (a, b) = words.encode("a"), words.encode("b")
    assert not constraint.mask()[2] and not constraint.complete and constraint.mask()[a[0]]
    constraint.take(a[0])
    other = constraint.copy()
    assert constraint.mask()[2] and constraint.complete and not constraint.over
    constraint.take(b[0])
    assert constraint.over and constraint.mask().nonzero().flatten().tolist() == [2]
    assert not other.over, "a copy goes its own way"


def test_a_model_without_an_end_mark_ends_too() -> None:
    engine = Engine(PlainForward(model("llama").network), tokenizer("bpe"), ends=frozenset(), context=None)
    for base in (Greedy(), Beam(beams=2)):
        constraint = Grammars(tokenizer("bpe"), ()).constraint(Pattern(content="[ab]{4}"))
        engine.add(Request([5], base, constraint=constraint))
        *_, last = engine.run()
        assert (last.reason, last.valid) == ("stop", True)  # type: ignore[union-attr]


def test_no_control_token_and_no_unknown_one() -> None:
    words = tokenizer("word")
    end = words.special.eos
    assert end is not None
    mask = Grammars(words, {end}).constraint(Pattern(content="(.|\n)*")).mask()
    allowed = set(mask.nonzero().flatten().tolist())
    assert allowed & words.special.control == {end}
    assert words.special.unk not in allowed and len(allowed) > 10


def test_a_text_that_the_tokens_cannot_spell() -> None:
    with pytest.raises(InputError, match="regex: no text of this model's tokens can begin"):
        texts(model("llama", "char"), Greedy(), regex="ж+")
    for base in (Greedy(), Beam(beams=2)):
        (found,) = texts(model("llama", "char"), base, regex="aж")
        assert (found.reason, found.valid, found.text) == ("forbidden", False, "a")


REFUSED = [
    ({"schema": {"not": {}}}, 'schema: not supported: the keyword "not"'),
    ({"schema": {"type": "array", "uniqueItems": True}}, 'the keyword "uniqueItems"'),
    ({"schema": {"type": "string", "format": "colour"}}, "\"format\" with 'colour'"),
    ({"schema": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}, '"oneOf" .* write "anyOf"'),
    ({"schema": {"type": "object", "required": ["a"], "minProperties": 2}}, '"minProperties" above 1'),
    ({"schema": {"type": "strin"}}, "schema: .*strin"),
    ({"schema": False}, "schema: false accepts nothing"),
    ({"schema": {"properties": {"a": {"enum": [1, 9007199254740993]}}}}, "number 9007199254740993, beyond"),
    ({"schema": {"type": "integer", "minimum": 5, "maximum": 2}}, "schema: Unsatisfiable"),
    ({"schema": {"$ref": "http://example.com/x"}}, "example.com"),
    ({"schema": {"type": "string", "pattern": "(?=a)"}}, "schema: look-around"),
    ({"schema": "{"}, "schema: not JSON"),
    ({"schema": "[1]"}, "schema: expected an object"),
    ({"schema": '{"items":' * 500 + "{}" + "}" * 500}, "schema: "),
    ({"schema": '{"items":' * 20000 + "{}" + "}" * 20000}, "schema: nested too deeply"),
    ({"schema": {"enum": ["a" * 300_000]}}, "at most 262,144"),
    ({"schema": {"$ref": "#/$defs/a0", "$defs": {f"a{i}": {"$ref": f"#/$defs/a{i + 1}"} for i in range(5000)}}}, "references; at most"),
    ({"regex": "("}, "regex: unclosed group"),
    ({"regex": r"(a)\1"}, "regex: backreferences"),
    ({"regex": "(" * 5000 + "a" + ")" * 5000}, "regex: "),
    ({"grammar": "start: foo"}, "grammar: .*foo"),
    ({"grammar": "start: start"}, "grammar: no text"),
    ({"grammar": "\n".join(f"r{i}: r{i + 1}" for i in range(5000))}, "rules; at most 1,000"),
    ({"grammar": "start: " + "(" * 5000 + '"a"' + ")" * 5000}, "grammar: .*nested"),
    ({"regex": "a", "grammar": "start: A"}, "give only one"),
    ({"regex": "a", "stop": "b"}, "stop: "),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    before = time.monotonic()
    with pytest.raises(InputError, match=message) as caught:
        texts(model("llama"), Greedy(), **changes)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert time.monotonic() - before < 5


def test_an_empty_expression_is_no_expression() -> None:
    with pytest.raises(InputError, match="regex: it is empty"):
        texts(model("llama"), Greedy(), regex="")


CATASTROPHIC: Sequence[dict[str, Any]] = [
    {"regex": "(a{1,1000}){1,1000}"},
    {"regex": "(.*a){30}.{40}b"},
    {"regex": "(x+x+)+y"},
    {"regex": "(([a-z]{1,50}){1,50}){1,50}"},
    {"grammar": 'start: e\ne: e e | "a" | "b"'},
    {"schema": {"type": "array", "items": {"type": "string", "pattern": "^(.*a){9}.{20}$"}}},
    {"schema": {"enum": list(range(20000))}},
]


@pytest.mark.parametrize("changes", CATASTROPHIC, ids=range(len(CATASTROPHIC)))
def test_what_explodes_is_refused_in_time(changes: dict[str, Any]) -> None:
    before = time.monotonic()
    try:
        (found,) = texts(model("ngram"), Sampling(temperature=1.0), max_tokens=300, **changes)
    except InputError as error:
        assert "too" in str(error)
    else:
        assert found.valid or found.reason in ("length", "forbidden")
    assert time.monotonic() - before < 20, "a limit of steps; seconds leave room for a busy machine"


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(InputError, match=r"pip install 'yuyan\[constrain\]'"):
        Grammars(tokenizer("bpe"), {2}).constraint(JsonSchema(content=True))


def test_a_grammar_is_compiled_once_and_few_are_kept() -> None:
    grammars = Grammars(tokenizer("bpe"), {2})
    first, again = (grammars.constraint(Lark(content=SUM)) for _ in range(2))
    first.take(tokenizer("bpe").encode("1")[0])
    assert not again.complete and first.complete
    for number in range(40):
        grammars.constraint(Pattern(content=f"a{{{number + 1}}}"))
    assert len(grammars._compiled) == 16
