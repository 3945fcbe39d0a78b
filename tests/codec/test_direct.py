"""Reading straight into instances gives what the converter gives, or leaves it to the converter."""

import json
from dataclasses import InitVar, dataclass, field, make_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from types import UnionType
from typing import Any, Generic, TypeVar
from uuid import UUID

import attrs
import pytest
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, override
from hypothesis import given
from hypothesis import strategies as st

from flowstore.codec import DocumentCodec, EventCodec, EventRegistry, make_converter
from flowstore.codec._direct import DirectReading
from flowstore.errors import InvalidDocumentError, InvalidEventError

pytest.importorskip("msgspec", reason="msgspec is not installed")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@attrs.frozen
class Inner:
    name: str
    colour: Colour | None = None


PLAIN = [str, int, float, bool, UUID, Any, Colour, Level, Inner]
TYPES = st.recursive(
    st.sampled_from(PLAIN),
    lambda inner: st.one_of(
        inner.map(lambda kind: list[kind]),
        inner.map(lambda kind: dict[str, kind]),
        inner.map(lambda kind: tuple[kind, ...]),
        inner.map(lambda kind: kind | None if kind is not Any else Any),
        st.sampled_from([str, int, UUID, Colour]).map(lambda kind: set[kind]),
        st.sampled_from([str, int]).map(lambda kind: frozenset[kind]),
    ),
    max_leaves=4,
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.uuids().map(str),
    st.uuids().map(lambda value: value.hex),
    st.sampled_from(["red", "blue", "green", "", "1", "true", "NaN", "null"]),
    st.sampled_from([1, 2, 3, 1.0, -0.0, 2**63, 2**64, 10**30, 1e308]),
)


def parts_of(inner):
    return st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.fixed_dictionaries({"name": inner}, optional={"colour": inner, "more": inner}),
    )


VALUES = st.recursive(SCALARS, parts_of, max_leaves=6)


def fitting(kind):
    """Draw JSON that fits a type, for nearly none of what is drawn blindly would."""
    fixed = {
        str: st.text(),
        int: st.integers(),
        float: st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70),
        bool: st.booleans(),
        UUID: st.uuids().map(str),
        Colour: st.sampled_from(["red", "blue", "green"]),
        Level: st.sampled_from([1, 2, 3]),
        Any: VALUES,
        type(None): st.none(),
    }
    if kind is Inner:
        return st.fixed_dictionaries(
            {"name": st.text()}, optional={"colour": st.sampled_from(["red", "pink", None])}
        )
    if kind in fixed:
        return fixed[kind]
    parts = kind.__args__
    if isinstance(kind, UnionType):
        return st.one_of(*(fitting(part) for part in parts))
    if kind.__origin__ is dict:
        return st.dictionaries(st.text(max_size=3), fitting(parts[1]), max_size=3)
    return st.lists(fitting(parts[0]), max_size=3)


def exact(value):
    """Give a value with the types of all its parts, since 1 == True == 1.0."""
    if attrs.has(type(value)) or hasattr(value, "__dataclass_fields__"):
        names = sorted(
            field.name for field in getattr(type(value), "__attrs_attrs__", ())
        ) or sorted(value.__dataclass_fields__)
        return type(value), [(name, exact(getattr(value, name))) for name in names]
    if isinstance(value, dict):
        return dict, [(key, exact(part)) for key, part in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [exact(part) for part in value]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(map(repr, map(exact, value)))
    return type(value), repr(value)


def make_class(kinds, *, defaults, as_dataclass):
    names = [f"f{index}" for index in range(len(kinds))]
    if as_dataclass:
        return make_dataclass(
            "Drawn",
            [
                (name, kind, field(default=None)) if defaults else (name, kind)
                for name, kind in zip(names, kinds, strict=True)
            ],
        )
    default = None if defaults else attrs.NOTHING
    fields = {
        name: attrs.field(type=kind, default=default)
        for name, kind in zip(names, kinds, strict=True)
    }
    return attrs.make_class("Drawn", fields, frozen=True)


@given(data=st.data())
def test_what_is_read_directly_is_what_the_converter_reads(data):
    kinds = data.draw(st.lists(TYPES, min_size=1, max_size=3), label="types")
    kind = make_class(
        kinds, defaults=data.draw(st.booleans()), as_dataclass=data.draw(st.booleans())
    )
    read = DirectReading(make_converter()).reader(kind)
    assert read is not None
    whole = {f"f{index}": fitting(one) | VALUES for index, one in enumerate(kinds)}
    value = data.draw(
        st.fixed_dictionaries({}, optional={**whole, "unknown": VALUES}), label="JSON"
    )
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    try:
        found = read(text)
    except (ValueError, UnicodeEncodeError):
        return
    assert exact(found) == exact(make_converter().structure(json.loads(text), kind))


class TestWhatIsLeftToTheConverter:
    @staticmethod
    def reader(kind, converter=None):
        return DirectReading(converter or make_converter()).reader(kind)

    def test_a_class_with_a_hook_of_its_own(self):
        converter = make_converter()
        converter.register_structure_hook(Inner, lambda value, _: Inner(value["name"].upper()))
        assert self.reader(Inner, converter) is None
        registry = EventRegistry(converter=converter)
        registry.add_types(Inner)
        assert EventCodec(registry).decode("inner", '{"name":"a"}') == Inner("A")

    @pytest.mark.parametrize("kind", [str, UUID, Colour])
    def test_a_class_that_holds_a_type_with_a_hook(self, kind):
        converter = make_converter()
        converter.register_structure_hook(kind, lambda value, _: value)
        holder = attrs.make_class("Holder", {"part": attrs.field(type=kind)})
        assert self.reader(holder) is not None
        assert self.reader(holder, converter) is None

    def test_a_class_that_holds_a_collection_with_a_hook(self):
        converter = make_converter()
        converter.register_structure_hook_func(
            lambda kind: kind == list[str], lambda value, _: value
        )
        holder = attrs.make_class("Holder", {"part": attrs.field(type=list[str])})
        assert self.reader(holder) is not None
        assert self.reader(holder, converter) is None

    def test_a_class_that_holds_one_with_a_renamed_field(self):
        converter = make_converter()
        renamed = make_dict_structure_fn(Inner, converter, name=override(rename="called"))
        converter.register_structure_hook(Inner, renamed)
        assert self.reader(attrs.make_class("H", {"i": attrs.field(type=Inner)}), converter) is None

    def test_a_class_whose_hook_forbids_unknown_keys(self):
        converter = make_converter()
        strict = make_dict_structure_fn(Inner, converter, _cattrs_forbid_extra_keys=True)
        converter.register_structure_hook(Inner, strict)
        assert self.reader(Inner, converter) is None

    def test_everything_when_the_converter_is_of_another_kind_or_has_options(self):
        assert self.reader(Inner, Converter()) is None
        strict = make_converter()
        strict.forbid_extra_keys = True
        assert self.reader(Inner, strict) is None

    def test_fields_that_are_converted_made_by_a_method_or_not_given(self):
        @attrs.frozen
        class Converted:
            number: int = attrs.field(converter=int)

        @attrs.frozen
        class Dependent:
            one: int
            two: int = attrs.field(default=attrs.Factory(lambda self: self.one, takes_self=True))

        @attrs.define
        class Computed:
            one: int
            two: int = attrs.field(init=False, default=0)

        @attrs.frozen
        class Private:
            _one: int

        for kind in (Converted, Dependent, Computed, Private):
            assert self.reader(kind) is None, kind

    def test_classes_that_make_themselves(self):
        @attrs.define(init=False)
        class Own:
            one: int

            def __init__(self, one):
                self.one = one + 1

        @attrs.define
        class Before:
            one: int

            def __attrs_pre_init__(self):
                pass

        @dataclass(init=False)
        class OwnToo:
            one: int

            def __init__(self, one):
                self.one = one + 1

        @dataclass
        class WithInitVar:
            one: int
            two: InitVar[int]

            def __post_init__(self, two):
                self.one += two

        class Heir(Inner):
            def __init__(self, name, colour=None):
                super().__init__(name + "!", colour)

        @attrs.frozen
        class Singleton:
            one: int

            def __new__(cls, *_, **__):
                return object.__new__(cls)

        for kind in (Own, Before, OwnToo, WithInitVar, Heir, Singleton):
            assert self.reader(kind) is None, kind

    def test_types_that_the_two_read_differently(self):
        class Mixed(Enum):
            ONE = 1
            TEXT = "1"

        class Lenient(Enum):
            ONE = 1

            @classmethod
            def _missing_(cls, _):
                return cls.ONE

        item = TypeVar("item")

        @attrs.frozen
        class Box(Generic[item]):
            inside: item

        kinds = (
            Decimal,
            datetime,
            date,
            timedelta,
            bytes,
            Mixed,
            Lenient,
            int | str,
            Inner | Private,
            Box[int],
        )
        for kind in (*kinds, dict[int, str], tuple[int, str], "Unknown"):
            assert self.reader(attrs.make_class("H", {"it": attrs.field(type=kind)})) is None, kind


@attrs.frozen
class Private:
    secret: str


@attrs.define
class Counted:
    id: int
    tags: set[str] = attrs.field(factory=set)
    number: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    seen: list[str] = attrs.field(factory=list)

    def __attrs_post_init__(self):
        self.seen.append("after")


def test_validators_and_what_comes_after_init_are_kept():
    codec = DocumentCodec(make_converter())
    assert codec.decode(Counted, '{"id":1,"tags":["a"]}') == Counted(1, {"a"})
    assert codec.decode(Counted, '{"id":1}').seen == ["after"]
    with pytest.raises(InvalidDocumentError, match="number"):
        codec.decode(Counted, '{"id":1,"number":0}')


def test_what_the_converter_would_coerce_is_coerced():
    assert DocumentCodec(make_converter()).decode(Counted, '{"id":"7","number":2.0}').id == 7


def test_what_fits_neither_is_told_in_the_converters_words():
    registry = EventRegistry()
    registry.add_types(Inner)
    with pytest.raises(InvalidEventError, match=r"'inner' doesn't fit Inner: .*name"):
        EventCodec(registry).decode("inner", "{}")
    with pytest.raises(InvalidEventError, match="isn't JSON"):
        EventCodec(registry).decode("inner", '{"name":')
