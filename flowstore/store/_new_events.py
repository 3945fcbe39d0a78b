"""Events as they are queued: what the session says of them, and what each says of itself."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import attrs

from flowstore.events import Event, NewEvent, StreamId, recorded_event
from flowstore.store._engine import Engine
from flowstore.store._names import check_event_text
from flowstore.store._tracing import active_trace_id

__all__ = ["EventMarks", "new_events"]


@attrs.frozen
class EventMarks:
    """Hold what a session says about each event that it appends.

    Attributes:
        correlation_id: what the events belong to; None takes the id of the OpenTelemetry trace
            that they are queued in, if there is one.
        causation_id: what caused them.
        user_name: who caused them.
        headers: anything else, as JSON values by name.
    """

    correlation_id: str | None = None
    causation_id: str | None = None
    user_name: str | None = None
    headers: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


def new_events(
    engine: Engine,
    marks: EventMarks,
    values: Sequence[Any],
    *,
    stream_id: StreamId,
    tenant_id: str | None,
) -> list[Event]:
    """Make the envelopes of events that have no place yet, with what the store keeps of them.

    Args:
        engine: the store's.
        marks: what the session says of each.
        values: the application's values, or `NewEvent`s.
        stream_id: the stream's identity.
        tenant_id: whose events they are.

    Raises:
        InvalidEventError: a value can't be an event, or what is said about it can't be kept.
        RegistrationError: an event type's name is another type's.
    """
    now = datetime.now(UTC)
    kept = engine.options.events.metadata
    correlation_id = marks.correlation_id or active_trace_id()
    check_event_text(marks.user_name, "user_name")
    check_event_text(correlation_id, "correlation_id")
    check_event_text(marks.causation_id, "causation_id")

    headers: Mapping[str, Any] = marks.headers if kept.headers else {}
    correlation_id = correlation_id if kept.correlation_id else None
    causation_id = marks.causation_id if kept.causation_id else None
    user_name = marks.user_name if kept.user_name else None
    name_of = engine.codec.name_of
    place, told = (stream_id, 0), (correlation_id, causation_id, tenant_id, user_name)

    def envelope(data: Any, event_id: UUID) -> Event:
        return recorded_event(
            data, 0, event_id, place, name_of(data), now, dict(headers) if headers else {}, told
        )

    def with_its_own(new: NewEvent, drawn: UUID) -> Event:
        check_event_text(new.correlation_id, "correlation_id")
        check_event_text(new.causation_id, "causation_id")
        event = envelope(new.data, new.id or drawn)
        return attrs.evolve(
            event,
            timestamp=new.timestamp or now,
            headers={**event.headers, **new.headers} if kept.headers else {},
            correlation_id=(kept.correlation_id and new.correlation_id) or event.correlation_id,
            causation_id=(kept.causation_id and new.causation_id) or event.causation_id,
        )

    # A value alone needs no NewEvent around it; that would refuse only what is an envelope already.
    return [
        with_its_own(value if isinstance(value, NewEvent) else NewEvent(value), drawn)
        if isinstance(value, (NewEvent, Event))
        else envelope(value, drawn)
        for value, drawn in zip(values, engine.new_ids(len(values)), strict=True)
    ]
