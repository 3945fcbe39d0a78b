# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Archiving streams."""

from uuid import uuid4

import pytest

from flowstore.daemon import Store
from flowstore.errors import StreamArchivedError
from flowstore.events import Archived
from flowstore.testing.contract._domain import Account, Deposited, Opened, commit, read, values


async def archive(store: Store, stream: object) -> None:
    """Archive a stream in a session of its own."""
    async with store.session() as session:
        session.events.archive_stream(stream)
        await session.save_changes()


class TestArchiving:
    async def test_an_archived_stream_reads_as_empty(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        await archive(store, stream)
        assert await read(store, stream) == []

    async def test_it_is_read_when_asked_for(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(1))
        await archive(store, stream)
        found = await values(store, stream, include_archived=True)
        assert found[:2] == [Opened("Ada"), Deposited(1)]

    async def test_its_state_says_so(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        await archive(store, stream)
        async with store.session() as session:
            state = await session.events.fetch_stream_state(stream)
        assert state.archived
        assert state.version == 1

    async def test_it_takes_no_more_events(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        await archive(store, stream)
        with pytest.raises(StreamArchivedError) as caught:
            await commit(store, stream, Deposited(1))
        assert caught.value.stream_id == stream
        assert await values(store, stream, include_archived=True) == [Opened("Ada")]

    async def test_it_can_not_be_started_again(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        await archive(store, stream)
        async with store.session() as session:
            with pytest.raises(StreamArchivedError):
                session.events.start_stream(stream, Opened("Grace"))
                await session.save_changes()

    async def test_append_optimistic_refuses_it(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        await archive(store, stream)
        async with store.session() as session:
            with pytest.raises(StreamArchivedError):
                await session.events.append_optimistic(stream, Deposited(1))

    async def test_nothing_is_archived_before_the_commit(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            session.events.archive_stream(stream)
        assert len(await read(store, stream)) == 1

    async def test_appending_archived_archives(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Archived("moved"))
        assert await read(store, stream) == []
        kept = await values(store, stream, include_archived=True)
        assert kept == [Opened("Ada"), Archived("moved")]
        with pytest.raises(StreamArchivedError):
            await commit(store, stream, Deposited(1))

    async def test_archiving_twice_is_no_error(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        await archive(store, stream)
        await archive(store, stream)
        assert await read(store, stream) == []

    async def test_archiving_what_does_not_exist_is_no_error(self, store: Store) -> None:
        stream = uuid4()
        await archive(store, stream)
        await commit(store, stream, Opened("Ada"))
        assert len(await read(store, stream)) == 1

    async def test_others_are_left_alone(self, store: Store) -> None:
        stream, other = uuid4(), uuid4()
        await commit(store, stream, Opened("Ada"))
        await commit(store, other, Opened("Grace"))
        await archive(store, stream)
        assert len(await read(store, other)) == 1

    async def test_live_aggregation_finds_nothing(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        await archive(store, stream)
        async with store.session() as session:
            assert await session.events.aggregate_stream(Account, stream) is None

    async def test_the_feed_passes_it_over_unless_asked(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        [kept] = (await commit(store, uuid4(), Opened("Grace"))).events
        await archive(store, stream)
        mark = await store.high_water()
        assert (await store.fetch_page(0, mark)).events == (kept,)
        everything = await store.fetch_page(0, mark, include_archived=True)
        assert len(everything.events) == 2
