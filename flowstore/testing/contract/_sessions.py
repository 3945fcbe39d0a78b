# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""The session: a unit of work that is written whole, or not at all."""

from uuid import uuid4

import pytest
import trio

from flowstore.daemon import Store
from flowstore.errors import ConcurrencyError, FlowstoreError, StreamCollisionError
from flowstore.testing.contract._domain import (
    Deposited,
    Note,
    Opened,
    commit,
    get,
    put,
    read,
    values,
)


class TestSessions:
    async def test_left_without_saving_nothing_is_written(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            session.events.append(stream, Opened("Ada"))
            session.store(Note("a"))
        assert await read(store, stream) == []
        assert await get(store, Note, "a") is None

    async def test_left_by_an_exception_nothing_is_written(self, store: Store) -> None:
        stream = uuid4()
        with pytest.raises(ZeroDivisionError):
            async with store.session() as session:
                session.events.append(stream, Opened("Ada"))
                raise ZeroDivisionError
        assert await read(store, stream) == []

    async def test_saving_nothing_is_no_error(self, store: Store) -> None:
        async with store.session() as session:
            await session.save_changes()
        assert await store.highest_sequence() == 0

    async def test_pending_is_what_is_queued(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            assert list(session.events.pending) == []
            first = session.events.start_stream(stream, Opened("Ada"))
            second = session.events.append(stream, Deposited(1))
            assert list(session.events.pending) == [first, second]
            await session.save_changes()
            assert list(session.events.pending) == []

    async def test_a_session_can_be_used_again_after_a_commit(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            session.events.append(stream, Opened("Ada"))
            await session.save_changes()
            session.events.append(stream, Deposited(1))
            session.store(Note("a"))
            await session.save_changes()
        assert await values(store, stream) == [Opened("Ada"), Deposited(1)]
        assert await get(store, Note, "a") == Note("a")

    async def test_saving_twice_writes_once(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            session.events.append(stream, Opened("Ada"))
            await session.save_changes()
            await session.save_changes()
        assert len(await read(store, stream)) == 1

    async def test_a_failed_commit_keeps_the_queue(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            action = session.events.append(stream, Deposited(2), expected_version=2)
            session.store(Note("a"))
            with pytest.raises(ConcurrencyError):
                await session.save_changes()
            assert list(session.events.pending) == [action]
            assert action.events[0].sequence == 0
            assert await session.load(Note, "a") == Note("a")
            await commit(store, stream, Deposited(1))
            await session.save_changes()
        assert await values(store, stream) == [Opened("Ada"), Deposited(1), Deposited(2)]
        assert await get(store, Note, "a") == Note("a")

    async def test_a_failed_commit_can_be_left(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            session.events.start_stream(stream, Opened("Grace"))
            with pytest.raises(StreamCollisionError):
                await session.save_changes()
        assert await values(store, stream) == [Opened("Ada")]

    async def test_cancelled_before_the_commit_nothing_is_written(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            session.events.append(stream, Opened("Ada"))
            with trio.CancelScope() as scope:
                scope.cancel()
                await session.save_changes()
            assert scope.cancelled_caught
            assert len(session.events.pending) == 1
        assert await read(store, stream) == []

    async def test_many_sessions_at_once(self, store: Store) -> None:
        streams = [uuid4() for _ in range(40)]
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for stream in streams:
                    nursery.start_soon(commit, store, stream, Opened("Ada"), Deposited(1))
        for stream in streams:
            assert len(await read(store, stream)) == 2

    async def test_streams_in_opposite_orders_do_not_block_each_other(self, store: Store) -> None:
        streams = [uuid4() for _ in range(10)]

        async def append_to_all(order: int) -> None:
            async with store.session() as session:
                for stream in streams[::order]:
                    session.events.append(stream, Deposited(1))
                await session.save_changes()

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for round_ in range(12):
                    nursery.start_soon(append_to_all, -1 if round_ % 2 else 1)
        for stream in streams:
            assert [event.version for event in await read(store, stream)] == list(range(1, 13))


class TestAfterCommit:
    async def test_functions_are_called_once_after_the_commit(self, store: Store) -> None:
        calls: list[object] = []

        async def look() -> None:
            calls.append(await get(store, Note, "a"))

        async with store.session() as session:
            session.store(Note("a", "there"))
            session.after_commit(lambda: calls.append("plain"))
            session.after_commit(look)
            assert calls == []
            await session.save_changes()
            assert calls == ["plain", Note("a", "there")]
            await session.save_changes()
        assert len(calls) == 2

    async def test_not_after_a_failed_commit(self, store: Store) -> None:
        calls: list[str] = []
        stream = uuid4()
        async with store.session() as session:
            session.events.append(stream, Deposited(1), expected_version=1)
            session.after_commit(lambda: calls.append("called"))
            with pytest.raises(FlowstoreError):
                await session.save_changes()
            assert calls == []
            await commit(store, stream, Opened("Ada"))
            await session.save_changes()
        assert calls == ["called"]

    async def test_not_when_the_session_is_left(self, store: Store) -> None:
        calls: list[str] = []
        async with store.session() as session:
            session.store(Note("a"))
            session.after_commit(lambda: calls.append("called"))
        assert calls == []

    async def test_a_failing_one_undoes_nothing(self, store: Store) -> None:
        def fail() -> None:
            raise ZeroDivisionError

        async with store.session() as session:
            session.store(Note("a"))
            session.after_commit(fail)
            with pytest.raises(ZeroDivisionError):
                await session.save_changes()
        assert await get(store, Note, "a") == Note("a")


class TestReopening:
    pytestmark = pytest.mark.usefixtures("needs_reopening")

    async def test_what_was_written_is_there(self, open_store_for, options) -> None:
        stream = uuid4()
        async with open_store_for(options) as store:
            await commit(store, stream, Opened("Ada"))
            await put(store, Note("a", "x"))
        async with open_store_for(options) as store:
            assert await values(store, stream) == [Opened("Ada")]
            assert await get(store, Note, "a") == Note("a", "x")

    async def test_two_stores_see_each_others_commits(self, open_store_for, options) -> None:
        stream = uuid4()
        async with open_store_for(options) as one, open_store_for(options) as other:
            await commit(one, stream, Opened("Ada"))
            await commit(other, stream, Deposited(1))
            assert await values(one, stream) == [Opened("Ada"), Deposited(1)]

    async def test_storages_are_apart(self, open_store_for, options) -> None:
        stream = uuid4()
        async with open_store_for(options) as one, open_store_for(options, "other") as other:
            await commit(one, stream, Opened("Ada"))
            assert await read(other, stream) == []
            assert await other.highest_sequence() == 0
