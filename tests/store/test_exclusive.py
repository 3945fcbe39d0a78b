"""Appending to a stream that has to stay as it is, or that nobody else may touch."""

from uuid import UUID, uuid4

import attrs
import pytest
import trio

from flowstore.errors import (
    ConcurrencyError,
    DatabaseError,
    DatabaseUnavailableError,
    EmptyStreamError,
    InvalidEventError,
    StreamArchivedError,
    StreamLockedError,
    StreamNotFoundError,
)
from flowstore.projections import Lifecycle
from flowstore.store import open_event_store


@attrs.frozen
class Deposited:
    amount: int


@attrs.define
class Account:
    id: UUID
    balance: int = 0

    def apply(self, deposited: Deposited) -> None:
        self.balance += deposited.amount


@attrs.define
class Note:
    id: str


async def deposit(store, stream_id, *amounts):
    async with store.session() as session:
        session.events.append(stream_id, *map(Deposited, amounts))
        await session.save_changes()


async def amounts(store, stream_id):
    events = await store.session().events.fetch_stream(stream_id)
    return [event.data.amount for event in events]


@pytest.fixture
async def stream_id(store):
    stream_id = uuid4()
    await deposit(store, stream_id, 1, 2)
    return stream_id


async def archive(store, stream_id):
    async with store.session() as session:
        session.events.archive_stream(stream_id)
        await session.save_changes()


# -- optimistic ----------------------------------------------------------------------------------


async def test_an_optimistic_append_to_a_stream_that_stays_is_committed(store, stream_id):
    async with store.session() as session:
        await session.events.append_optimistic(stream_id, Deposited(3))
        action = await session.events.append_optimistic(stream_id, Deposited(4))
        await session.save_changes()
    assert action.events[0].version == 4
    assert await amounts(store, stream_id) == [1, 2, 3, 4]


async def test_an_optimistic_append_to_a_stream_that_moved_is_refused(store, stream_id):
    async with store.session() as session:
        await session.events.append_optimistic(stream_id, Deposited(3))
        await deposit(store, stream_id, 9)
        with pytest.raises(ConcurrencyError) as caught:
            await session.save_changes()
    assert (caught.value.expected, caught.value.found) == (2, 3)
    assert await amounts(store, stream_id) == [1, 2, 9]


async def test_an_optimistic_append_counts_what_the_session_queued_before(store, stream_id):
    async with store.session() as session:
        session.events.append(stream_id, Deposited(3))
        await session.events.append_optimistic(stream_id, Deposited(4))
        begun = session.events.start_stream(uuid4(), Deposited(5))
        await session.events.append_optimistic(begun.stream_id, Deposited(6))
        await session.save_changes()
    assert await amounts(store, stream_id) == [1, 2, 3, 4]
    assert await amounts(store, begun.stream_id) == [5, 6]


@pytest.mark.parametrize("verb", ["append_optimistic", "append_exclusive"])
async def test_a_stream_has_to_exist_to_stay_as_it_is(store, verb):
    async with store.session() as session:
        with pytest.raises(StreamNotFoundError):
            await getattr(session.events, verb)(uuid4(), Deposited(1))
        assert session.events.pending == ()


@pytest.mark.parametrize("verb", ["append_optimistic", "append_exclusive"])
async def test_an_archived_stream_refuses_before_the_commit(store, stream_id, verb):
    await archive(store, stream_id)
    async with store.session() as session:
        with pytest.raises(StreamArchivedError):
            await getattr(session.events, verb)(stream_id, Deposited(1))


@pytest.mark.parametrize("verb", ["append_optimistic", "append_exclusive"])
async def test_no_events_are_refused(store, stream_id, verb):
    async with store.session() as session:
        with pytest.raises(EmptyStreamError):
            await getattr(session.events, verb)(stream_id)


# -- exclusive -----------------------------------------------------------------------------------


async def test_whoever_comes_second_waits_until_the_first_has_committed(store, stream_id):
    order = []

    async def add(amount, locked, go_on):
        async with store.session() as session:
            await session.events.append_exclusive(stream_id, Deposited(amount))
            order.append(amount)
            locked.set()
            await go_on.wait()
            await session.save_changes()

    first_locked, second_locked, go_on = trio.Event(), trio.Event(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(add, 3, first_locked, go_on)
        await first_locked.wait()
        nursery.start_soon(add, 4, second_locked, go_on)
        await until_somebody_waits(store)
        assert order == [3]
        go_on.set()
    assert await amounts(store, stream_id) == [1, 2, 3, 4]


async def test_a_plain_append_waits_too(store, stream_id):
    async with store.session() as session:
        await session.events.append_exclusive(stream_id, Deposited(3))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deposit, store, stream_id, 4)
            await until_somebody_waits(store)
            await session.save_changes()
    assert await amounts(store, stream_id) == [1, 2, 3, 4]


async def until_somebody_waits(store):
    """Return once a statement waits for a lock in the database."""
    query = "select count(*) from pg_locks where not granted"
    with trio.fail_after(60):
        async with store.connection() as connection:
            while await (await connection.execute(query)).fetchone() == (0,):  # noqa: ASYNC110 - its event is on the server
                await trio.sleep(0.005)


async def test_waiting_for_longer_than_the_timeout_is_an_error(store, stream_id):
    async with store.session() as first, store.session() as second:
        await first.events.append_exclusive(stream_id, Deposited(3))
        with pytest.raises(StreamLockedError, match=r"0\.05 s") as caught:
            await second.events.append_exclusive(stream_id, Deposited(4), lock_timeout=0.05)
        assert (caught.value.stream_id, caught.value.lock_timeout) == (stream_id, 0.05)
        assert second.events.pending == ()
        await first.save_changes()
        # The lock went with the commit, and the session that had to wait is none the worse.
        await second.events.append_exclusive(stream_id, Deposited(5), lock_timeout=0.05)
        await second.save_changes()
    assert await amounts(store, stream_id) == [1, 2, 3, 5]


async def test_leaving_the_session_lets_go_of_the_stream(store, stream_id):
    async with store.session() as session:
        await session.events.append_exclusive(stream_id, Deposited(3))
    await deposit(store, stream_id, 4)
    assert await amounts(store, stream_id) == [1, 2, 4]


async def test_cancelling_whoever_waits_lets_it_go_and_leaves_the_holder(store, stream_id):
    async with store.session() as first, store.session() as second:
        await first.events.append_exclusive(stream_id, Deposited(3))
        with trio.move_on_after(0.05) as scope:
            await second.events.append_exclusive(stream_id, Deposited(4))
        assert scope.cancelled_caught
        await first.save_changes()
        await second.events.append_exclusive(stream_id, Deposited(5))
        await second.save_changes()
    assert await amounts(store, stream_id) == [1, 2, 3, 5]


async def test_several_streams_documents_and_sql_commit_with_the_locks(store, stream_id, schema):
    other = uuid4()
    await deposit(store, other, 1)
    async with store.session() as session:
        await session.events.append_exclusive(stream_id, Deposited(3))
        for wrong in (0, -1, True, "5", float("nan")):
            with pytest.raises(InvalidEventError, match=f"lock_timeout={wrong!r}"):
                await session.events.append_exclusive(other, Deposited(2), lock_timeout=wrong)
        await session.events.append_exclusive(other, Deposited(2), lock_timeout=5)
        session.store(Note("a"))
        session.execute(f"create table {schema}.flat as select 1 as a")
        assert await session.load(Note, "b") is None
        await session.save_changes()
        assert await session.load(Note, "a") == Note("a")
    assert await amounts(store, stream_id) == [1, 2, 3]
    assert await amounts(store, other) == [1, 2]


async def test_a_read_or_commit_that_fails_keeps_the_lock(store, stream_id):
    async with store.session() as session:
        await session.events.append_exclusive(stream_id, Deposited(3))
        with pytest.raises(DatabaseError):
            await session.query(Note, "no such column")
        session.execute("select 1/0")
        with pytest.raises(DatabaseError):
            await session.save_changes()
        async with store.session() as other:
            with pytest.raises(StreamLockedError):
                await other.events.append_exclusive(stream_id, Deposited(4), lock_timeout=0.05)
    assert await amounts(store, stream_id) == [1, 2]


async def test_a_lock_costs_one_connection_and_the_session_reads_on_it(pg_dsn, options):
    async with open_event_store(pg_dsn, options, max_connections=1) as store:
        stream_id = uuid4()
        await deposit(store, stream_id, 1)
        async with store.session() as session:
            await session.events.append_exclusive(stream_id, Deposited(2))
            assert len(await session.events.fetch_stream(stream_id)) == 1
            await session.save_changes()
            assert len(await session.events.fetch_stream(stream_id)) == 2


async def test_whoever_was_locked_out_keeps_no_connection(pg_dsn, options):
    async with open_event_store(pg_dsn, options, max_connections=2) as store:
        stream_id = uuid4()
        await deposit(store, stream_id, 1)
        async with store.session() as first, store.session() as second:
            await first.events.append_exclusive(stream_id, Deposited(2))
            with pytest.raises(StreamLockedError):
                await second.events.append_exclusive(stream_id, Deposited(3), lock_timeout=0.05)
            with trio.fail_after(60):
                assert await amounts(store, stream_id) == [1]


@pytest.mark.parametrize("moved", [False, True])
async def test_a_lost_connection_loses_the_lock_and_not_the_guard(store, stream_id, moved):
    async with store.session() as session:
        await session.events.append_exclusive(stream_id, Deposited(3))
        async with session.lend() as connection:
            pid = connection.info.backend_pid
        async with store.connection() as other:
            await other.execute("select pg_terminate_backend(%s, 5000)", (pid,))
        with pytest.raises(DatabaseUnavailableError):
            await session.save_changes()
        if moved:
            await deposit(store, stream_id, 9)
            with pytest.raises(ConcurrencyError):
                await session.save_changes()
        else:
            await session.save_changes()
    assert await amounts(store, stream_id) == [1, 2, 9 if moved else 3]


async def test_a_timeout_counts_for_its_own_wait_only(store, stream_id):
    async with store.session() as session:
        await session.events.append_exclusive(stream_id, Deposited(3), lock_timeout=5)
        async with session.lend() as connection:
            cursor = await connection.execute("show lock_timeout")
            assert await cursor.fetchone() == ("0",)


async def test_locks_hold_no_mark(store, stream_id):
    async with store.session() as session:
        await session.events.append_exclusive(stream_id, Deposited(3))
        await deposit(store, uuid4(), 1)
        assert await store.high_water() == 3


async def test_text_identities_can_be_locked(opening):
    async with opening(stream_identity="string") as store:
        await deposit(store, "a b", 1)
        async with store.session() as session:
            await session.events.append_exclusive("a b", Deposited(2))
            await session.save_changes()
        assert await amounts(store, "a b") == [1, 2]


async def test_inline_projections_run_under_the_lock(opening):
    async with opening() as store:
        store.options.projections.aggregate_streams_with(Account, lifecycle=Lifecycle.INLINE)
        stream_id = uuid4()
        await deposit(store, stream_id, 1)
        async with store.session() as session:
            await session.events.append_exclusive(stream_id, Deposited(2))
            await session.save_changes()
            assert (await session.load(Account, stream_id)).balance == 3


# -- writing to what was fetched -----------------------------------------------------------------


async def test_a_stream_fetched_exclusively_keeps_others_out(store, stream_id):
    async with store.session() as first, store.session() as second:
        handle = await first.events.fetch_for_writing(Account, stream_id, exclusive=True)
        assert (handle.aggregate.balance, handle.starting_version) == (3, 2)
        with pytest.raises(StreamLockedError):
            await second.events.fetch_for_writing(
                Account, stream_id, exclusive=True, lock_timeout=0.05
            )
        handle.append(Deposited(4))
        await first.save_changes()
        handle = await second.events.fetch_for_writing(Account, stream_id, exclusive=True)
        assert (handle.aggregate.balance, handle.starting_version) == (7, 3)


async def test_a_stream_that_does_not_exist_can_be_fetched_exclusively(store):
    stream_id = uuid4()
    async with store.session() as first, store.session() as second:
        handle = await first.events.fetch_for_writing(Account, stream_id, exclusive=True)
        assert (handle.aggregate, handle.starting_version) == (None, 0)
        with pytest.raises(StreamLockedError):
            await second.events.fetch_for_writing(
                Account, stream_id, exclusive=True, lock_timeout=0.05
            )
        handle.append(Deposited(1))
        await first.save_changes()
    assert await amounts(store, stream_id) == [1]


async def test_a_handle_counts_what_was_queued_before_it(store, stream_id):
    async with store.session() as session:
        session.events.append(stream_id, Deposited(3))
        handle = await session.events.fetch_for_writing(Account, stream_id)
        handle.append(Deposited(4))
        await session.save_changes()
        handle.append(Deposited(5))
        await session.save_changes()
    assert await amounts(store, stream_id) == [1, 2, 3, 4, 5]
