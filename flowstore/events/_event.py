"""The recorded fact, its stream and its stream's state."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID

import attrs

__all__ = [
    "Archived",
    "Event",
    "EventStream",
    "RawEvent",
    "StreamId",
    "StreamState",
    "recorded_event",
]

StreamId: TypeAlias = UUID | str
"""A stream's identity: one kind throughout a store, by its `stream_identity`."""


@attrs.define(kw_only=True, eq=False, repr=False)
class _EventFields:
    """An event that is being made: `recorded_event` says why."""

    data: Any = attrs.field(hash=False)
    sequence: int
    id: UUID
    stream_id: StreamId
    version: int
    type_name: str
    timestamp: datetime
    headers: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)
    correlation_id: str | None = None
    causation_id: str | None = None
    tenant_id: str | None = None
    user_name: str | None = None


@attrs.frozen(kw_only=True)  # pyright: ignore[reportGeneralTypeIssues] - its fields' class isn't
class Event(_EventFields):
    """Hold one recorded fact with its place: the envelope around the application's own value.

    Nothing is checked here, because a daemon makes a hundred thousand of these a second: whoever
    makes one from outside the store vouches for it. Two events are equal when all fields are;
    the hash leaves `data` and `headers` out, which need not be hashable.

    Attributes:
        data: the application's own value, an instance of a known event type.
        sequence: place in the store, from 1; rises, may have gaps; 0 while not committed.
        id: the event's own identity, unique in the store.
        stream_id: identity of the stream that the event belongs to.
        version: place in the stream, from 1, without gaps; 0 while not committed.
        type_name: the name that the type of `data` is stored under.
        timestamp: when it was recorded, in UTC; by the database's clock unless the event brought
            its own. While not committed: this process' clock when it was queued.
        headers: what the application said about the event, as JSON values by name.
        correlation_id: what the event belongs to: the same for everything one request caused.
        causation_id: what caused the event: a command's, or another event's, identity.
        tenant_id: whose event it is; None in a store of one tenant.
        user_name: who caused it.
    """


_blank = object.__new__


def recorded_event(  # noqa: PLR0917  by name it takes longer, and is called for each event
    data: Any,
    sequence: int,
    event_id: UUID,
    place: tuple[StreamId, int],
    type_name: str,
    timestamp: datetime,
    headers: Mapping[str, Any],
    told: tuple[str | None, str | None, str | None, str | None],
) -> Event:
    """Make an event, as `Event` does in six times the time: its fields are set before it is frozen.

    Args:
        data: the application's own value.
        sequence: the event's place in the store.
        event_id: its identity.
        place: identity of its stream, and the place in that.
        type_name: the name that the type of `data` is stored under.
        timestamp: when it was recorded, aware, in whatever zone. The event has it in UTC: who takes
            its day or its hour has to find the same one wherever, and however often, it is applied.
        headers: what the application said about it.
        told: correlation, causation, tenant and user.
    """
    event: Any = _blank(_EventFields)
    event.data = data
    event.sequence = sequence
    event.id = event_id
    event.stream_id, event.version = place
    event.type_name = type_name
    event.timestamp = timestamp if timestamp.tzinfo is UTC else timestamp.astimezone(UTC)
    event.headers = headers
    event.correlation_id, event.causation_id, event.tenant_id, event.user_name = told
    event.__class__ = Event
    return event


@attrs.frozen
class EventStream:
    """Hold events of one stream, in version order.

    Versions rise by one where nothing was filtered out, and have holes where something was.

    Attributes:
        id: the stream's identity; for events gathered across streams, the key they share.
        events: at least one event when handed to a projection; in version order.
    """

    id: StreamId
    events: tuple[Event, ...] = attrs.field(converter=tuple)


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


@attrs.frozen
class StreamState:
    """Tell how a stream stands, without its events.

    Attributes:
        stream_id: the stream's identity.
        version: the version of its last event.
        created: when its first event was recorded, in UTC.
        last_timestamp: when its last event was recorded, in UTC.
        archived: whether it is archived, and so passed over by projections and fetches.
        stream_type: the name of the type it was started for; None if none was named.
        tenant_id: whose stream it is; None in a store of one tenant.
    """

    stream_id: StreamId
    version: int
    created: datetime = attrs.field(converter=_in_utc)
    last_timestamp: datetime = attrs.field(converter=_in_utc)
    archived: bool = False
    stream_type: str | None = None
    tenant_id: str | None = None


@attrs.frozen
class RawEvent:
    """Stand for an event whose type isn't known, where a store was asked for that.

    Attributes:
        type_name: the name that it is stored under.
        data: its JSON value.
    """

    type_name: str
    data: Any = attrs.field(hash=False)


@attrs.frozen
class Archived:
    """Say in a stream that it ends here; the last event of an archived stream.

    Attributes:
        reason: why, for whoever reads the stream later.
    """

    reason: str = ""
