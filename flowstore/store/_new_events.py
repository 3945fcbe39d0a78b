"""Events as they are queued: what the session says of them, and what each says of itself."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from flowstore.events import Event, NewEvent, StreamId
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
    news: Sequence[NewEvent],
    *,
    stream_id: StreamId,
    tenant_id: str | None,
) -> Iterator[Event]:
    """Make the envelopes of events that have no place yet, with what the store keeps of them.

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
    for new in news:
        check_event_text(new.correlation_id, "correlation_id")
        check_event_text(new.causation_id, "causation_id")
        yield Event(
            data=new.data,
            sequence=0,
            id=new.id or engine.new_id(),
            stream_id=stream_id,
            version=0,
            type_name=engine.codec.name_of(new.data),
            timestamp=new.timestamp or now,
            headers={**marks.headers, **new.headers} if kept.headers else {},
            correlation_id=(
                (new.correlation_id or correlation_id) if kept.correlation_id else None
            ),
            causation_id=(new.causation_id or marks.causation_id) if kept.causation_id else None,
            tenant_id=tenant_id,
            user_name=marks.user_name if kept.user_name else None,
        )
