"""Events are values: frozen, comparable, and cheap to carry around."""

import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import attrs
import pytest

from flowstore.errors import InvalidEventError
from flowstore.events import Archived, Event, EventPage, NewEvent

ID = UUID(int=1)


def make_event(data: Any = "something", **changes: Any) -> Event:
    place = {"sequence": 1, "id": ID, "stream_id": "trip-1", "version": 1, "type_name": "x"}
    return Event(data=data, timestamp=datetime(2026, 1, 2, tzinfo=UTC), **(place | changes))


def test_an_event_cannot_be_changed():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        make_event().sequence = 2  # pyright: ignore[reportAttributeAccessIssue]  # the point


def test_an_event_has_no_dictionary_of_its_own():
    assert not hasattr(make_event(), "__dict__")


def test_an_event_can_be_hashed_whatever_its_data_and_headers_are():
    event = make_event(data=["unhashable"], headers={"a": 1})
    assert {event: 1}[make_event(data=["unhashable"], headers={"a": 1})] == 1


def test_events_with_different_data_differ():
    assert make_event("a") != make_event("b")


def test_an_event_survives_pickling():
    event = make_event(Archived("moved"))
    assert pickle.loads(pickle.dumps(event)) == event


def test_a_page_keeps_its_interval_when_its_events_are_filtered():
    page = EventPage(3, 9, [make_event("a"), make_event("b")])
    filtered = attrs.evolve(page, events=[event for event in page.events if event.data == "b"])
    assert (filtered.floor, filtered.ceiling, len(filtered.events)) == (3, 9, 1)


@pytest.mark.parametrize(
    "when", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]
)
def test_a_timestamp_that_nobody_could_read_again_is_refused(when):
    for offset in (-14, 0, 14):
        zone = timezone(timedelta(hours=offset))
        with pytest.raises(InvalidEventError, match="lies outside"):
            NewEvent("something", timestamp=when.replace(tzinfo=zone))


def test_a_timestamp_without_a_time_zone_is_refused():
    with pytest.raises(InvalidEventError, match="no time zone"):
        NewEvent("something", timestamp=datetime(2026, 1, 2))  # noqa: DTZ001  # the point


@pytest.mark.parametrize("envelope", [make_event(), NewEvent("something")], ids=["old", "new"])
def test_an_envelope_is_not_wrapped_again(envelope):
    with pytest.raises(InvalidEventError, match=r"pass its \.data"):
        NewEvent(envelope)


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"id": "d9b2d63d-a233-4123-847a-7090a1f3d1f5"}, "UUID"),
        ({"id": 5}, "UUID"),
        ({"timestamp": "2026-01-01"}, "datetime"),
        ({"headers": 5}, "headers"),
    ],
)
def test_what_is_said_of_an_event_has_the_right_type(said, word):
    with pytest.raises(InvalidEventError, match=word):
        NewEvent("something", **said)


def test_no_headers_may_be_said_as_none():
    assert NewEvent("something", headers=None).headers == {}
