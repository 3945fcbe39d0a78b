"""Arranging events: by stream, and back into the store's order."""

from collections.abc import Iterable
from itertools import chain
from operator import attrgetter

from flowstore.events._event import Event, EventStream, StreamId

__all__ = ["group_by_stream_id", "in_sequence"]

_by_sequence = attrgetter("sequence")


def group_by_stream_id(events: Iterable[Event]) -> tuple[EventStream, ...]:
    """Group events by the stream they belong to.

    Two tenants' streams of the same identity are two streams.

    Args:
        events: in sequence order, which within a stream is version order.

    Returns:
        The streams in the order of their first event; events within each as they came.
    """
    grouped: dict[tuple[str | None, StreamId], list[Event]] = {}
    for event in events:
        grouped.setdefault((event.tenant_id, event.stream_id), []).append(event)
    return tuple(EventStream(stream_id, members) for (_, stream_id), members in grouped.items())


def in_sequence(streams: Iterable[EventStream]) -> list[Event]:
    """List the events of all streams in sequence order."""
    return sorted(chain.from_iterable(stream.events for stream in streams), key=_by_sequence)
