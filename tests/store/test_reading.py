"""Reading streams, and folding them."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import attrs
import pytest

from flowstore.errors import (
    ConcurrencyError,
    InvalidEventError,
    RegistrationError,
    StreamArchivedError,
    UnknownEventTypeError,
)
from flowstore.events import NewEvent
from flowstore.projections import Lifecycle
from flowstore.store import StoreOptions, open_event_store

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@attrs.frozen
class Deposited:
    amount: int


@attrs.define
class Account:
    id: UUID
    balance: int = 0
    version: int = 0

    def apply(self, deposited: Deposited) -> None:
        self.balance += deposited.amount


@pytest.fixture
async def stream_id(store):
    """A stream of five deposits: 1, 2, 4, 8, 16, an hour apart from noon on."""
    stream_id = uuid4()
    async with store.session() as session:
        session.events.start_stream(
            stream_id,
            *(NewEvent(Deposited(2**n), timestamp=NOON + timedelta(hours=n)) for n in range(5)),
            stream_type=Account,
        )
        await session.save_changes()
    return stream_id


@pytest.mark.parametrize(
    ("asked", "versions"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"version": 2}, [1, 2]),
        ({"from_version": 4}, [4, 5]),
        ({"from_version": 2, "version": 3}, [2, 3]),
        ({"from_version": 6}, []),
        ({"version": 0}, []),
        ({"as_of": NOON + timedelta(hours=1)}, [1, 2]),
        ({"as_of": NOON - timedelta(seconds=1)}, []),
        ({"as_of": NOON + timedelta(hours=3), "from_version": 2}, [2, 3, 4]),
    ],
)
async def test_fetch_stream_reads_the_part_that_is_asked_for(store, stream_id, asked, versions):
    events = await store.session().events.fetch_stream(stream_id, **asked)
    assert [event.version for event in events] == versions


async def test_as_of_needs_a_time_zone(store, stream_id):
    with pytest.raises(InvalidEventError, match="time zone"):
        await store.session().events.fetch_stream(stream_id, as_of=NOON.replace(tzinfo=None))


async def test_an_unknown_stream_is_empty_and_has_no_state(store):
    events = store.session().events
    assert await events.fetch_stream(uuid4()) == []
    assert await events.fetch_stream_state(uuid4()) is None
    assert await events.aggregate_stream(Account, uuid4()) is None


async def test_the_state_tells_how_a_stream_stands(store, stream_id):
    state = await store.session().events.fetch_stream_state(stream_id)
    assert (state.stream_id, state.version, state.stream_type) == (stream_id, 5, "Account")
    assert (state.created, state.last_timestamp) == (NOON, NOON + timedelta(hours=4))
    assert (state.archived, state.tenant_id) == (False, None)


async def test_an_archived_stream_reads_as_empty_unless_asked_for(store, stream_id):
    async with store.session() as session:
        session.events.append(stream_id, Deposited(32))
        session.events.archive_stream(stream_id)
        await session.save_changes()
        events = session.events
        assert await events.fetch_stream(stream_id) == []
        assert len(await events.fetch_stream(stream_id, include_archived=True)) == 6
        assert await events.aggregate_stream(Account, stream_id) is None
        assert (await events.fetch_stream_state(stream_id)).archived
        with pytest.raises(StreamArchivedError):
            await events.fetch_for_writing(Account, stream_id)


async def test_archiving_an_unknown_stream_changes_nothing(store):
    async with store.session() as session:
        unknown = uuid4()
        session.events.archive_stream(unknown)
        await session.save_changes()
        assert await session.events.fetch_stream_state(unknown) is None


async def test_an_event_is_loaded_by_its_id(store, stream_id):
    events = store.session().events
    expected = (await events.fetch_stream(stream_id))[2]
    assert await events.load(expected.id) == expected
    assert await events.load(uuid4()) is None


async def test_an_aggregate_is_folded_live_to_any_version_or_time(store, stream_id):
    events = store.session().events
    assert await events.aggregate_stream(Account, stream_id) == Account(stream_id, 31, 5)
    assert await events.aggregate_stream(Account, stream_id, version=2) == Account(stream_id, 3, 2)
    at_two = NOON + timedelta(hours=2)
    assert (await events.aggregate_stream(Account, stream_id, as_of=at_two)).balance == 7


async def test_a_class_that_cannot_be_folded_is_named(store, stream_id):
    with pytest.raises(RegistrationError, match="Deposited"):
        await store.session().events.aggregate_stream(Deposited, stream_id)


async def test_an_unknown_event_type_is_an_error_that_lists_the_known(pg_dsn, store, stream_id):
    options = StoreOptions(schema=store.options.schema)
    async with open_event_store(pg_dsn, options) as stranger:
        with pytest.raises(UnknownEventTypeError, match="deposited"):
            await stranger.session().events.fetch_stream(stream_id)
        # Asking for an aggregate makes the types known that it handles.
        assert await stranger.session().events.aggregate_stream(Account, stream_id)


async def test_writing_to_a_fetched_stream_is_guarded(store, stream_id):
    async with store.session() as session:
        handle = await session.events.fetch_for_writing(Account, stream_id)
        assert (handle.aggregate.balance, handle.starting_version) == (31, 5)
        handle.append(Deposited(1))
        handle.append(Deposited(2), Deposited(3))
        assert (handle.starting_version, handle.current_version) == (5, 8)
        async with store.session() as other:
            other.events.append(stream_id, Deposited(100))
            await other.save_changes()
        with pytest.raises(ConcurrencyError) as caught:
            await session.save_changes()
    assert (caught.value.expected, caught.value.found) == (5, 6)


async def test_a_fetched_stream_that_stays_as_it_is_takes_the_events(store, stream_id):
    async with store.session() as session:
        handle = await session.events.fetch_for_writing(Account, stream_id)
        handle.append(Deposited(1))
        handle.append(Deposited(2))
        await session.save_changes()
        assert await session.events.fetch_latest(Account, stream_id) == Account(stream_id, 34, 7)


async def test_a_stream_that_did_not_exist_is_guarded_too(store):
    stream_id = uuid4()
    async with store.session() as session:
        handle = await session.events.fetch_for_writing(Account, stream_id)
        assert (handle.aggregate, handle.starting_version) == (None, 0)
        handle.append(Deposited(1))
        async with store.session() as other:
            other.events.append(stream_id, Deposited(100))
            await other.save_changes()
        with pytest.raises(ConcurrencyError) as caught:
            await session.save_changes()
    assert (caught.value.expected, caught.value.found) == (0, 1)


@pytest.mark.parametrize("enforce", [True, False])
async def test_consistency_can_be_enforced_without_appending(store, stream_id, enforce):
    unknown = uuid4()
    async with store.session() as session:
        for each in (stream_id, unknown):
            await session.events.fetch_for_writing(Account, each, enforce_consistency=enforce)
        await session.save_changes()
        assert await session.events.fetch_stream_state(unknown) is None
        await session.events.fetch_for_writing(Account, stream_id, enforce_consistency=enforce)
        async with store.session() as other:
            other.events.append(stream_id, Deposited(100))
            await other.save_changes()
        if enforce:
            with pytest.raises(ConcurrencyError):
                await session.save_changes()
        else:
            await session.save_changes()


async def test_the_latest_of_an_inline_aggregate_is_its_document(opening):
    async with opening() as store:
        store.options.projections.aggregate_streams_with(Account, lifecycle=Lifecycle.INLINE)
        stream_id = uuid4()
        async with store.session() as session:
            session.events.append(stream_id, Deposited(1))
            await session.save_changes()
            session.store(Account(stream_id, 99, 1))
            await session.save_changes()
            assert (await session.events.fetch_latest(Account, stream_id)).balance == 99
