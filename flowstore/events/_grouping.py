"""Arranging events: by stream, and back into the store's order."""

from collections.abc import Iterable
from itertools import chain
from operator import attrgetter
from typing import Any, TypeAlias
from uuid import UUID

from flowstore.events._event import Event, EventStream

__all__ = ["PlainKey", "group_by_stream_id", "in_sequence", "plain_key"]

PlainKey: TypeAlias = str | int
"""What an identity is looked up by."""

_by_sequence = attrgetter("sequence")


def group_by_stream_id(events: Iterable[Event]) -> tuple[EventStream, ...]:
    """Group events by the stream they belong to.

    Two tenants' streams of the same identity are two streams.

    Args:
        events: in sequence order, which within a stream is version order.

    Returns:
        The streams in the order of their first event; events within each as they came.
    """
    grouped: dict[tuple[str | None, PlainKey], list[Event]] = {}
    find = grouped.get
    for event in events:
        stream_id = event.stream_id
        # As `plain_key` has it, without the call.
        key = (event.tenant_id, stream_id.int if isinstance(stream_id, UUID) else stream_id)
        members = find(key)
        if members is None:
            grouped[key] = [event]
        else:
            members.append(event)
    return tuple([EventStream(members[0].stream_id, members) for members in grouped.values()])


def plain_key(identity: Any) -> PlainKey:
    """Give what an identity is quickly looked up by, among others of its kind.

    A UUID's own hash and comparison are Python's, and take as long as handling the event.
    """
    return identity.int if isinstance(identity, UUID) else identity


def in_sequence(streams: Iterable[EventStream]) -> list[Event]:
    """List the events of all streams in sequence order."""
    return sorted(chain.from_iterable(stream.events for stream in streams), key=_by_sequence)
