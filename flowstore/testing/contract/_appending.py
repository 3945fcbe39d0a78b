# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Starting streams and appending to them."""

from uuid import uuid4

import pytest

from flowstore.daemon import Store
from flowstore.errors import EmptyStreamError, StreamCollisionError
from flowstore.events import StreamAction
from flowstore.testing.contract._domain import Account, Deposited, Opened, Withdrawn, commit, values


class TestAppending:
    async def test_a_started_stream_has_its_events(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            session.events.start_stream(stream, Opened("Ada"), Deposited(5))
            await session.save_changes()
        assert await values(store, stream) == [Opened("Ada"), Deposited(5)]

    async def test_starting_gives_an_action_that_names_the_stream(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            action = session.events.start_stream(stream, Opened("Ada"))
            assert isinstance(action, StreamAction)
            assert action.stream_id == stream
            assert action.starts

    async def test_appending_gives_an_action_that_does_not_start(self, store: Store) -> None:
        async with store.session() as session:
            action = session.events.append(uuid4(), Opened("Ada"))
            assert not action.starts

    async def test_an_action_has_versions_and_sequences_after_the_commit(
        self, store: Store
    ) -> None:
        action = await commit(store, uuid4(), Opened("Ada"), Deposited(1), Deposited(2))
        assert [event.version for event in action.events] == [1, 2, 3]
        sequences = [event.sequence for event in action.events]
        assert sequences == sorted(set(sequences))
        assert sequences[0] > 0
        assert all(event.id for event in action.events)

    async def test_starting_a_stream_that_exists_is_refused(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            session.events.start_stream(stream, Opened("Grace"))
            with pytest.raises(StreamCollisionError) as caught:
                await session.save_changes()
        assert caught.value.stream_id == stream
        assert str(stream) in str(caught.value)
        assert await values(store, stream) == [Opened("Ada")]

    async def test_appending_begins_a_stream_if_need_be(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Deposited(1))
        assert await values(store, stream) == [Deposited(1)]

    async def test_appending_goes_on_behind_the_last_version(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(1))
        action = await commit(store, stream, Deposited(2), Deposited(3))
        assert [event.version for event in action.events] == [3, 4]

    async def test_two_appends_to_one_stream_in_one_session_keep_their_order(
        self, store: Store
    ) -> None:
        stream = uuid4()
        async with store.session() as session:
            first = session.events.append(stream, Deposited(1))
            second = session.events.append(stream, Deposited(2), Deposited(3))
            await session.save_changes()
        assert [event.version for event in first.events] == [1]
        assert [event.version for event in second.events] == [2, 3]
        assert await values(store, stream) == [Deposited(1), Deposited(2), Deposited(3)]

    async def test_start_and_append_in_one_session(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            session.events.start_stream(stream, Opened("Ada"))
            session.events.append(stream, Deposited(1))
            await session.save_changes()
        assert await values(store, stream) == [Opened("Ada"), Deposited(1)]

    async def test_starting_one_stream_twice_in_one_session_is_refused(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            with pytest.raises(StreamCollisionError):
                session.events.start_stream(stream, Opened("Ada"))
                session.events.start_stream(stream, Opened("Grace"))
                await session.save_changes()
        assert await values(store, stream) == []

    async def test_many_streams_in_one_session_commit_together(self, store: Store) -> None:
        streams = [uuid4() for _ in range(20)]
        async with store.session() as session:
            for number, stream in enumerate(streams):
                session.events.start_stream(stream, Deposited(number))
            await session.save_changes()
        for number, stream in enumerate(streams):
            assert await values(store, stream) == [Deposited(number)]

    async def test_one_refused_stream_keeps_the_others_from_being_written(
        self, store: Store
    ) -> None:
        taken, free = uuid4(), uuid4()
        await commit(store, taken, Opened("Ada"))
        async with store.session() as session:
            session.events.start_stream(free, Opened("Grace"))
            session.events.start_stream(taken, Opened("Grace"))
            with pytest.raises(StreamCollisionError):
                await session.save_changes()
        assert await values(store, free) == []

    async def test_a_stream_needs_an_event(self, store: Store) -> None:
        async with store.session() as session:
            with pytest.raises(EmptyStreamError):
                session.events.start_stream(uuid4())
            with pytest.raises(EmptyStreamError):
                session.events.append(uuid4())

    async def test_a_large_stream_is_appended_in_order(self, store: Store) -> None:
        stream = uuid4()
        amounts = [Deposited(number) for number in range(1000)]
        action = await commit(store, stream, *amounts)
        assert [event.version for event in action.events] == list(range(1, 1001))
        assert await values(store, stream) == amounts

    async def test_sequences_of_one_commit_rise_in_the_order_of_queueing(
        self, store: Store
    ) -> None:
        one, other = uuid4(), uuid4()
        async with store.session() as session:
            actions = [
                session.events.append(one, Deposited(1)),
                session.events.append(other, Deposited(2)),
                session.events.append(one, Withdrawn(1)),
            ]
            await session.save_changes()
        sequences = [event.sequence for action in actions for event in action.events]
        assert sequences == sorted(sequences)

    async def test_a_stream_type_may_be_named_when_it_starts(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            session.events.start_stream(stream, Opened("Ada"), stream_type=Account)
            await session.save_changes()
            state = await session.events.fetch_stream_state(stream)
        assert state.stream_type == "Account"
