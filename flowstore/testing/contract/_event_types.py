# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Which types events have, what they are called, and how old ones are read."""

import enum
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import attrs
import pytest

from flowstore.daemon import Store
from flowstore.errors import InvalidEventError, RegistrationError, UnknownEventTypeError
from flowstore.events import RawEvent
from flowstore.store import StoreOptions
from flowstore.testing.contract._domain import Account, Deposited, Opened, commit, read, values
from flowstore.testing.contract._fixtures import Capability, OpenStore, needs


class Colour(enum.Enum):
    """An enum in an event."""

    RED = "red"


@attrs.frozen
class Inner:
    """A value in an event."""

    number: int
    maybe: str | None = None


@attrs.frozen
class Everything:
    """An event with a field of every kind."""

    text: str
    number: int
    real: float
    flag: bool
    nothing: None
    identity: UUID
    money: Decimal
    day: date
    moment: datetime
    span: timedelta
    colour: Colour
    inner: Inner
    several: list[Inner]
    pair: tuple[int, str]
    names: dict[str, int]
    unique: set[str]
    raw: bytes


EVERYTHING = Everything(
    "☃ \" \\ ' \n \u2028", 2**53 + 1, -0.1, True, None, uuid4(), Decimal("1.10"),  # noqa: FBT003
    date(2020, 2, 29), datetime(2020, 1, 1, 1, 1, 1, 1, UTC), timedelta(days=1, microseconds=3),
    Colour.RED, Inner(1), [Inner(2, "x"), Inner(3)], (1, "a"), {"b": 2}, {"q", "p"}, b"\x00\xff",
)  # fmt: skip


@attrs.frozen
class PaidOld:
    """What Paid was once."""

    cents: int


@attrs.frozen
class Paid:
    """What it is now."""

    cents: int
    currency: str


@attrs.frozen
class Renamed:
    """A type that was called something else."""

    name: str


def another_deposited() -> type:
    """Make another type of the same name."""

    @attrs.frozen
    class Deposited:
        euros: int

    return Deposited


class TestEventTypes:
    async def test_an_event_is_read_as_it_was_written(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, EVERYTHING)
        assert await values(store, stream) == [EVERYTHING]

    async def test_appending_makes_a_type_known(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Renamed("x"))
        assert await values(store, stream) == [Renamed("x")]

    async def test_an_alias_is_the_stored_name(self, open_store_for: OpenStore) -> None:
        options = StoreOptions()
        options.events.alias(Renamed, "named")
        stream = uuid4()
        async with open_store_for(options) as store:
            await commit(store, stream, Renamed("x"))
            [event] = await read(store, stream)
        assert event.type_name == "named"
        assert event.data == Renamed("x")

    def test_two_types_under_one_name_are_refused(self) -> None:
        options = StoreOptions()
        options.events.add_types(Deposited)
        with pytest.raises(RegistrationError):
            options.events.add_types(another_deposited())

    def test_an_alias_resolves_two_types_of_one_name(self) -> None:
        options = StoreOptions()
        other = another_deposited()
        options.events.alias(other, "other_deposited")
        options.events.add_types(Deposited, other)

    def test_an_alias_that_is_taken_is_refused(self) -> None:
        options = StoreOptions()
        options.events.add_types(Deposited)
        with pytest.raises(RegistrationError):
            options.events.alias(Renamed, "deposited")

    def test_adding_a_type_twice_is_no_error(self) -> None:
        options = StoreOptions()
        options.events.add_types(Deposited)
        options.events.add_types(Deposited, Opened)


@needs(Capability.REOPENING)
class TestTypesOfAnotherProcess:
    async def test_an_unknown_type_is_an_error_that_names_it(
        self, open_store_for: OpenStore
    ) -> None:
        stream = uuid4()
        async with open_store_for(StoreOptions()) as store:
            await commit(store, stream, Renamed("x"))
        async with open_store_for(StoreOptions()) as store:
            with pytest.raises(UnknownEventTypeError) as caught:
                await read(store, stream)
        assert caught.value.type_name == "renamed"

    async def test_an_unknown_type_is_read_raw_where_that_was_chosen(
        self, open_store_for: OpenStore
    ) -> None:
        stream = uuid4()
        async with open_store_for(StoreOptions()) as store:
            await commit(store, stream, Renamed("x"), Deposited(5))
        options = StoreOptions()
        options.events.unknown_types = "raw"
        async with open_store_for(options) as store:
            account = await store.session().events.aggregate_stream(Account, stream)
            assert account is not None
            assert account.balance == 5
            [raw, known] = await read(store, stream)
            assert (raw.type_name, raw.data) == ("renamed", RawEvent("renamed", {"name": "x"}))
            assert known.data == Deposited(5)
            page = await store.fetch_page(0, await store.high_water())
            assert [event.data for event in page.events] == [raw.data, known.data]
            assert not page.failures

    async def test_a_raw_event_becomes_one_of_its_type_when_that_is_known(
        self, open_store_for: OpenStore
    ) -> None:
        stream = uuid4()
        async with open_store_for(StoreOptions()) as store:
            await commit(store, stream, Renamed("x"))
        options = StoreOptions()
        options.events.unknown_types = "raw"
        async with open_store_for(options) as store:
            assert await values(store, stream) == [RawEvent("renamed", {"name": "x"})]
            await commit(store, stream, Renamed("y"))
            assert await values(store, stream) == [Renamed("x"), Renamed("y")]

    async def test_raw_events_are_neither_masked_nor_compacted(
        self, open_store_for: OpenStore
    ) -> None:
        stream = uuid4()
        async with open_store_for(StoreOptions()) as store:
            await commit(store, stream, Deposited(5), Renamed("x"))
        options = StoreOptions()
        options.events.unknown_types = "raw"
        options.events.add_types(Deposited)
        options.events.mask(Deposited, lambda _: Deposited(0))
        async with open_store_for(options) as store:
            with pytest.raises(UnknownEventTypeError, match="renamed"):
                await store.mask_stream(stream)
            async with store.session() as session:
                with pytest.raises(UnknownEventTypeError, match="renamed"):
                    await session.events.compact_stream(Account, stream)
            assert await values(store, stream) == [
                Deposited(5),
                RawEvent("renamed", {"name": "x"}),
            ]

    async def test_a_raw_event_is_not_appended(self, store: Store) -> None:
        async with store.session() as session:
            with pytest.raises(InvalidEventError, match="renamed"):
                session.events.append(uuid4(), RawEvent("renamed", {"name": "x"}))

    async def test_an_added_type_is_known(self, open_store_for: OpenStore) -> None:
        stream = uuid4()
        async with open_store_for(StoreOptions()) as store:
            await commit(store, stream, Renamed("x"))
        options = StoreOptions()
        options.events.add_types(Renamed)
        async with open_store_for(options) as store:
            assert await values(store, stream) == [Renamed("x")]

    async def test_a_registered_projection_makes_its_types_known(
        self, open_store_for: OpenStore
    ) -> None:
        stream = uuid4()
        async with open_store_for(StoreOptions()) as store:
            await commit(store, stream, Opened("Ada"))
        options = StoreOptions()
        options.projections.aggregate_streams_with(Account)
        async with open_store_for(options) as store:
            assert await values(store, stream) == [Opened("Ada")]

    async def test_live_aggregation_needs_no_registration(self, open_store_for: OpenStore) -> None:
        stream = uuid4()
        async with open_store_for(StoreOptions()) as store:
            await commit(store, stream, Opened("Ada"), Deposited(3))
        async with open_store_for(StoreOptions()) as store, store.session() as session:
            account = await session.events.aggregate_stream(Account, stream)
        assert account.balance == 3

    async def test_an_upcaster_lifts_what_was_stored(self, open_store_for: OpenStore) -> None:
        stream = uuid4()
        old = StoreOptions()
        old.events.alias(PaidOld, "paid")
        async with open_store_for(old) as store:
            await commit(store, stream, PaidOld(500))

        def lift(data: dict[str, Any]) -> dict[str, Any]:
            return {**data, "currency": "EUR"}

        new = StoreOptions()
        new.events.alias(Paid, "paid_2")
        new.events.upcast("paid", Paid, lift)
        async with open_store_for(new) as store:
            await commit(store, stream, Paid(7, "USD"))
            assert await values(store, stream) == [Paid(500, "EUR"), Paid(7, "USD")]

    async def test_a_field_added_with_a_default_needs_no_upcaster(
        self, open_store_for: OpenStore
    ) -> None:
        @attrs.frozen
        class Grown:
            cents: int
            note: str = "none"

        stream = uuid4()
        old, new = StoreOptions(), StoreOptions()
        old.events.alias(PaidOld, "paid")
        new.events.alias(Grown, "paid")
        async with open_store_for(old) as store:
            await commit(store, stream, PaidOld(500))
        async with open_store_for(new) as store:
            assert await values(store, stream) == [Grown(500, "none")]
