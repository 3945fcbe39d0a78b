"""What is written directly is, letter for letter, what the converter writes: nested, and with hooks."""

from dataclasses import make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from typing import Any, NewType
from uuid import UUID

import attrs
import pytest
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn, override
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstore.codec import DocumentCodec, EncodingLimits, make_converter
from flowstore.codec._alike import Comparison
from flowstore.codec._direct_writing import DirectWriting, is_written_as_usual
from flowstore.codec._json import to_json
from flowstore.errors import FlowstoreError, InvalidDocumentError

pytest.importorskip("msgspec", reason="msgspec is not installed")

LIMITS = EncodingLimits(max_bytes=400, max_depth=4)


class Colour(Enum):
    RED = "red"
    BLUE = 2


class Odd(StrEnum):
    A = "a"
    B = "b"

    def __lt__(self, other):
        return str.__gt__(self, other)


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Rights(Flag):
    READ = 1
    WRITE = 2


class Priced(Enum):
    MUCH = Decimal(3)


class Later(datetime):
    __slots__ = ()


class Known(UUID):
    __slots__ = ()


class Several(list):
    __slots__ = ()


@attrs.frozen
class Inner:
    name: str
    at: datetime | None = None


@attrs.frozen
class More(Inner):
    extra: int = 3


@attrs.define
class Owner:
    id: UUID
    inner: Inner
    tags: set[str] = attrs.field(factory=set)


@attrs.define
class Tree:
    name: str
    below: "list[Tree]" = attrs.field(factory=list)


ZONES = st.sampled_from([None, UTC, timezone(timedelta(hours=-3, minutes=30)), timezone.min])
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=5) | st.sampled_from(['"\\\n\x7f\u2028é😀', "\ud800", "\0", "x" * 500]),
    int: st.integers() | st.integers(2**62, 2**66),
    bool: st.booleans(),
    float: st.floats() | st.sampled_from([0.0, -0.0, 1e16, 9999999999999998.0, 1e-4, 9e-5]),
    UUID: st.uuids(),
    datetime: st.datetimes(timezones=ZONES),
    date: st.dates(),
    time: st.times(timezones=ZONES),
    timedelta: st.timedeltas(),
    Decimal: st.decimals(allow_nan=False) | st.just(Decimal("NaN")),
    bytes: st.binary(max_size=6),
    Colour: st.sampled_from(Colour),
    Odd: st.sampled_from(Odd),
    Level: st.sampled_from(Level),
    Rights: st.sampled_from(Rights),
    Priced: st.sampled_from(Priced),
    Inner: st.builds(Inner, st.text(max_size=3), st.none() | st.datetimes()),
    Owner: st.builds(
        Owner, st.uuids(), st.builds(Inner, st.text(max_size=3)), st.sets(st.text(max_size=3))
    ),
    Tree: st.builds(Tree, st.text(max_size=3), st.lists(st.builds(Tree, st.just("leaf")))),
    Any: st.none() | st.integers() | st.uuids(),
}
HASHABLE = [str, int, bool, UUID, datetime, date, Decimal, bytes, Colour, Odd, Level, str | None]
HINTS = st.recursive(
    st.sampled_from(list(VALUES)),
    lambda inner: st.one_of(
        inner.map(lambda hint: list[hint]),
        inner.map(lambda hint: tuple[hint, ...]),
        inner.map(lambda hint: dict[str, hint]),
        inner.map(lambda hint: hint | None if hint is not Any else Any),
        st.sampled_from(HASHABLE).map(lambda hint: set[hint]),
        st.sampled_from(HASHABLE).map(lambda hint: frozenset[hint]),
        st.sampled_from([str | int, UUID | str, dict[int, str], dict[UUID, int], list, dict, set]),
        st.sampled_from([tuple[int, str], float | None, int | float, Inner | Owner]),
    ),
    max_leaves=3,
)
"""Types of fields; the last ones are those that the converter alone knows."""
ANYTHING = st.one_of(
    st.none(),
    st.floats(),
    st.sampled_from([Later(2020, 1, 2), Known(int=7), Several(["a"]), More("b"), Odd.A, Level.LOW]),
    st.sampled_from([(1, 2), ["a", 1], {"a": 1}, {1: "a"}, {"b", "a"}, {"a", 1}, frozenset("cab")]),
    st.sampled_from([Inner(b"x"), Inner("a", 3), [Inner("a"), More("b")], Decimal("NaN"), object]),
    *VALUES.values(),
)
"""Whatever else may stand in a field at run time."""


def values_of(hint):
    if hint in VALUES or hint in (list, set, dict):
        return VALUES[hint] if hint in VALUES else st.just(hint())
    origin, parts = getattr(hint, "__origin__", None), hint.__args__
    if origin is None:
        return st.one_of(*[st.none() if part is type(None) else values_of(part) for part in parts])
    if origin is dict:
        return st.dictionaries(values_of(parts[0]), values_of(parts[1]), max_size=3)
    if origin in (set, frozenset):
        return st.sets(values_of(parts[0]), max_size=4).map(origin)
    if origin is tuple and parts[1] is not Ellipsis:
        return st.tuples(*map(values_of, parts))
    return st.lists(values_of(parts[0]), max_size=3).map(origin)


def make_class(hints, *, as_dataclass):
    names = [f"{name}_{number}" for number, name in zip(range(len(hints)), ["id", "é", "_p", "q"])]  # noqa: B905 - as many as there are
    if as_dataclass:
        return make_dataclass("Made", list(zip(names, hints, strict=True)))
    fields = {name: attrs.field(type=hint) for name, hint in zip(names, hints, strict=True)}
    return attrs.make_class("Made", fields)


def outcome(write):
    try:
        return ("written", write())
    except FlowstoreError as error:
        return ("refused", type(error), str(error))


def by_the_converter(converter, value):
    """What a codec gives that knows of no direct way."""
    codec = DocumentCodec(converter, LIMITS)
    codec._writers[type(value)] = None
    return codec.encode(value)


def hook_for(kind, value="hooked"):
    converter = make_converter()
    converter.register_unstructure_hook(kind, lambda _: value)
    return converter


def from_another_converter(kind):
    """A hook that cattrs has made for a class, with another converter's hooks for its fields."""
    converter, other = make_converter(), hook_for(UUID, "another's")
    other.register_unstructure_hook(datetime, lambda _: "another's")
    converter.register_unstructure_hook(kind, make_dict_unstructure_fn(kind, other))
    return converter


def renamed(kind):
    converter = make_converter()
    name = attrs.fields(kind)[0].name
    told = {name: override(rename="renamed")}
    converter.register_unstructure_hook(kind, make_dict_unstructure_fn(kind, converter, **told))
    return converter


def factory_for(hint):
    converter = make_converter()
    converter.register_unstructure_hook_factory(
        lambda kind: kind == hint, lambda _: lambda _: "by a factory"
    )
    return converter


def mapped_by_another_converter(hint):
    converter, other = make_converter(), hook_for(UUID, "another's")
    converter.register_unstructure_hook_factory(
        lambda kind: kind == hint, lambda _: other.get_unstructure_hook(hint)
    )
    return converter


CONVERTERS = st.one_of(
    st.just(0).map(lambda _: make_converter()),
    st.sampled_from([kind for kind in VALUES if kind is not Any and kind is not object]).map(
        hook_for
    ),
    st.sampled_from([Inner, Owner, Tree]).flatmap(
        lambda kind: st.sampled_from([from_another_converter, renamed]).map(lambda make: make(kind))
    ),
    st.sampled_from([list[str], set[str], str | None, dict[str, int], Inner, datetime, UUID]).map(
        factory_for
    ),
    st.sampled_from(["omit_if_default", "use_alias"]).map(
        lambda option: make_converter().copy(**{option: True})
    ),
)


@settings(max_examples=300)
@given(data=st.data(), converter=CONVERTERS, as_dataclass=st.booleans())
def test_whatever_the_class_and_the_hooks_the_text_is_the_converters(data, converter, as_dataclass):
    hints = data.draw(st.lists(HINTS, min_size=1, max_size=4), label="fields")
    kind = make_class(hints, as_dataclass=as_dataclass)
    codec = DocumentCodec(converter, LIMITS)
    for _ in range(3):
        fields = [data.draw(values_of(hint) | ANYTHING) for hint in hints]
        value = kind(*fields)
        assert outcome(lambda: codec.encode(value)) == outcome(  # noqa: B023 - called at once
            lambda: by_the_converter(converter, value)  # noqa: B023
        )


@settings(max_examples=300)
@given(data=st.data())
def test_values_that_fit_their_fields_are_written_alike(data):
    hints = data.draw(st.lists(HINTS, min_size=1, max_size=3))
    kind = make_class(hints, as_dataclass=False)
    value = kind(*[data.draw(values_of(hint)) for hint in hints])
    converter = make_converter()
    codec = DocumentCodec(converter, LIMITS)
    assert outcome(lambda: codec.encode(value)) == outcome(
        lambda: by_the_converter(converter, value)
    )


def writer(kind, converter=None):
    return DirectWriting(converter or make_converter(), EncodingLimits()).writer(kind)


LEAVES = [UUID, datetime, date, time, timedelta, Decimal, bytes, float, Colour, Level, Odd, Inner]
EXAMPLES = {
    UUID: UUID(int=5),
    datetime: datetime(2024, 5, 6, 7, 8, tzinfo=UTC),
    date: date(2024, 5, 6),
    time: time(7, 8),
    timedelta: timedelta(seconds=3),
    Decimal: Decimal("1.50"),
    bytes: b"abc",
    float: 1.5,
    Colour: Colour.BLUE,
    Level: Level.HIGH,
    Odd: Odd.B,
    Inner: Inner("n", datetime(2024, 5, 6, tzinfo=UTC)),
}


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("around", ["leaf", "optional", "list", "tuple", "dict"])
def test_these_are_written_directly(leaf, around):
    hint, value = {
        "leaf": (leaf, EXAMPLES[leaf]),
        "optional": (leaf | None, EXAMPLES[leaf]),
        "list": (list[leaf], [EXAMPLES[leaf]]),
        "tuple": (tuple[leaf, ...], (EXAMPLES[leaf],)),
        "dict": (dict[str, leaf], {"a": EXAMPLES[leaf]}),
    }[around]
    kind = make_class([hint, int], as_dataclass=False)
    write = writer(kind)
    assert write is not None
    assert write(kind(value, 3)) == by_the_converter(make_converter(), kind(value, 3))


@pytest.mark.parametrize("member", [str, int, UUID, datetime, date, Decimal, bytes, Colour])
@pytest.mark.parametrize("kind", [set, frozenset])
def test_sets_are_written_directly_and_in_order(kind, member):
    made = make_class([kind[member]], as_dataclass=False)
    write = writer(made)
    assert write is not None
    value = made(kind([EXAMPLES[member]] if member in EXAMPLES else [member(3), member(1)]))
    assert write(value) == by_the_converter(make_converter(), value)


def test_uuids_of_a_set_stand_in_the_order_of_their_texts():
    made = make_class([set[UUID]], as_dataclass=False)
    numbers = [2**127, 1, 2**64, 77]
    text = writer(made)(made({UUID(int=number) for number in numbers}))
    assert text == '{"id_0":[' + ",".join(f'"{UUID(int=n)}"' for n in sorted(numbers)) + "]}"


Name = NewType("Name", str)


@pytest.mark.parametrize(
    "hint",
    [Any, Rights, Priced, Tree, set[Odd], set[Level], tuple[int, str], dict[UUID, int], Name],
)
def test_what_only_the_converter_knows_is_left_to_it(hint):
    assert writer(make_class([hint, int], as_dataclass=False)) is None


@pytest.mark.parametrize(
    "converter",
    [
        hook_for(UUID),
        hook_for(datetime),
        hook_for(str),
        hook_for(Inner),
        hook_for(Owner),
        factory_for(set[str]),
        factory_for(datetime | None),
        renamed(Inner),
        renamed(Owner),
        from_another_converter(Inner),
        from_another_converter(Owner),
        make_converter().copy(omit_if_default=True),
        Converter(),
    ],
)
def test_a_hook_for_any_part_of_a_class_wins(converter):
    owner = Owner(UUID(int=1), Inner("a", datetime(2024, 1, 2, tzinfo=UTC)), {"b", "a"})
    assert writer(Owner, converter) is None
    unstructured = converter.unstructure(owner)
    codec = DocumentCodec(converter)
    assert outcome(lambda: codec.encode(owner)) == outcome(
        lambda: to_json(
            unstructured, what="Owner", limits=EncodingLimits(), error=InvalidDocumentError
        )
    )


@pytest.mark.parametrize("hint", [dict[str, UUID], list[UUID], UUID | None, set[UUID]])
def test_a_collections_hook_of_another_converter_wins(hint):
    kind = make_class([hint], as_dataclass=False)
    assert writer(kind) is not None
    assert writer(kind, mapped_by_another_converter(hint)) is None


def test_a_class_that_is_hooked_like_its_base_is_left_to_the_converter():
    converter = hook_for(Inner)
    assert not is_written_as_usual(converter, More)
    assert DocumentCodec(converter).encode(More("a")) == '"hooked"'


@pytest.mark.parametrize(
    "value",
    [
        Owner(Known(int=1), Inner("a")),
        Owner(UUID(int=1), More("a")),
        Owner(UUID(int=1), Inner("a", Later(2020, 1, 1))),
        Owner(UUID(int=1), Inner(UUID(int=2))),
        Owner(UUID(int=1), Inner("a"), ["a"]),
        Owner(UUID(int=1), Inner("a"), {"a", 1}),
    ],
)
def test_a_value_of_another_type_is_left_to_the_converter(value):
    write = writer(Owner)
    assert write is not None
    assert write(value) is None


def test_depth_is_bounded_as_ever():
    made = make_class([dict[str, list[list[list[int]]]]], as_dataclass=False)
    assert DirectWriting(make_converter(), LIMITS).writer(made) is None
    value = made({"a": [[[1]]]})
    with pytest.raises(InvalidDocumentError, match="nested 5 deep"):
        DocumentCodec(make_converter(), LIMITS).encode(value)


@attrs.define
class Amount:
    value: float
    by_name: dict[str, int] = attrs.field(factory=dict)


@given(value=VALUES[float])
def test_numbers_are_written_as_python_writes_them(value):
    codec, converter = DocumentCodec(make_converter(), LIMITS), make_converter()
    assert outcome(lambda: codec.encode(Amount(value))) == outcome(
        lambda: by_the_converter(converter, Amount(value))
    )


@pytest.mark.parametrize("key", [1, 1.5, 1e16, None, True, UUID(int=1), Odd.A, (1, 2), "\ud800"])
def test_keys_that_are_no_text_are_left_to_the_converter(key):
    amount, codec, converter = (
        Amount(1.0, {key: 1}),
        DocumentCodec(make_converter()),
        make_converter(),
    )
    assert writer(Amount)(amount) is None
    assert outcome(lambda: codec.encode(amount)) == outcome(
        lambda: by_the_converter(converter, amount)
    )


def calling(inner):
    def hook(value):
        return inner(value)

    return hook


def by_default(inner):
    def hook(value, inner=inner):
        return inner(value)

    return hook


def by_global(inner):
    names = {"inner": inner}
    exec("def hook(value):\n    return [inner(each) for each in value]", names)
    return names["hook"]


class Wrapping:
    def __init__(self, inner):
        self.inner = inner

    def hook(self, value):
        return self.inner(value)


@pytest.mark.parametrize("making", [calling, by_default, by_global])
def test_hooks_are_alike_only_if_all_that_they_refer_to_is(making):
    ours, usual = make_converter(), make_converter()

    def are_alike(one, other):
        return Comparison(ours, usual).are_alike(one, other)

    assert are_alike(making(str), making(str))
    assert are_alike(making(making(str)), making(making(str)))
    assert are_alike(making(ours), making(usual))
    assert not are_alike(making(str), making(repr))
    assert not are_alike(making(making(str)), making(making(repr)))
    assert not are_alike(making(making(str)), making(str))
    assert not are_alike(making(ours), making(make_converter()))
    assert not are_alike(making(make_converter()), making(usual))
    assert not are_alike(making(Wrapping(str).hook), making(Wrapping(str).hook))
