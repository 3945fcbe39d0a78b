"""What is encoded is decoded as the same value."""

import dataclasses
import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from uuid import UUID

import attrs
from hypothesis import given
from hypothesis import strategies as st

from flowstore.codec import DocumentCodec, EventCodec, EventRegistry, make_converter


class Colour(Enum):
    RED = "red"
    THREE = 3


@attrs.frozen
class Point:
    x: int
    y: int


@attrs.frozen
class Name:
    text: str


@dataclasses.dataclass(frozen=True)
class Leg:
    length: Decimal
    points: tuple[Point, ...]


@attrs.frozen
class EverythingHappened:
    id: UUID
    at: datetime
    on: date
    clock: time
    lasted: timedelta
    price: Decimal
    colour: Colour
    tags: set[str]
    ids: frozenset[UUID]
    points: set[Point]
    pair: tuple[int, str]
    legs: list[Leg]
    blob: bytes
    either: Point | Name
    scalar: int | str | bool | None
    maybe: datetime | None
    by_id: dict[UUID, int]
    by_number: dict[int, Point]
    ratio: float


zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
points = st.builds(Point, st.integers(), st.integers())
everything = st.builds(
    EverythingHappened,
    id=st.uuids(),
    at=st.datetimes(timezones=zones),
    on=st.dates(),
    clock=st.times(),
    lasted=st.timedeltas(),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    colour=st.sampled_from(Colour),
    tags=st.sets(texts, max_size=3),
    ids=st.frozensets(st.uuids(), max_size=3),
    points=st.sets(points, max_size=3),
    pair=st.tuples(st.integers(), texts),
    legs=st.lists(
        st.builds(
            Leg,
            st.decimals(allow_nan=False, allow_infinity=False),
            st.lists(points, max_size=2).map(tuple),
        ),
        max_size=2,
    ),
    blob=st.binary(max_size=8),
    either=st.one_of(points, st.builds(Name, texts)),
    scalar=st.one_of(st.integers(), texts, st.booleans(), st.none()),
    maybe=st.none() | st.datetimes(timezones=zones),
    by_id=st.dictionaries(st.uuids(), st.integers(), max_size=2),
    by_number=st.dictionaries(st.integers(), points, max_size=2),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
)


@given(everything)
def test_an_event_comes_back_as_it_was(event):
    codec = EventCodec(EventRegistry())
    name, text = codec.name_of(event), codec.encode(event)
    assert codec.decode(name, text) == event
    assert codec.decode(name, text.encode()) == event


@given(everything)
def test_a_document_comes_back_as_it_was(document):
    codec = DocumentCodec(make_converter())
    assert codec.decode(EverythingHappened, codec.encode(document)) == document


@given(st.dictionaries(texts, st.integers() | texts | st.lists(st.booleans(), max_size=2)))
def test_headers_come_back_as_they_were(headers):
    codec = EventCodec(EventRegistry())
    assert codec.decode_headers(codec.encode_headers(headers)) == headers


@attrs.frozen
class Tagged:
    tags: set[str]


@given(st.sets(texts, min_size=2), st.randoms())
def test_equal_sets_are_written_alike(tags, random):
    shuffled = sorted(tags)
    random.shuffle(shuffled)
    codec = EventCodec(EventRegistry())
    text = codec.encode(Tagged(set(shuffled)))
    assert json.loads(text)["tags"] == sorted(tags)


def test_sets_of_objects_are_written_in_one_order():
    codec = EventCodec(EventRegistry())

    @attrs.frozen
    class Visited:
        points: set[Point]

    there = codec.encode(Visited({Point(number, 0) for number in range(20)}))
    back = codec.encode(Visited({Point(number, 0) for number in reversed(range(20))}))
    assert there == back


def test_a_hook_of_ones_own_takes_over():
    registry = EventRegistry()
    registry.converter.register_unstructure_hook(Name, lambda name: name.text)
    registry.converter.register_structure_hook(Name, lambda text, _: Name(text))

    @attrs.frozen
    class Renamed:
        name: Name

    codec = EventCodec(registry)
    text = codec.encode(Renamed(Name("x")))
    assert json.loads(text) == {"name": "x"}
    assert codec.decode(codec.name_of(Renamed(Name("x"))), text) == Renamed(Name("x"))
