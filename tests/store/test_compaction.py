"""Putting one event in the place of many."""

from datetime import timedelta
from uuid import UUID, uuid4

import attrs
import pytest

from flowstore.errors import (
    ConcurrencyError,
    EventIdConflictError,
    InvalidEventError,
    StreamArchivedError,
)
from flowstore.events import Archived, Compacted, NewEvent
from flowstore.store import StoreOptions, open_event_store


@attrs.frozen
class Deposited:
    amount: int
    by: str = ""


@attrs.frozen
class Closed:
    pass


@attrs.define
class Account:
    id: UUID
    balance: int = 0
    by: set[str] = attrs.field(factory=set)
    version: int = 0

    def apply(self, deposited: Deposited) -> None:
        self.balance += deposited.amount
        self.by.add(deposited.by)

    def should_delete(self, _: Closed) -> bool:
        return True


@attrs.define
class Other:
    id: UUID

    def apply(self, _: Deposited) -> None:
        pass


async def append(store, stream_id, *events):
    async with store.session() as session:
        session.events.append(stream_id, *events)
        await session.save_changes()


async def compact(store, stream_id, aggregate=Account, **how):
    async with store.session() as session:
        await session.events.compact_stream(aggregate, stream_id, **how)
        await session.save_changes()


async def fetch(store, stream_id, **asked):
    return await store.session().events.fetch_stream(stream_id, **asked)


@pytest.fixture
async def stream_id(store):
    stream_id = uuid4()
    await append(store, stream_id, *(Deposited(2**n, by=f"p{n % 2}") for n in range(5)))
    return stream_id


async def test_one_event_stands_for_all_at_the_place_of_the_last(store, stream_id):
    last = (await fetch(store, stream_id))[-1]
    before = await store.session().events.fetch_stream_state(stream_id)
    await compact(store, stream_id)
    (event,) = await fetch(store, stream_id)
    assert (event.version, event.sequence, event.timestamp) == (5, last.sequence, last.timestamp)
    assert event.type_name == "compacted"
    assert event.data.aggregate == "account"
    assert event.data.state["balance"] == 31
    assert event.data.restored(Account) == Account(stream_id, 31, {"p0", "p1"}, 5)
    after = await store.session().events.fetch_stream_state(stream_id)
    assert (after.version, after.last_timestamp) == (before.version, before.last_timestamp)


async def test_live_aggregation_goes_on_from_it(store, stream_id):
    await compact(store, stream_id)
    events = store.session().events
    assert await events.aggregate_stream(Account, stream_id) == Account(
        stream_id, 31, {"p0", "p1"}, 5
    )
    await append(store, stream_id, Deposited(100, by="new"))
    folded = await events.fetch_latest(Account, stream_id)
    assert folded == Account(stream_id, 131, {"p0", "p1", "new"}, 6)
    async with store.session() as session:
        handle = await session.events.fetch_for_writing(Account, stream_id)
        assert (handle.aggregate, handle.starting_version) == (folded, 6)
        handle.append(Deposited(1))
        await session.save_changes()
    assert [event.version for event in await fetch(store, stream_id)] == [5, 6, 7]


async def test_events_after_the_version_stay(store, stream_id):
    await compact(store, stream_id, version=3)
    first, *rest = await fetch(store, stream_id)
    assert (first.version, first.data.state["balance"]) == (3, 7)
    assert [event.data.amount for event in rest] == [8, 16]
    assert (await store.session().events.aggregate_stream(Account, stream_id)).balance == 31
    at_four = await store.session().events.aggregate_stream(Account, stream_id, version=4)
    assert (at_four.balance, at_four.version) == (15, 4)


async def test_a_stream_can_be_compacted_again(store, stream_id):
    await compact(store, stream_id, version=2)
    await compact(store, stream_id, version=4)
    await compact(store, stream_id, version=4)
    await compact(store, stream_id, version=1)
    assert [event.version for event in await fetch(store, stream_id)] == [4, 5]
    await compact(store, stream_id)
    await append(store, stream_id, Deposited(1))
    assert (await store.session().events.aggregate_stream(Account, stream_id)).balance == 32


async def test_nothing_is_replaced_before_the_commit(store, stream_id):
    async with store.session() as session:
        await session.events.compact_stream(Account, stream_id)
    assert len(await fetch(store, stream_id)) == 5


async def test_events_that_come_meanwhile_are_left_alone(store, stream_id):
    async with store.session() as session:
        await session.events.compact_stream(Account, stream_id)
        await append(store, stream_id, Deposited(100))
        session.events.append(stream_id, Deposited(200))
        await session.save_changes()
    assert [event.version for event in await fetch(store, stream_id)] == [5, 6, 7]
    assert (await store.session().events.aggregate_stream(Account, stream_id)).balance == 331


async def test_a_stream_that_was_compacted_meanwhile_is_refused(store, stream_id):
    async with store.session() as session:
        await session.events.compact_stream(Account, stream_id, version=4)
        await compact(store, stream_id, version=2)
        with pytest.raises(ConcurrencyError, match="compact it again") as caught:
            await session.save_changes()
    assert caught.value.stream_id == stream_id
    assert [event.version for event in await fetch(store, stream_id)] == [2, 3, 4, 5]


async def test_an_unknown_stream_or_one_without_an_aggregate_is_left_alone(store, stream_id):
    await compact(store, uuid4())
    await append(store, stream_id, Closed())
    await compact(store, stream_id)
    assert len(await fetch(store, stream_id)) == 6


async def test_an_archived_stream_is_refused(store, stream_id):
    await append(store, stream_id, Archived())
    with pytest.raises(StreamArchivedError):
        await compact(store, stream_id)


async def test_a_stream_compacted_to_one_class_cannot_be_folded_into_another(store, stream_id):
    await compact(store, stream_id)
    with pytest.raises(InvalidEventError, match="'account' can't be folded into Other"):
        await store.session().events.aggregate_stream(Other, stream_id)


async def test_a_state_that_does_not_fit_the_class_any_more_says_why(store, stream_id):
    await compact(store, stream_id)
    (event,) = await fetch(store, stream_id)
    with pytest.raises(InvalidEventError, match="another shape"):
        attrs.evolve(event.data, state={"id": 5}).restored(Account)


async def test_another_process_knows_the_type_without_being_told(pg_dsn, store, stream_id):
    await compact(store, stream_id)
    options = StoreOptions(schema=store.options.schema)
    async with open_event_store(pg_dsn, options) as stranger:
        (event,) = await fetch(stranger, stream_id)
        assert isinstance(event.data, Compacted)
        page = await stranger.fetch_page(0, 5)
        assert (len(page.events), page.failures) == (1, ())


async def test_an_application_may_have_a_type_of_that_name(pg_dsn, store):
    @attrs.frozen
    class Archived:
        shelf: int

    stream_id = uuid4()
    await append(store, stream_id, Archived(5))
    assert [event.data for event in await fetch(store, stream_id)] == [Archived(5)]


async def test_the_identity_of_a_replaced_event_is_gone(store):
    stream_id = uuid4()
    first = NewEvent(Deposited(1), id=uuid4())
    await append(store, stream_id, first, Deposited(2))
    await append(store, stream_id, first)
    assert len(await fetch(store, stream_id)) == 2
    with pytest.raises(EventIdConflictError):
        await append(store, stream_id, NewEvent(Deposited(9), id=first.id))
    await compact(store, stream_id)
    assert await store.session().events.load(first.id) is None


async def test_as_of_a_time_before_the_compaction_there_is_nothing(store, stream_id):
    await compact(store, stream_id)
    (event,) = await fetch(store, stream_id)
    before = event.timestamp - timedelta(seconds=1)
    assert await store.session().events.aggregate_stream(Account, stream_id, as_of=before) is None
