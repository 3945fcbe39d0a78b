"""A stream action follows its events from the queue into the store."""

from datetime import UTC, datetime
from uuid import UUID

import attrs
import pytest

from flowstore.errors import InvalidEventError
from flowstore.events import Event, StreamAction


def queued(number: int) -> Event:
    return Event(
        data=number,
        sequence=0,
        id=UUID(int=number),
        stream_id="trip-1",
        version=0,
        type_name="counted",
        timestamp=datetime(2026, 1, 2, tzinfo=UTC),
    )


def recorded(event: Event, place: int) -> Event:
    return attrs.evolve(event, sequence=place + 100, version=place)


def test_queued_events_have_an_id_and_no_place():
    action = StreamAction("trip-1", [queued(1)], starts=True)
    event = action.events[0]
    assert (event.id, event.sequence, event.version) == (UUID(int=1), 0, 0)
    assert not action.is_committed


def test_the_commit_gives_the_events_their_place():
    action = StreamAction("trip-1", [queued(1), queued(2)])
    action.settle([recorded(queued(1), 1), recorded(queued(2), 2)])
    assert [(event.sequence, event.version) for event in action.events] == [(101, 1), (102, 2)]
    assert action.is_committed


def test_only_the_queued_events_can_be_settled():
    action = StreamAction("trip-1", [queued(1), queued(2)])
    with pytest.raises(InvalidEventError, match="'trip-1'"):
        action.settle([recorded(queued(2), 1), recorded(queued(1), 2)])
    assert not action.is_committed


def test_two_actions_on_one_stream_are_not_the_same():
    assert StreamAction("trip-1", [queued(1)]) != StreamAction("trip-1", [queued(1)])
