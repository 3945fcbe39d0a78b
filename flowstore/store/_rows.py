"""Stored events as rows, and rows as events."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from flowstore.codec import EventCodec
from flowstore.errors import FlowstoreError
from flowstore.events import Event, EventFailure, recorded_event
from flowstore.store._names import told_tenant

__all__ = ["EventRow", "decode_page", "decode_row", "row_size"]

EventRow: TypeAlias = Sequence[Any]


def decode_row(codec: EventCodec, row: EventRow) -> Event:
    """Make an event of a row.

    Raises:
        UnknownEventTypeError: no known type has the stored name.
        InvalidEventError: the stored data doesn't fit its type.
    """
    sequence, event_id, stream_id, version, type_name, data, timestamp, headers = row[:8]
    correlation_id, causation_id, user_name, tenant = row[8:12]
    return recorded_event(
        codec.decode(type_name, data),
        sequence,
        event_id,
        (stream_id, version),
        type_name,
        timestamp,
        codec.decode_headers(headers),
        (correlation_id, causation_id, told_tenant(tenant), user_name),
    )


def decode_page(
    codec: EventCodec, rows: Iterable[EventRow]
) -> tuple[list[Event], list[EventFailure]]:
    """Make events of rows, setting aside those that can't be decoded."""
    events: list[Event] = []
    failures: list[EventFailure] = []
    for row in rows:
        try:
            events.append(decode_row(codec, row))
        except FlowstoreError as error:
            sequence, _, stream_id, version, type_name, *_ = row
            failures.append(EventFailure(sequence, stream_id, version, type_name, error))
    return events, failures


def row_size(row: EventRow) -> int:
    """Give about how many bytes of JSON an event's row has: its characters, without encoding."""
    return len(row[5]) + len(row[7] or "")
