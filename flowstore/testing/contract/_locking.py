# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Keeping others from appending meanwhile."""

from uuid import uuid4

import pytest
import trio

from flowstore.daemon import Store
from flowstore.errors import StreamArchivedError, StreamLockedError, StreamNotFoundError
from flowstore.testing.contract._archiving import archive
from flowstore.testing.contract._domain import Account, Deposited, Opened, commit, read, values
from flowstore.testing.contract._fixtures import Capability, needs


@needs(Capability.WAITING_LOCKS)
class TestExclusiveAppends:
    async def test_an_exclusive_append_is_committed(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            await session.events.append_exclusive(stream, Deposited(1))
            await session.save_changes()
        assert await values(store, stream) == [Opened("Ada"), Deposited(1)]

    async def test_another_has_to_wait_and_is_told(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as mine, store.session() as yours:
            await mine.events.append_exclusive(stream, Deposited(1))
            with pytest.raises(StreamLockedError) as caught:
                await yours.events.append_exclusive(stream, Deposited(2), lock_timeout=0.05)
        assert caught.value.stream_id == stream

    async def test_it_ends_with_the_commit(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as mine, store.session() as yours:
            await mine.events.append_exclusive(stream, Deposited(1))
            await mine.save_changes()
            with trio.fail_after(20):
                await yours.events.append_exclusive(stream, Deposited(2), lock_timeout=10)
                await yours.save_changes()
        assert [event.version for event in await read(store, stream)] == [1, 2, 3]

    async def test_it_ends_with_the_session(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as mine:
            await mine.events.append_exclusive(stream, Deposited(1))
        async with store.session() as yours:
            with trio.fail_after(20):
                await yours.events.append_exclusive(stream, Deposited(2), lock_timeout=10)
                await yours.save_changes()
        assert await values(store, stream) == [Opened("Ada"), Deposited(2)]

    async def test_a_plain_append_waits_its_turn(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                async with store.session() as mine:
                    await mine.events.append_exclusive(stream, Deposited(1))
                    nursery.start_soon(commit, store, stream, Deposited(2))
                    await mine.save_changes()
        assert await values(store, stream) == [Opened("Ada"), Deposited(1), Deposited(2)]

    async def test_other_streams_are_free(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            await session.events.append_exclusive(stream, Deposited(1))
            with trio.fail_after(20):
                await commit(store, uuid4(), Deposited(2))

    async def test_a_missing_stream_is_refused(self, store: Store) -> None:
        async with store.session() as session:
            with pytest.raises(StreamNotFoundError):
                await session.events.append_exclusive(uuid4(), Deposited(1))

    async def test_an_archived_stream_is_refused(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        await archive(store, stream)
        async with store.session() as session:
            with pytest.raises(StreamArchivedError):
                await session.events.append_exclusive(stream, Deposited(1))

    async def test_fetch_for_writing_may_be_exclusive(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as mine, store.session() as yours:
            handle = await mine.events.fetch_for_writing(Account, stream, exclusive=True)
            with pytest.raises(StreamLockedError):
                await yours.events.fetch_for_writing(
                    Account, stream, exclusive=True, lock_timeout=0.05
                )
            handle.append(Deposited(1))
            await mine.save_changes()
        assert len(await read(store, stream)) == 2

    async def test_no_exclusive_update_is_lost(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Deposited(0))

        async def double() -> None:
            async with store.session() as session:
                handle = await session.events.fetch_for_writing(Account, stream, exclusive=True)
                handle.append(Deposited(handle.aggregate.balance + 1))
                await session.save_changes()

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(double)
        assert [value.amount for value in await values(store, stream)] == [0, 1, 2, 4, 8, 16]
