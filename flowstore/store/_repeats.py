"""Events that are stored already: appending the same event again is a success without a row."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from itertools import compress
from typing import Final
from uuid import UUID

import attrs

from flowstore.codec import EventCodec
from flowstore.errors import EventIdConflictError
from flowstore.events import Event, StreamAction, StreamId
from flowstore.store import _arrays
from flowstore.store._queue import QueuedAppend
from flowstore.store._sql import SchemaSql
from flowstore.store._statements import Row, Statement

__all__ = ["find_stored", "recorded_before", "without_doubles", "without_repeats"]

_STORED: Final = """
select e.id, e.stream_id, e.version, e.sequence, e.timestamp, e.tenant_id,
    e.type = n.type and e.data = n.data::jsonb
from unnest(%s::uuid[], %s::text[], %s::text[]) as n (id, type, data)
join {schema}.events e on e.id = n.id"""


def find_stored(sql: SchemaSql, codec: EventCodec, events: Sequence[Event]) -> Statement:
    """Select those of the events that are stored, each with whether it is the same event."""
    ids = _arrays.uuids(event.id for event in events)
    types = _arrays.texts([event.type_name for event in events])
    data = _arrays.texts([codec.encode(event.data) for event in events])
    return Statement(sql.statement(_STORED), (ids, types, data))


def recorded_before(events: Sequence[Event], rows: Sequence[Row], tenant: str) -> dict[UUID, Event]:
    """Give the events that are stored already their recorded places.

    Raises:
        EventIdConflictError: an id is stored with another event.
    """
    queued = {event.id: event for event in events}
    recorded: dict[UUID, Event] = {}
    for row in rows:
        event_id, stream_id, version, sequence, timestamp, stored_tenant, is_same = row
        event = queued[event_id]
        if not is_same or stream_id != event.stream_id or stored_tenant != tenant:
            raise EventIdConflictError(event_id)
        recorded[event.id] = attrs.evolve(
            event, version=version, sequence=sequence, timestamp=timestamp.astimezone(UTC)
        )
    return recorded


def without_repeats(
    appends: Sequence[QueuedAppend], recorded: Mapping[UUID, Event]
) -> list[QueuedAppend]:
    """Leave out the events that are stored already.

    An append that is stored in part asks, if it asked anything, that nothing has come between.
    """
    left: list[QueuedAppend] = []
    for append in appends:
        action = append.action
        known = [recorded[event.id] for event in action.events if event.id in recorded]
        if known and (action.starts or action.expected_version is not None):
            action = attrs.evolve(action, starts=False, expected_version=known[-1].version)
        new = [event.id not in recorded for event in action.events]
        left += _only(append, action, new)
    return left


def without_doubles(appends: Sequence[QueuedAppend], codec: EventCodec) -> list[QueuedAppend]:
    """Leave out events whose identity stands earlier in the same commit.

    Raises:
        EventIdConflictError: the earlier one is another event.
    """
    seen: dict[UUID, tuple[StreamId, str, str]] = {}
    left: list[QueuedAppend] = []
    for append in appends:
        new: list[bool] = []
        for event in append.action.events:
            facts = (event.stream_id, event.type_name, codec.encode(event.data))
            first = seen.setdefault(event.id, facts)
            if first != facts:
                raise EventIdConflictError(event.id)
            new.append(first is facts)
        left += _only(append, append.action, new)
    return left


def _only(
    append: QueuedAppend, action: StreamAction, wanted: Sequence[bool]
) -> Sequence[QueuedAppend]:
    """Give an append with the wanted events only; none if none is left."""
    if all(wanted):
        return [append]
    if not any(wanted):
        return []
    events = tuple(compress(action.events, wanted))
    times = tuple(compress(append.timestamps, wanted))
    return [QueuedAppend(attrs.evolve(action, events=events), times)]
