"""Projections in the transaction that appends."""

from datetime import datetime, timedelta, timezone
from uuid import UUID, uuid4

import attrs
import pytest
import trio
from psycopg.conninfo import make_conninfo

from flowstore.errors import FlowstoreError
from flowstore.events import Event, NewEvent
from flowstore.projections import AsyncOptions, Lifecycle
from flowstore.store import StoreOptions, open_event_store


@attrs.frozen
class Counted:
    by: int = 1


@attrs.frozen
class Ended:
    pass


@attrs.define
class Total:
    id: UUID
    number: int = 0
    version: int = 0

    def apply(self, counted: Counted) -> None:
        self.number += counted.by

    def should_delete(self, _: Ended) -> bool:
        return True


@attrs.define
class Seen:
    """A projection of its own kind, which notes what it was handed."""

    name: str = "seen"
    consumes: tuple = (Counted,)
    produces: type | None = None
    async_options: AsyncOptions = attrs.field(factory=AsyncOptions)
    seen: list = attrs.field(factory=list)
    fails: bool = False
    saves: bool = False

    async def apply(self, session, streams):
        for stream in streams:
            self.seen += [(event.sequence, event.version) for event in stream.events]
        if self.saves:
            await session.save_changes()
        if self.fails:
            raise ZeroDivisionError


@pytest.fixture
def options(options):
    options.projections.aggregate_streams_with(Total, lifecycle=Lifecycle.INLINE)
    return options


async def append(store, stream_id, *events):
    async with store.session() as session:
        session.events.append(stream_id, *events)
        await session.save_changes()


async def test_the_document_is_there_when_the_commit_is(store):
    stream_id = uuid4()
    await append(store, stream_id, Counted(1), Counted(2))
    await append(store, stream_id, Counted(3))
    assert await store.session().load(Total, stream_id) == Total(stream_id, 6, 3)


async def test_handlers_see_final_sequences_and_versions(options, store):
    projection = Seen()
    options.projections.add(projection, lifecycle=Lifecycle.INLINE)
    stream_id = uuid4()
    await append(store, stream_id, Counted(), Ended(), Counted())
    await append(store, stream_id, Counted())
    await append(store, uuid4(), Ended())
    assert projection.seen == [(1, 1), (3, 3), (4, 4)]


async def test_a_failing_projection_fails_the_commit_and_nothing_is_written(options, store):
    options.projections.add(Seen(fails=True), lifecycle=Lifecycle.INLINE)
    stream_id = uuid4()
    with pytest.raises(ZeroDivisionError):
        await append(store, stream_id, Counted())
    assert await store.session().events.fetch_stream(stream_id) == []
    assert await store.session().load(Total, stream_id) is None


async def test_a_projection_that_commits_is_refused(options, store):
    options.projections.add(Seen(saves=True), lifecycle=Lifecycle.INLINE)
    with pytest.raises(FlowstoreError, match="save_changes"):
        await append(store, uuid4(), Counted())


async def test_a_deleted_view_begins_anew(store):
    stream_id = uuid4()
    await append(store, stream_id, Counted(5), Ended())
    assert await store.session().load(Total, stream_id) is None
    await append(store, stream_id, Counted(1))
    assert (await store.session().load(Total, stream_id)).number == 1


async def test_concurrent_commits_to_one_stream_lose_no_update(store):
    stream_id = uuid4()

    async def count():
        for _ in range(10):
            await append(store, stream_id, Counted())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(count)
    assert await store.session().load(Total, stream_id) == Total(stream_id, 50, 50)


async def test_a_session_commits_its_documents_with_the_projections(store):
    first, second = uuid4(), uuid4()
    async with store.session() as session:
        session.events.append(first, Counted())
        session.store(Total(second, 7))
        await session.save_changes()
    found = await store.session().load_many(Total, [first, second])
    assert [total.number for total in found] == [1, 7]


async def test_a_version_keeps_its_documents_apart(opening):
    stream_id = uuid4()
    for version in (1, 2, 1):
        async with opening() as store:
            store.options.projections.aggregate_streams_with(
                Total, lifecycle=Lifecycle.INLINE, version=version
            )
        async with opening(projections=store.options.projections) as store:
            await append(store, stream_id, Counted())
            total = await store.session().load(Total, stream_id)
            expected = {1: {1: 1, 3: 2}, 2: {2: 1}}[version][total.version]
            assert total.number == expected


@attrs.define
class Days:
    """The days on which events came in, as a calendar on the wall has them."""

    id: UUID
    days: list[str] = attrs.field(factory=list)

    def apply(self, _: Counted, event: Event) -> None:
        self.days.append(event.timestamp.isoformat())


@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.parametrize(
    "given", [None, datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=5)))]
)
async def test_times_are_in_utc_inline_and_as_they_are_read(pg_dsn, schema, each, given):
    options = StoreOptions(schema=schema)
    options.projections.aggregate_streams_with(Days, lifecycle=Lifecycle.INLINE)
    dsn = make_conninfo(pg_dsn, options="-c timezone=America/Caracas")
    async with open_event_store(dsn, options) as store:
        one, other = uuid4(), uuid4()
        async with store.session() as session:
            session.events.append(one, *(NewEvent(Counted(), timestamp=given) for _ in range(each)))
            await session.save_changes()
        async with store.session() as session:  # the general way, for several streams
            session.events.append(one, NewEvent(Counted(), timestamp=given))
            session.events.append(other, Counted())
            await session.save_changes()
        for stream in (one, other):
            inline = await store.session().load(Days, stream)
            assert inline == await store.session().events.aggregate_stream(Days, stream)
            assert all(day.endswith("+00:00") for day in inline.days)
            state = await store.session().events.fetch_stream_state(stream)
            assert state.created.isoformat() == inline.days[0]
            assert state.last_timestamp.isoformat() == inline.days[-1]
