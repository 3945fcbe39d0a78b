"""Events of other kinds than attrs classes."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import attrs
import pytest

from flowstore.codec import EventCodec, EventRegistry
from flowstore.errors import InvalidEventError

msgspec = pytest.importorskip("msgspec", reason="msgspec is not installed")

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Placed:
    number: int
    at: datetime
    tags: set[str] = field(default_factory=set)


class Line(msgspec.Struct):
    item: str
    price: Decimal


class Ordered(msgspec.Struct, frozen=True):
    id: UUID
    at: datetime
    lines: list[Line]
    tags: set[str] = msgspec.field(default_factory=set)
    took: timedelta = timedelta(0)
    counts: dict[int, str] = msgspec.field(default_factory=dict)
    note: str | None = None


class Renamed(msgspec.Struct, rename="camel", tag="v2", omit_defaults=True):
    first_name: str
    last_name: str = ""


@attrs.frozen
class Wrapped:
    line: Line
    lines: list[Line]


class Money:
    """A class that neither library knows."""

    def __init__(self, cents):
        self.cents = cents

    def __eq__(self, other):
        return self.cents == other.cents

    __hash__ = None


class Paid(msgspec.Struct):
    amount: Money


class Measured(msgspec.Struct):
    values: list[float]


@pytest.fixture
def codec():
    registry = EventRegistry()
    registry.converter.register_unstructure_hook(Money, lambda money: money.cents)
    registry.converter.register_structure_hook(Money, lambda cents, _: Money(cents))
    return EventCodec(registry)


@pytest.mark.parametrize(
    "event",
    [
        Placed(1, NOON, {"b", "a"}),
        Ordered(uuid4(), NOON, [Line("a", Decimal("1.10"))], {"b", "a"}, timedelta(seconds=1.5)),
        Ordered(uuid4(), NOON, [], counts={1: "a"}),
        Renamed("Ada", "King"),
        Renamed("Ada"),
        Wrapped(Line("a", Decimal(1)), [Line("b", Decimal(2))]),
        Paid(Money(5)),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_is_written_is_read_as_the_same(codec, event):
    assert codec.decode(codec.name_of(event), codec.encode(event)) == event


def test_a_struct_means_what_msgspec_says(codec):
    assert codec.name_of(Renamed("Ada")) == "renamed"
    assert codec.encode(Renamed("Ada", "King")) == (
        '{"type":"v2","firstName":"Ada","lastName":"King"}'
    )


def test_equal_structs_are_written_alike(codec):
    tags = [str(number) for number in range(50)]
    one, two = (
        codec.encode(Ordered(UUID(int=1), NOON, [], set(order))) for order in (tags, tags[::-1])
    )
    assert one == two


def test_what_does_not_fit_a_struct_says_where(codec):
    codec.name_of(Line("a", Decimal(1)))
    with pytest.raises(InvalidEventError, match=r"doesn't fit Line.*price"):
        codec.decode("line", '{"item": "a", "price": []}')
    codec.name_of(Wrapped(Line("a", Decimal(1)), []))
    with pytest.raises(InvalidEventError, match=r"price.*@ \$\.lines\[0\]"):
        codec.decode("wrapped", '{"line": {"item": "a", "price": 1}, "lines": [{"price": []}]}')


def test_what_the_database_would_refuse_is_refused_in_structs_too(codec):
    with pytest.raises(InvalidEventError, match=r"Measured\.values\[1\] is NaN"):
        codec.encode(Measured([1.0, float("nan")]))
    with pytest.raises(InvalidEventError, match=r"Line\.item holds a NUL"):
        codec.encode(Line("\0", Decimal(1)))
