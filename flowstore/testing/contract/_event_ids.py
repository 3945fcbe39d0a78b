# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Appending the same event twice."""

from uuid import uuid4

import pytest
import trio

from flowstore.daemon import Store
from flowstore.errors import EventIdConflictError
from flowstore.events import NewEvent
from flowstore.testing.contract._domain import Deposited, Withdrawn, commit, read, values


class TestEventIds:
    async def test_an_events_own_id_is_kept(self, store: Store) -> None:
        stream, identity = uuid4(), uuid4()
        await commit(store, stream, NewEvent(Deposited(1), id=identity))
        [event] = await read(store, stream)
        assert event.id == identity

    async def test_the_same_event_again_is_a_success_without_a_second_row(
        self, store: Store
    ) -> None:
        stream, event = uuid4(), NewEvent(Deposited(1), id=uuid4())
        first = await commit(store, stream, event)
        again = await commit(store, stream, event)
        assert len(await read(store, stream)) == 1
        assert again.events[0].version == first.events[0].version
        assert again.events[0].sequence == first.events[0].sequence

    async def test_another_event_under_that_id_is_refused(self, store: Store) -> None:
        stream, identity = uuid4(), uuid4()
        await commit(store, stream, NewEvent(Deposited(1), id=identity))
        with pytest.raises(EventIdConflictError) as caught:
            await commit(store, stream, NewEvent(Deposited(2), id=identity))
        assert caught.value.event_id == identity
        assert await values(store, stream) == [Deposited(1)]

    async def test_another_type_under_that_id_is_refused(self, store: Store) -> None:
        stream, identity = uuid4(), uuid4()
        await commit(store, stream, NewEvent(Deposited(1), id=identity))
        with pytest.raises(EventIdConflictError):
            await commit(store, stream, NewEvent(Withdrawn(1), id=identity))

    async def test_the_same_event_in_another_stream_is_refused(self, store: Store) -> None:
        event, other = NewEvent(Deposited(1), id=uuid4()), uuid4()
        await commit(store, uuid4(), event)
        with pytest.raises(EventIdConflictError):
            await commit(store, other, event)
        assert await read(store, other) == []

    async def test_one_id_twice_in_one_commit_is_refused_or_one_row(self, store: Store) -> None:
        stream, event = uuid4(), NewEvent(Deposited(1), id=uuid4())
        async with store.session() as session:
            try:
                session.events.append(stream, event, event)
                await session.save_changes()
            except EventIdConflictError:
                pass
        assert len(await read(store, stream)) <= 1

    async def test_a_repeated_commit_with_an_expected_version_succeeds(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Deposited(1))
        event = NewEvent(Deposited(2), id=uuid4())
        for _ in range(2):
            async with store.session() as session:
                session.events.append(stream, event, expected_version=1)
                await session.save_changes()
        assert await values(store, stream) == [Deposited(1), Deposited(2)]

    async def test_a_repeated_start_succeeds(self, store: Store) -> None:
        stream, event = uuid4(), NewEvent(Deposited(1), id=uuid4())
        for _ in range(2):
            async with store.session() as session:
                session.events.start_stream(stream, event)
                await session.save_changes()
        assert await values(store, stream) == [Deposited(1)]

    async def test_the_same_event_from_many_at_once_is_one_row(self, store: Store) -> None:
        stream, event = uuid4(), NewEvent(Deposited(1), id=uuid4())
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(commit, store, stream, event)
        assert await values(store, stream) == [Deposited(1)]

    async def test_a_repeat_goes_with_new_events_behind_it(self, store: Store) -> None:
        stream, event = uuid4(), NewEvent(Deposited(1), id=uuid4())
        await commit(store, stream, event)
        await commit(store, stream, event)
        await commit(store, stream, Deposited(2))
        assert [each.version for each in await read(store, stream)] == [1, 2]
