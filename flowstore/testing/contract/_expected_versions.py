# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Saying at which version a stream has to be."""

from typing import Any
from uuid import uuid4

import pytest
import trio

from flowstore.daemon import Store
from flowstore.errors import (
    ConcurrencyError,
    FlowstoreError,
    InvalidEventError,
    StreamNotFoundError,
)
from flowstore.events import ANY, NO_STREAM
from flowstore.testing.contract._domain import Deposited, Opened, commit, values


class TestExpectedVersions:
    async def test_the_version_before_these_events_is_accepted(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(1))
        async with store.session() as session:
            session.events.append(stream, Deposited(2), expected_version=2)
            await session.save_changes()
        assert len(await values(store, stream)) == 3

    @pytest.mark.parametrize("expected", [1, 3, 100])
    async def test_any_other_version_is_refused(self, store: Store, expected: int) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(1))
        async with store.session() as session:
            session.events.append(stream, Deposited(2), expected_version=expected)
            with pytest.raises(ConcurrencyError) as caught:
                await session.save_changes()
        assert (caught.value.expected, caught.value.found) == (expected, 2)
        assert str(stream) in str(caught.value)
        assert len(await values(store, stream)) == 2

    async def test_no_stream_begins_one(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            session.events.append(stream, Opened("Ada"), expected_version=NO_STREAM)
            await session.save_changes()
        assert await values(store, stream) == [Opened("Ada")]

    async def test_no_stream_refuses_one_that_exists(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            session.events.append(stream, Deposited(1), expected_version=NO_STREAM)
            with pytest.raises((ConcurrencyError, FlowstoreError)):
                await session.save_changes()
        assert await values(store, stream) == [Opened("Ada")]

    async def test_any_asks_nothing(self, store: Store) -> None:
        stream = uuid4()
        for _ in range(2):
            async with store.session() as session:
                session.events.append(stream, Deposited(1), expected_version=ANY)
                await session.save_changes()
        assert len(await values(store, stream)) == 2

    async def test_a_version_of_a_stream_that_does_not_exist_is_refused(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            session.events.append(stream, Deposited(1), expected_version=3)
            with pytest.raises(ConcurrencyError):
                await session.save_changes()
        assert await values(store, stream) == []

    async def test_a_negative_version_is_refused(self, store: Store) -> None:
        async with store.session() as session:
            with pytest.raises((FlowstoreError, ValueError)):
                session.events.append(uuid4(), Deposited(1), expected_version=-1)
                await session.save_changes()

    @pytest.mark.parametrize("version", [1.5, "1", True, uuid4()])
    async def test_what_is_no_version_is_refused(self, store: Store, version: Any) -> None:
        with pytest.raises(InvalidEventError, match="is no version"):
            store.session().events.append(uuid4(), Deposited(1), expected_version=version)

    async def test_events_queued_before_count(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            session.events.append(stream, Deposited(1), expected_version=1)
            session.events.append(stream, Deposited(2), expected_version=2)
            await session.save_changes()
        assert len(await values(store, stream)) == 3

    async def test_of_two_sessions_that_expect_the_same_one_wins(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as mine, store.session() as yours:
            mine.events.append(stream, Deposited(1), expected_version=1)
            yours.events.append(stream, Deposited(2), expected_version=1)
            await mine.save_changes()
            with pytest.raises(ConcurrencyError):
                await yours.save_changes()
        assert await values(store, stream) == [Opened("Ada"), Deposited(1)]

    async def test_of_many_at_once_exactly_one_wins(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        won: list[int] = []
        lost: list[int] = []

        async def try_it(number: int) -> None:
            async with store.session() as session:
                session.events.append(stream, Deposited(number), expected_version=1)
                try:
                    await session.save_changes()
                except ConcurrencyError:
                    lost.append(number)
                else:
                    won.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(try_it, number)
        assert len(won) == 1
        assert len(lost) == 9
        assert await values(store, stream) == [Opened("Ada"), Deposited(won[0])]

    async def test_many_at_once_that_expect_nothing_all_succeed(self, store: Store) -> None:
        stream = uuid4()
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(commit, store, stream, Deposited(number))
        found = await values(store, stream)
        assert sorted(value.amount for value in found) == list(range(20))

    async def test_append_optimistic_goes_on_with_what_is_there(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            action = await session.events.append_optimistic(stream, Deposited(1))
            await session.save_changes()
        assert [event.version for event in action.events] == [2]

    async def test_append_optimistic_refuses_when_somebody_was_faster(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            await session.events.append_optimistic(stream, Deposited(1))
            await commit(store, stream, Deposited(2))
            with pytest.raises(ConcurrencyError):
                await session.save_changes()
        assert await values(store, stream) == [Opened("Ada"), Deposited(2)]

    async def test_append_optimistic_needs_a_stream(self, store: Store) -> None:
        async with store.session() as session:
            with pytest.raises(StreamNotFoundError):
                await session.events.append_optimistic(uuid4(), Deposited(1))

    async def test_append_optimistic_twice_in_one_session(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            await session.events.append_optimistic(stream, Deposited(1))
            await session.events.append_optimistic(stream, Deposited(2))
            await session.save_changes()
        assert await values(store, stream) == [Opened("Ada"), Deposited(1), Deposited(2)]
