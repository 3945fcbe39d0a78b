"""Giving facts their places, as a store would, and telling of them in a line."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from flowstore.codec import stored_name_of
from flowstore.events import Event, StreamId

__all__ = ["place", "told"]

_BEGIN: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""The time of sequence 0; each sequence is a second later, so that histories repeat exactly."""


def place(facts: Iterable[tuple[StreamId, Any, int]], *, after: int = 0) -> tuple[Event, ...]:
    """Record facts in their order.

    Args:
        facts: stream, data and the step in sequence from the event before, at least 1: a larger
            one leaves a gap, as a transaction that was rolled back does.
        after: the sequence that the first step begins at.

    Returns:
        Events whose versions count up from 1 in each stream.
    """
    versions: dict[StreamId, int] = {}
    events: list[Event] = []
    sequence = after
    for stream_id, data, step in facts:
        sequence += step
        versions[stream_id] = versions.get(stream_id, 0) + 1
        events.append(_event(stream_id, data, sequence, versions[stream_id]))
    return tuple(events)


def told(event: Event) -> str:
    """Tell of an event in a few words: its places, then its data."""
    return (
        f"sequence {event.sequence}, version {event.version} of stream {str(event.stream_id)!r}:"
        f" {event.data!r}"
    )


def _event(stream_id: StreamId, data: Any, sequence: int, version: int) -> Event:
    kind: type[Any] = data.__class__
    return Event(
        data=data,
        sequence=sequence,
        id=UUID(int=sequence),
        stream_id=stream_id,
        version=version,
        type_name=stored_name_of(kind),
        timestamp=_BEGIN + timedelta(seconds=sequence),
    )
