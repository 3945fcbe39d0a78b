"""What a simulation can make of the memory store that nobody can of a database."""

from contextlib import suppress
from random import Random
from uuid import UUID, uuid4

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.daemon import DaemonSettings
from flowstore.errors import (
    ConcurrencyError,
    DatabaseUnavailableError,
    FlowstoreError,
    RebuildError,
    SchemaError,
    StreamLockedError,
)
from flowstore.events import DeadLetter, NewEvent
from flowstore.projections import AsyncOptions, FlatTable
from flowstore.store import StoreOptions, open_event_store
from flowstore.testing import (
    MemoryDatabase,
    MemoryStore,
    NotInMemoryError,
    RecordingProjection,
    check_no_skip_no_repeat,
    check_stream_order,
)

LATER = UUID(int=2)


@attrs.frozen
class Added:
    amount: int = 1


@attrs.define
class Total:
    id: UUID
    total: int = 0

    def apply(self, added: Added) -> None:
        if added.amount < 0:
            raise ValueError("poison")
        self.total += added.amount


async def append(store, stream, *events, **asked):
    async with store.session() as session:
        action = session.events.append(stream, *events, **asked)
        await session.save_changes()
    return action


def totals():
    made = StoreOptions()
    made.projections.aggregate_streams_with(Total)
    return made


# -- numbers and visibility ------------------------------------------------------------------


async def test_an_open_append_holds_the_mark_and_nothing_else():
    store = MemoryStore()
    await append(store, uuid4(), Added(), Added())
    async with store.open_append(uuid4(), Added()) as [held]:
        await append(store, uuid4(), Added())
        assert held.sequence == 3
        assert await store.highest_sequence() == 4
        assert await store.high_water() == 2
        [tells] = await store.open_appends()
        assert tells.bound == 2
        page = await store.fetch_page(0, 10)
        assert [event.sequence for event in page.events] == [1, 2, 4]
    assert await store.high_water() == 4
    assert await store.open_appends() == []


async def test_an_append_that_is_rolled_back_leaves_a_hole_that_holds_nothing():
    store = MemoryStore()
    with pytest.raises(ZeroDivisionError):
        async with store.open_append(uuid4(), Added(), Added()):
            raise ZeroDivisionError
    await append(store, uuid4(), Added())
    page = await store.fetch_page(0, await store.high_water())
    assert [event.sequence for event in page.events] == [3]


async def test_a_loser_draws_no_number():
    store = MemoryStore()
    with pytest.raises(ConcurrencyError):
        await append(store, uuid4(), Added(), expected_version=1)
    action = await append(store, uuid4(), Added())
    assert action.events[0].sequence == 1


async def test_an_append_waits_for_the_streams_open_one_and_then_finds_its_version(nursery):
    store, stream = MemoryStore(), uuid4()
    found = []

    async def lose():
        with pytest.raises(ConcurrencyError) as caught:
            await append(store, stream, Added(), expected_version=0)
        found.append(caught.value.found)

    async with store.open_append(stream, Added()):
        nursery.start_soon(lose)
        await wait_all_tasks_blocked()
        assert not found
    await wait_all_tasks_blocked()
    assert found == [1]


# -- steps of a commit -----------------------------------------------------------------------

STEPS = ["before numbers", "numbers drawn", "before commit", "committed"]


def breaking(step):
    """Make a pause that fails once, and only at a step."""
    left = [DatabaseUnavailableError("gone")]

    async def pause(reached):
        await trio.lowlevel.checkpoint()
        if reached == step and left:
            raise left.pop()

    return pause


@pytest.mark.parametrize("step", STEPS)
async def test_a_commit_that_failed_at_any_step_may_be_tried_again(step):
    store, stream = MemoryStore(pause=breaking(step)), uuid4()
    async with store.session() as session:
        session.events.start_stream(stream, Added())
        session.store(Total(stream, 5))
        with pytest.raises(DatabaseUnavailableError):
            await session.save_changes()
        stands = step == "committed"
        assert bool(await session.events.fetch_stream(stream)) is stands
        await session.save_changes()
        [event] = await session.events.fetch_stream(stream)
        assert await session.load(Total, stream) == Total(stream, 5)
    assert event.sequence == (2 if step in {"numbers drawn", "before commit"} else 1)
    assert await store.highest_sequence() == await store.high_water() == event.sequence


@pytest.mark.parametrize("step", STEPS)
async def test_a_cancelled_commit_happened_or_did_not(step, nursery):
    reached, go = trio.Event(), trio.Event()

    async def pause(at):
        if at == step:
            reached.set()
            await go.wait()

    store, stream = MemoryStore(pause=pause), uuid4()
    scope, done = trio.CancelScope(), trio.Event()

    async def commit():
        with scope:
            await append(store, stream, Added())
        done.set()

    nursery.start_soon(commit)
    await reached.wait()
    scope.cancel()
    await wait_all_tasks_blocked()
    go.set()
    await done.wait()
    async with store.session() as session:
        assert bool(await session.events.fetch_stream(stream)) is (step == "committed")
    assert await store.open_appends() == []


async def test_events_that_were_amended_after_they_were_folded_are_not_compacted():
    store, stream = MemoryStore(), uuid4()
    action = await append(store, stream, Added(1), Added(2))
    async with store.session() as session:
        await session.events.compact_stream(Total, stream)
        await store.skip_event(action.events[0].id)
        with pytest.raises(ConcurrencyError):
            await session.save_changes()
        assert len(await session.events.fetch_stream(stream)) == 2


async def test_a_stream_that_was_masked_after_it_was_folded_is_not_compacted():
    options, stream = StoreOptions(), uuid4()
    options.events.mask(Added, lambda added: Added(0))
    store = MemoryStore(options)
    await append(store, stream, Added(1), Added(2))
    async with store.session() as session:
        await session.events.compact_stream(Total, stream)
        assert await store.mask_stream(stream) == 2
        with pytest.raises(ConcurrencyError):
            await session.save_changes()


async def test_a_rewind_forgets_the_letters_above_it_and_letters_hold_no_nul():
    store, shard = MemoryStore(), RecordingProjection()
    await append(store, uuid4(), Added(), Added())
    letters = [DeadLetter(shard.name, sequence, "E", "a\0b") for sequence in (1, 2)]
    await store.commit_batch(
        store.projection_session(), shard=shard.name, floor=0, ceiling=2, dead_letters=letters
    )
    await store.rewind(shard, 1)
    [left] = await store.dead_letters(shard)
    assert (left.sequence, left.message) == (1, "a\\0b")


@attrs.define
class Numbered:
    id: int


UNSTORABLE = {
    "a number of 65 bits": lambda session: session.store(Numbered(2**63)),
    "NUL about an event": lambda session: session.events.append(
        uuid4(), NewEvent(Added(), causation_id="a\0b")
    ),
}


async def commit(store, fill):
    async with store.session() as session:
        fill(session)
        await session.save_changes()


@pytest.mark.parametrize("what", UNSTORABLE)
async def test_what_postgresql_can_not_hold_is_refused_here_too(what, pg_dsn, schema):
    async with open_event_store(pg_dsn, StoreOptions(schema=schema)) as database:
        for store in (MemoryStore(), database):
            with pytest.raises(FlowstoreError):
                await commit(store, UNSTORABLE[what])
            assert await store.highest_sequence() == 0


# -- locks -----------------------------------------------------------------------------------


async def test_a_lock_is_waited_for_only_so_long(autojump_clock):
    store, stream = MemoryStore(), uuid4()
    await append(store, stream, Added())
    async with store.session() as one, store.session() as other:
        await one.events.append_exclusive(stream, Added())
        before = trio.current_time()
        with pytest.raises(StreamLockedError):
            await other.events.append_exclusive(stream, Added(), lock_timeout=30)
        assert trio.current_time() - before == pytest.approx(30)
        assert len(store.database.open_transactions()) == 1
        await one.save_changes()
        await other.events.append_exclusive(stream, Added(), lock_timeout=30)
        await other.save_changes()


async def test_a_commit_that_fails_under_a_lock_lets_go_of_everything_but_that():
    store, left, right = MemoryStore(), uuid4(), uuid4()
    await append(store, left, Added())
    async with store.session() as session:
        await session.events.append_exclusive(left, Added())
        session.events.append(right, Added(), expected_version=5)
        with pytest.raises(ConcurrencyError):
            await session.save_changes()
        with trio.fail_after(5):
            await append(store, right, *[Added()] * 5)
        with trio.move_on_after(0.01) as waiting:
            await append(store, left, Added())
        assert waiting.cancelled_caught
        await session.save_changes()


async def test_who_waits_for_who_waits_for_him_is_refused(nursery):
    store, left, right = MemoryStore(), uuid4(), uuid4()
    await append(store, left, Added())
    await append(store, right, Added())
    got = trio.Event()
    async with store.session() as one, store.session() as other:
        await one.events.append_exclusive(left, Added())
        await other.events.append_exclusive(right, Added())

        async def go_on():
            await one.events.append_exclusive(right, Added())
            got.set()

        nursery.start_soon(go_on)
        await wait_all_tasks_blocked()
        with pytest.raises(StreamLockedError):
            await other.events.append_exclusive(left, Added())
        await other.__aexit__(None, None, None)
        await got.wait()
        await one.save_changes()


async def test_who_waits_gets_a_lock_in_the_order_they_came():
    store, stream, order = MemoryStore(), uuid4(), []
    await append(store, stream, Added())

    async def wait(number):
        async with store.session() as session:
            await session.events.append_exclusive(stream, Added())
            order.append(number)
            await session.save_changes()

    async with trio.open_nursery() as nursery, store.session() as first:
        await first.events.append_exclusive(stream, Added())
        for number in range(4):
            nursery.start_soon(wait, number)
            await wait_all_tasks_blocked()
        await first.save_changes()
    assert order == [0, 1, 2, 3]


# -- what is repeatable, shared, refused -----------------------------------------------------


async def test_a_seeded_store_draws_the_same_ids_again():
    drawn = []
    for _ in range(2):
        store = MemoryStore(random=Random(7))
        action = await append(store, LATER, *[Added()] * 3)
        drawn.append([event.id.int & (1 << 62) - 1 for event in action.events])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 3


async def test_time_is_trios(autojump_clock):
    store = MemoryStore()
    await append(store, LATER, Added())
    await trio.sleep(60)
    await append(store, LATER, Added())
    async with store.session() as session:
        first, second = await session.events.fetch_stream(LATER)
    assert (second.timestamp - first.timestamp).total_seconds() == pytest.approx(60)
    assert await store.sequence_before(second.timestamp) == 1
    assert await store.high_water(leading_edge_buffer=30) == 1


async def test_two_stores_on_one_database_are_two_processes():
    database = MemoryDatabase()
    one, other = MemoryStore(database=database), MemoryStore(database=database)
    await append(one, LATER, Added())
    await append(other, LATER, Added())
    assert await one.highest_sequence() == 2
    with pytest.raises(SchemaError):
        MemoryStore(StoreOptions(stream_identity="string"), database=database)


async def test_what_is_stored_has_no_part_in_what_was_given():
    store, document = MemoryStore(), Total(LATER, 1)
    async with store.session() as session:
        session.store(document)
        await session.save_changes()
        document.total = 9
        loaded = await session.load(Total, LATER)
        loaded.total += 1
        assert await session.load(Total, LATER) == Total(LATER, 1)


async def test_sql_is_refused():
    store = MemoryStore()
    async with store.session() as session:
        with pytest.raises(NotInMemoryError):
            session.execute("select 1")
        with pytest.raises(NotInMemoryError):
            await session.query(Total, "true")
        with pytest.raises(NotInMemoryError):
            await session.events.query("true")
        with pytest.raises(NotInMemoryError):
            async for _ in session.stream_query(Total, "true"):
                pass
    with pytest.raises(NotInMemoryError):
        store.connection()


# -- the daemon ------------------------------------------------------------------------------


async def test_a_daemon_projects_rebuilds_and_rewinds(autojump_clock):
    store, streams = MemoryStore(totals()), [uuid4() for _ in range(3)]
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        for stream in streams:
            await append(store, stream, Added(1), Added(2))
        await daemon.wait_for_non_stale_results(60)
        async with store.session() as session:
            expected = [Total(stream, 3) for stream in streams]
            assert await session.load_many(Total, streams) == expected
            session.store(Total(streams[0], 99))
            await session.save_changes()
            await daemon.rebuild(Total)
            assert await session.load_many(Total, streams) == expected
        await daemon.rewind(Total, 4)
        await daemon.wait_for(Total, 6)
        async with store.session() as session:
            found = await session.load_many(Total, streams)
    assert [each.total for each in found] == [3, 3, 6]
    assert await store.progress(Total) == 6


async def test_a_daemon_sets_poison_aside(autojump_clock):
    store, stream = MemoryStore(totals()), uuid4()
    async with store.build_projection_daemon() as daemon:
        await append(store, stream, Added(1), Added(-1), Added(2))
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(60)
        [letter] = await store.dead_letters(Total)
        assert (letter.sequence, letter.error_type) == (2, "ValueError")
        with pytest.raises(ValueError, match="poison"):
            await store.retry_dead_letter(letter)
        await store.discard_dead_letter(letter)
        assert await store.dead_letters() == []
        with pytest.raises(RebuildError):
            await daemon.rebuild(Total)
        await store.skip_event((await store.fetch_page(1, 2)).events[0].id)
        await daemon.rebuild(Total)
    async with store.session() as session:
        assert await session.load(Total, stream) == Total(stream, 3)


async def test_a_daemon_keeps_a_flat_table(autojump_clock):
    options, stream = StoreOptions(), uuid4()
    table = FlatTable("sums", key="stream", key_type=UUID, columns={"total": int})
    options.projections.add(table.on(Added, increment={"total": "amount"}))
    store = MemoryStore(options)
    async with store.build_projection_daemon() as daemon:
        await append(store, stream, Added(1), Added(2))
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(60)
        assert store.table_rows("sums") == [{"stream": stream, "total": 3}]
        await daemon.rebuild("sums")
        assert store.table_rows("sums") == [{"stream": stream, "total": 3}]


appends = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(0, 20), st.booleans()),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=40)
@given(appends=appends, page_size=st.integers(1, 4), seed=st.random_module())
async def test_a_daemon_delivers_everything_in_order_whoever_holds_what_open(
    appends, page_size, seed
):
    recording = RecordingProjection(async_options=AsyncOptions(page_size=page_size))
    options = StoreOptions()
    options.projections.add(recording)
    store = MemoryStore(options)

    async def work(stream, count, delay, fails):
        with suppress(ZeroDivisionError):
            async with store.open_append(UUID(int=stream), *[Added()] * count):
                for _ in range(delay):
                    await trio.lowlevel.checkpoint()
                1 / (not fails)

    async with store.build_projection_daemon(
        settings=DaemonSettings(fast_polling_time=0.0001, slow_polling_time=0.001)
    ) as daemon:
        await daemon.start_all()
        async with trio.open_nursery() as nursery:
            for each in appends:
                nursery.start_soon(work, *each)
        await daemon.wait_for_non_stale_results(60)
    stored = (await store.fetch_page(0, await store.high_water())).events
    check_stream_order(recording.deliveries, without_holes=True)
    check_no_skip_no_repeat(recording.deliveries, stored)
    assert recording.sequences == [event.sequence for event in stored]
