"""The event that archives its stream."""

from uuid import UUID, uuid4

import attrs
import pytest

from flowstore.errors import StreamArchivedError
from flowstore.events import Archived, NewEvent
from flowstore.projections import Lifecycle


@attrs.frozen
class Deposited:
    amount: int


@attrs.define
class Account:
    id: UUID
    balance: int = 0
    closed: str = ""

    def apply(self, deposited: Deposited) -> None:
        self.balance += deposited.amount

    def apply_archived(self, archived: Archived) -> None:
        self.closed = archived.reason


async def append(store, stream_id, *events):
    async with store.session() as session:
        session.events.append(stream_id, *events)
        await session.save_changes()


async def test_it_archives_its_stream_at_the_commit(store):
    stream_id, other = uuid4(), uuid4()
    await append(store, stream_id, Deposited(1))
    async with store.session() as session:
        session.events.append(other, Deposited(2))
        session.events.append(stream_id, Deposited(3), Archived("moved away"))
        assert not (await session.events.fetch_stream_state(stream_id)).archived
        await session.save_changes()
        assert (await session.events.fetch_stream_state(stream_id)).archived
        assert not (await session.events.fetch_stream_state(other)).archived
        assert await session.events.fetch_stream(stream_id) == []
        events = await session.events.fetch_stream(stream_id, include_archived=True)
    assert [event.data for event in events] == [
        Deposited(1),
        Deposited(3),
        Archived("moved away"),
    ]
    page = await store.fetch_page(0, 4)
    assert [event.data for event in page.events] == [Deposited(2)]
    with pytest.raises(StreamArchivedError):
        await append(store, stream_id, Deposited(4))


async def test_a_stream_can_begin_and_end_in_one_commit(store):
    async with store.session() as session:
        action = session.events.start_stream(uuid4(), Deposited(1), Archived())
        await session.save_changes()
        assert (await session.events.fetch_stream_state(action.stream_id)).archived


async def test_nothing_follows_it_in_the_session(store):
    async with store.session() as session:
        stream_id = uuid4()
        session.events.append(stream_id, NewEvent(Archived()))
        with pytest.raises(StreamArchivedError):
            session.events.append(stream_id, Deposited(1))
        assert len(session.events.pending) == 1


async def test_it_can_be_repeated(store):
    stream_id, event_id = uuid4(), uuid4()
    for _ in range(2):
        await append(store, stream_id, NewEvent(Archived(), id=event_id))
    assert (await store.session().events.fetch_stream_state(stream_id)).version == 1


async def test_without_a_commit_nothing_is_archived(store):
    stream_id = uuid4()
    await append(store, stream_id, Deposited(1))
    async with store.session() as session:
        session.events.append(stream_id, Archived())
    await append(store, stream_id, Deposited(2))


async def test_inline_projections_see_it(opening):
    async with opening() as store:
        store.options.projections.aggregate_streams_with(Account, lifecycle=Lifecycle.INLINE)
        stream_id = uuid4()
        await append(store, stream_id, Deposited(1), Archived("done"))
        loaded = await store.session().load(Account, stream_id)
        assert loaded == Account(stream_id, 1, "done")
