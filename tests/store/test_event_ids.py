"""Appending the same event again."""

from uuid import uuid4

import attrs
import pytest

from flowstore.errors import ConcurrencyError, EventIdConflictError
from flowstore.events import NewEvent
from flowstore.projections import AsyncOptions, Lifecycle, Projections


@attrs.frozen
class Paid:
    amount: int


@attrs.frozen
class Refunded:
    amount: int


async def save(store, stream_id, *events, start=False, **asked):
    async with store.session() as session:
        verb = session.events.start_stream if start else session.events.append
        action = verb(stream_id, *events, **asked)
        await session.save_changes()
    return action


async def test_the_same_event_again_is_a_success_without_a_second_row(store):
    stream_id, event_id = uuid4(), uuid4()
    first = await save(store, stream_id, NewEvent(Paid(1), id=event_id))
    again = await save(store, stream_id, NewEvent(Paid(1), id=event_id))
    assert again.events[0].sequence == first.events[0].sequence
    assert await store.highest_sequence() == 1


@pytest.mark.parametrize("asked", [{"start": True}, {"expected_version": 0}])
async def test_a_commit_repeated_as_a_whole_is_not_refused_for_its_own_versions(store, asked):
    stream_id = uuid4()
    events = [NewEvent(Paid(n), id=uuid4()) for n in range(3)]
    first = await save(store, stream_id, *events, **asked)
    again = await save(store, stream_id, *events, **asked)
    assert again.events == first.events


async def test_what_is_new_is_appended_beside_what_is_stored(store):
    stream_id, event_id = uuid4(), uuid4()
    await save(store, stream_id, NewEvent(Paid(1), id=event_id))
    action = await save(store, stream_id, NewEvent(Paid(1), id=event_id), Paid(2))
    assert [event.version for event in action.events] == [1, 2]


async def test_a_partly_stored_append_still_minds_its_expected_version(store):
    stream_id, event_id = uuid4(), uuid4()
    await save(store, stream_id, NewEvent(Paid(1), id=event_id), expected_version=0)
    await save(store, stream_id, Paid(5))
    with pytest.raises(ConcurrencyError):
        await save(store, stream_id, NewEvent(Paid(1), id=event_id), Paid(2), expected_version=0)


@pytest.mark.parametrize("other", [Paid(2), Refunded(1)])
async def test_another_event_under_the_same_id_is_a_conflict(store, other):
    stream_id, event_id = uuid4(), uuid4()
    await save(store, stream_id, NewEvent(Paid(1), id=event_id))
    with pytest.raises(EventIdConflictError) as caught:
        await save(store, stream_id, NewEvent(other, id=event_id))
    assert caught.value.event_id == event_id


async def test_the_same_event_in_another_stream_is_a_conflict(store):
    event_id = uuid4()
    await save(store, uuid4(), NewEvent(Paid(1), id=event_id))
    with pytest.raises(EventIdConflictError):
        await save(store, uuid4(), NewEvent(Paid(1), id=event_id))


async def test_one_event_twice_in_one_commit_is_stored_once(store):
    stream_id, event_id = uuid4(), uuid4()
    new = NewEvent(Paid(1), id=event_id)
    action = await save(store, stream_id, new, Paid(2), new)
    assert [event.version for event in action.events] == [1, 2, 1]
    with pytest.raises(EventIdConflictError):
        await save(store, stream_id, *(NewEvent(Paid(n), id=stream_id) for n in (1, 2)))


async def test_a_loser_whose_events_are_new_stays_a_loser(store):
    stream_id = uuid4()
    await save(store, stream_id, Paid(1))
    with pytest.raises(ConcurrencyError):
        await save(store, stream_id, NewEvent(Paid(1), id=uuid4()), expected_version=0)


async def test_a_repeat_completes_a_commit_whose_documents_were_lost(store):
    stream_id, event_id = uuid4(), uuid4()
    await save(store, stream_id, NewEvent(Paid(1), id=event_id))

    @attrs.define
    class Receipt:
        id: str

    async with store.session() as session:
        session.events.start_stream(stream_id, NewEvent(Paid(1), id=event_id))
        session.store(Receipt("r"))
        await session.save_changes()
        assert await session.load(Receipt, "r") == Receipt("r")


class Telling:
    """An inline projection with an effect."""

    name = "telling"
    consumes = ()
    produces = None
    async_options = AsyncOptions()

    def __init__(self):
        self.told = []

    async def apply(self, session, streams):
        session.after_commit(lambda: self.told.append("inline"))


async def test_a_repeat_calls_what_waits_in_the_session_and_nothing_inline_again(opening):
    """As `save_changes` after a commit whose answer was lost: its events have the same ids."""
    projections, telling = Projections(), Telling()
    projections.add(telling, lifecycle=Lifecycle.INLINE)
    stream, event = uuid4(), NewEvent(Paid(1), id=uuid4())
    async with opening(projections=projections) as store:
        for _ in range(2):
            async with store.session() as session:
                session.events.append(stream, event)
                session.after_commit(lambda: telling.told.append("session"))
                await session.save_changes()
        assert len(await store.session().events.fetch_stream(stream)) == 1
    assert telling.told == ["session", "inline", "session"]
