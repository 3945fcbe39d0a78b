"""The order law, over drawn page sizes, writers, pauses and interruptions.

Within a stream by version, across streams by sequence; an effect happens exactly once; documents
are what a plain fold of the committed events gives.
"""

from collections import defaultdict
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from flowstore import AsyncOptions, DaemonSettings, StoreOptions, open_store
from flowstore.daemon._applier import _halves
from flowstore.events import Event, EventBatch, EventFailure, in_sequence
from flowstore.events import group_by_stream_id as group
from flowstore.postgres import Connection
from flowstore.testing import Committed, check_exactly_once, check_progress, check_stream_order

HURRIED = DaemonSettings(slow_polling_time=0.02)


@attrs.frozen
class Counted:
    by: int


@attrs.define
class Total:
    """Depends on the order of its events, and on each happening once."""

    id: UUID
    hash: int = 0

    def apply(self, counted: Counted) -> None:
        self.hash = after(self.hash, counted.by)


def after(state, number):
    return (state * 31 + number) % 1_000_003


def fold(numbers):
    state = 0
    for number in numbers:
        state = after(state, number)
    return state


@attrs.frozen
class Recorder:
    """Writes each event down in the transaction of its progress; fails at drawn numbers."""

    table: str
    async_options: AsyncOptions
    poison: frozenset[int] = frozenset()
    name = "recorder"
    consumes = (Counted,)
    produces = None

    def apply(self, session, streams):
        for event in in_sequence(streams):
            if event.data.by in self.poison:
                raise ValueError(event.data.by)
            insert = f"insert into {self.table} (sequence, stream, version) values (%s, %s, %s)"
            session.execute(insert, event.sequence, event.stream_id, event.version)

    async def teardown(self, session):
        session.execute(f"delete from {self.table}")


@pytest.fixture(scope="session")
def scene(pg_dsn, admin, fresh_names):
    """Open a store in a schema of the example's own: a fixture would serve all examples."""

    @asynccontextmanager
    async def open_scene(page_size, poison=frozenset()):
        schema = next(fresh_names)
        options = StoreOptions(schema=schema)
        recorder = Recorder(f"{schema}.seen", AsyncOptions(page_size=page_size), poison)
        options.projections.add(recorder)
        options.projections.aggregate_streams_with(Total, async_options=recorder.async_options)
        try:
            async with open_store(pg_dsn, options) as store:
                async with store.connection() as connection:
                    await connection.execute(
                        f"create table {recorder.table} (place bigint generated always as identity,"
                        " sequence bigint, stream uuid, version bigint)"
                    )
                yield store
        finally:
            admin.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(schema)))

    return open_scene


async def rows(store):
    async with store.connection() as connection:
        cursor = await connection.execute(
            f"select sequence, stream, version from {store.options.schema}.seen order by place"
        )
        return await cursor.fetchall()


# -- writers --


@attrs.frozen
class Append:
    """One transaction of a writer.

    Attributes:
        stream: of a session's append; a foreign writer has a stream of its own.
        events: how many.
        pause: milliseconds between drawing the numbers and the end of the transaction.
        commits: or rolls back.
    """

    stream: int
    events: int
    pause: int
    commits: bool


appends = st.builds(
    Append,
    stream=st.integers(0, 2),
    events=st.integers(1, 4),
    pause=st.integers(0, 6),
    commits=st.booleans() | st.just(value=True),
)
writers = st.lists(st.lists(appends, min_size=1, max_size=5), min_size=1, max_size=4)


async def write_through_sessions(store, work, committed):
    """Append to streams that other writers append to as well."""
    for append in work:
        await trio.sleep(append.pause / 1000)
        stream_id = UUID(int=append.stream)
        async with store.session() as session:
            action = session.events.append(stream_id, *map(Counted, range(append.events)))
            if append.commits:
                await session.save_changes()
                committed[stream_id] += [(e.version, e.data.by) for e in action.events]


async def write_by_hand(store, dsn, work, committed):
    """Insert into a stream of one's own, holding each transaction open after its numbers."""
    insertion = sql.SQL(
        "insert into {} (stream_id, version, type, data)"
        " values (%s, %s, 'counted', jsonb_build_object('by', %s::int))"
    ).format(sql.Identifier(store.options.schema, "events"))
    stream_id = uuid4()
    async with await Connection.connect(dsn, autocommit=False) as connection:
        for append in work:
            version = len(committed[stream_id])
            numbers = range(version + 1, version + 1 + append.events)
            for number in numbers:
                await connection.execute(insertion, (stream_id, number, number))
            await trio.sleep(append.pause / 1000)
            if append.commits:
                await connection.commit()
                committed[stream_id] += [(number, number) for number in numbers]
            else:
                await connection.rollback()


async def write_all(store, dsn, by_session, by_hand):
    """Run all writers at once; returns each stream's committed events in version order."""
    committed = defaultdict(list)
    async with trio.open_nursery() as nursery:
        for work in by_session:
            nursery.start_soon(write_through_sessions, store, work, committed)
        for work in by_hand:
            nursery.start_soon(write_by_hand, store, dsn, work, committed)
    return {stream_id: sorted(events) for stream_id, events in committed.items() if events}


async def keep_running(daemon):
    """Start whatever loses against another owner again."""
    async with aclosing(daemon.watch()) as statuses:
        async for status in statuses:
            if status.state == "failed":
                await daemon.start(status.name)


async def disturb(daemon, disturbances):
    for verb in disturbances:
        await trio.sleep(0.004)
        if verb == "restart":
            await daemon.stop_all()
            await daemon.start_all()
        else:
            await daemon.rebuild(verb)


async def check(store, committed):
    """Compare with what was committed: order, once and documents."""
    end = await store.highest_sequence()
    events = (await store.fetch_page(0, end, limit=10_000)).events
    streams = [event.stream_id for event in events]
    assert {each: streams.count(each) for each in streams} == {
        stream_id: len(numbers) for stream_id, numbers in committed.items() if numbers
    }
    applied = [sequence for sequence, _, _ in await rows(store)]
    look = Committed(end, applied)
    check_exactly_once([look], events)
    check_progress([look], events)
    places = {event.sequence: event for event in events}
    check_stream_order([places[each] for each in applied], without_holes=True, from_first=True)
    assert applied == sorted(applied)
    totals = await store.session().load_many(Total, list(committed))
    assert {total.id: total.hash for total in totals} == {
        stream_id: fold(number for _, number in events) for stream_id, events in committed.items()
    }


@settings(deadline=None, max_examples=15)
@given(
    page_size=st.integers(1, 9),
    by_session=writers,
    by_hand=writers,
    disturbances=st.lists(st.sampled_from(["restart", "recorder", "Total"]), max_size=3),
    schedule=st.random_module(),
)
async def test_documents_are_a_plain_fold_and_versions_arrive_in_order_once(
    scene, pg_dsn, page_size, by_session, by_hand, disturbances, schedule
):
    with trio.fail_after(30):
        async with scene(page_size) as store, store.build_projection_daemon(HURRIED) as daemon:
            await daemon.start_all()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(disturb, daemon, disturbances)
                committed = await write_all(store, pg_dsn, by_session, by_hand)
            await daemon.wait_for_non_stale_results()
            await check(store, committed)


@settings(deadline=None, max_examples=8)
@given(
    page_size=st.integers(1, 4),
    by_session=writers,
    by_hand=writers,
    owners=st.integers(2, 3),
    schedule=st.random_module(),
)
async def test_several_owners_double_nothing(
    scene, pg_dsn, page_size, by_session, by_hand, owners, schedule
):
    with trio.fail_after(30):
        async with scene(page_size) as store, AsyncExitStack() as stack:
            daemons = [
                await stack.enter_async_context(store.build_projection_daemon(HURRIED))
                for _ in range(owners)
            ]
            async with trio.open_nursery() as nursery:
                for daemon in daemons:
                    nursery.start_soon(keep_running, daemon)
                    nursery.start_soon(daemon.start_all)
                committed = await write_all(store, pg_dsn, by_session, by_hand)
                for name in ("recorder", "Total"):
                    await daemons[0].wait_for(name, await store.highest_sequence())
                nursery.cancel_scope.cancel()
            await check(store, committed)


@settings(deadline=None, max_examples=10)
@given(
    page_size=st.integers(1, 12),
    count=st.integers(1, 24),
    poison=st.frozensets(st.integers(0, 23), max_size=6),
    undecodable=st.frozensets(st.integers(0, 23), max_size=3),
    schedule=st.random_module(),
)
async def test_what_fails_is_set_aside_and_everything_else_happens_once(
    scene, page_size, count, poison, undecodable, schedule
):
    with trio.fail_after(30):
        async with scene(page_size, poison) as store:
            async with store.connection() as connection, connection.cursor() as cursor:
                await cursor.executemany(
                    f"insert into {store.options.schema}.events (stream_id, version, type, data)"
                    " values (%s, %s, 'counted', jsonb_build_object(%s::text, %s::int))",
                    [
                        (UUID(int=n % 3), 1 + n // 3, "to" if n in undecodable else "by", n)
                        for n in range(count)
                    ],
                )
            async with store.build_projection_daemon(HURRIED) as daemon:
                await daemon.start_all()
                await daemon.wait_for_non_stale_results()
            failing = (poison | undecodable) & set(range(count))
            letters = await store.dead_letters("recorder")
            assert [letter.sequence - 1 for letter in letters] == sorted(failing)
            applied = [sequence - 1 for sequence, _, _ in await rows(store)]
            assert applied == [number for number in range(count) if number not in failing]


# -- cutting a batch --


def an_event(sequence, stream):
    return Event(
        data=None,
        sequence=sequence,
        id=UUID(int=sequence),
        stream_id=UUID(int=stream),
        version=sequence,
        type_name="it",
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    )


def leaves(batch):
    parts = _halves(batch)
    return [leaf for part in parts for leaf in leaves(part)] if parts else [batch]


@given(
    st.dictionaries(st.integers(1, 60), st.integers(-1, 3), min_size=1, max_size=20),
    st.integers(0, 9),
)
def test_halves_cover_a_batch_without_gaps_one_event_each(places, beyond):
    """A place's value is its stream; -1 stands for an event that can't be decoded."""
    events = [an_event(at, stream) for at, stream in sorted(places.items()) if stream >= 0]
    failures = [
        EventFailure(at, UUID(int=9), at, "it", ValueError())
        for at, stream in sorted(places.items())
        if stream < 0
    ]
    batch = EventBatch(0, max(places) + beyond, group(events), failures)
    found = leaves(batch)
    assert [leaf.floor for leaf in found] == [0, *(leaf.ceiling for leaf in found[:-1])]
    assert found[-1].ceiling == batch.ceiling
    held = [
        [event.sequence for event in in_sequence(leaf.streams)]
        + [failure.sequence for failure in leaf.failures]
        for leaf in found
    ]
    assert held == [[at] for at in sorted(places)]


@given(st.lists(st.integers(0, 3), min_size=2, max_size=20))
def test_halves_keep_streams_in_order_of_their_first_event(streams):
    events = [an_event(at, stream) for at, stream in enumerate(streams, 1)]
    for half in _halves(EventBatch(0, len(events), group(events))):
        held = [event for event in events if half.floor < event.sequence <= half.ceiling]
        assert half.streams == group(held)
