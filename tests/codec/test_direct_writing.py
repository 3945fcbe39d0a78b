"""Writing fields as they are gives what the converter gives, or leaves it to the converter."""

from dataclasses import dataclass, field, make_dataclass
from enum import StrEnum
from typing import Any, Optional
from uuid import UUID

import attrs
import pytest
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn, override
from hypothesis import given
from hypothesis import strategies as st

from flowstore.codec import EncodingLimits, EventCodec, EventRegistry, make_converter
from flowstore.codec._direct_writing import DirectWriting
from flowstore.codec._json import to_json
from flowstore.errors import FlowstoreError, InvalidEventError

pytest.importorskip("msgspec", reason="msgspec is not installed")

HINTS = st.sampled_from([str, int, bool, str | None, int | None, bool | None, Optional[str]])  # noqa: UP045 - the old way too
LIMITS = EncodingLimits(max_bytes=60)


class Odd(StrEnum):
    A = "a"


class Text(str):
    __slots__ = ()


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(2**62, 2**66),
    st.floats(),
    st.text(st.characters(), max_size=40),
    st.sampled_from(["\0", "\\u0000", "\ud800", '"\\\n\x7f\u2028é😀', "x" * 70, UUID(int=5)]),
    st.sampled_from([Odd.A, Text("t"), b"x", object]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)
NAMES = ["plain", "_private", "camelCase", "é", "class_"]


def make_class(hints: dict[str, Any], as_dataclass: bool) -> Any:
    if as_dataclass:
        return make_dataclass("Made", list(hints.items()))
    return attrs.make_class(
        "Made", {name: attrs.field(type=hint) for name, hint in hints.items()}, frozen=True
    )


def by_the_converter(converter: Converter, value: Any) -> str:
    return to_json(
        converter.unstructure(value), what="Made", limits=LIMITS, error=InvalidEventError
    )


def outcome(write: Any) -> tuple[str, str]:
    try:
        return ("written", write())
    except FlowstoreError as error:
        return ("refused", str(error))


@given(data=st.data(), as_dataclass=st.booleans())
def test_what_is_written_directly_is_what_the_converter_writes(data, as_dataclass):
    hints = data.draw(st.dictionaries(st.sampled_from(NAMES), HINTS, min_size=1, max_size=4))
    kind = make_class(hints, as_dataclass)
    registry = EventRegistry(limits=LIMITS)
    assert DirectWriting(registry.converter, LIMITS).writer(kind) is not None
    value = kind(*[data.draw(VALUES) for _ in hints])
    ours = outcome(lambda: EventCodec(registry).encode(value))
    usual = outcome(lambda: by_the_converter(make_converter(), value))
    assert ours == usual


@attrs.frozen
class Said:
    what: str
    count: int = 0


def test_an_ordinary_class_is_written_directly():
    write = DirectWriting(make_converter(), EncodingLimits()).writer(Said)
    assert write is not None
    assert write(Said('a "b"', 3)) == '{"what":"a \\"b\\"","count":3}'


@pytest.mark.parametrize("value", [float("nan"), 1.5, [1], Text("x"), Odd.A, UUID(int=1), "\0"])
def test_a_value_that_needs_a_look_is_left_to_the_converter(value):
    write = DirectWriting(make_converter(), EncodingLimits()).writer(Said)
    assert write is not None
    assert write(Said(value)) is None


def hook_for(kind: Any) -> Converter:
    converter = make_converter()
    converter.register_unstructure_hook(kind, lambda _: "hooked")
    return converter


def renamed() -> Converter:
    converter = make_converter()
    hook = make_dict_unstructure_fn(Said, converter, what=override(rename="said"))
    converter.register_unstructure_hook(Said, hook)
    return converter


def with_a_rule_for_none() -> Converter:
    converter = make_converter()
    converter.register_unstructure_hook_func(lambda kind: kind == (str | None), lambda _: "none")
    return converter


@attrs.frozen
class Perhaps:
    what: str | None


@pytest.mark.parametrize(
    ("converter", "value"),
    [
        (hook_for(str), Said("a")),
        (hook_for(int), Said("a")),
        (hook_for(Said), Said("a")),
        (hook_for(str), Perhaps("a")),
        (with_a_rule_for_none(), Perhaps("a")),
        (renamed(), Said("a")),
        (Converter(omit_if_default=True), Said("a")),
    ],
)
def test_hooks_and_options_of_the_converter_count(converter, value):
    assert DirectWriting(converter, LIMITS).writer(type(value)) is None
    text = EventCodec(EventRegistry(converter=converter, limits=LIMITS)).encode(value)
    assert text == by_the_converter(converter, value)


@attrs.frozen
class Derived:
    what: str
    length: int = attrs.field(init=False, default=4)


@attrs.frozen
class Numbered:
    size: complex


@dataclass
class Counted:
    what: str
    seen: int = field(init=False, default=0)


@attrs.frozen
class Dangling:
    what: "Nowhere"  # noqa: F821  # pyright: ignore[reportUndefinedVariable]


class Bare:
    what: str


@pytest.mark.parametrize("kind", [Derived, Numbered, Counted, Dangling, Bare, int])
def test_other_classes_are_left_to_the_converter(kind):
    assert DirectWriting(make_converter(), EncodingLimits()).writer(kind) is None
