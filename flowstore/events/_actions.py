"""What is going to be appended: events without a place yet."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any, Final, cast
from uuid import UUID

import attrs

from flowstore.errors import InvalidEventError
from flowstore.events._event import Event, StreamId

__all__ = ["ANY", "NO_STREAM", "NewEvent", "StreamAction", "check_readable"]

NO_STREAM: Final = 0
"""The expected version of a stream that must not exist yet."""

ANY: Final = None
"""The expected version that asks nothing of the stream."""


# Two days from the ends: a time zone may be a day off, and so may another the other way.
_FIRST: Final = date(1, 1, 3)
_LAST: Final = date(9999, 12, 29)


def _check_aware(new_event: "NewEvent", _: Any, timestamp: datetime | None) -> None:
    if timestamp is None:
        return
    if not isinstance(cast("Any", timestamp), datetime):
        raise InvalidEventError(
            f"the timestamp of {type(new_event.data).__name__} is {timestamp!r}: give it a datetime"
            " with a time zone"
        )
    if timestamp.utcoffset() is None:
        raise InvalidEventError(
            f"the timestamp {timestamp!r} of {type(new_event.data).__name__} has no time zone:"
            " give it one, such as datetime.now(UTC)"
        )
    check_readable(timestamp)


def check_readable(timestamp: datetime) -> None:
    """Refuse a time that the database would take, and nobody could read again.

    Raises:
        InvalidEventError: it is so near to the ends of Python's calendar that it lies beyond them
            in another time zone, such as a server's.
    """
    if not _FIRST <= timestamp.date() <= _LAST:
        raise InvalidEventError(
            f"the timestamp {timestamp!r} lies outside of {_FIRST} to {_LAST}: give the event a"
            " time in between"
        )


def _check_unwrapped(_: "NewEvent", __: Any, data: Any) -> None:
    if isinstance(data, (NewEvent, Event)):
        raise InvalidEventError(
            f"a NewEvent takes the application's own value, not another {type(data).__name__}:"
            " pass its .data"
        )


def _check_id(new_event: "NewEvent", _: Any, event_id: Any) -> None:
    if event_id is not None and not isinstance(event_id, UUID):
        raise InvalidEventError(
            f"the id of {type(new_event.data).__name__} is {event_id!r}: an event is known by a"
            " UUID; uuid5(namespace, text) makes one of text"
        )


def _check_headers(new_event: "NewEvent", _: Any, headers: Any) -> None:
    if not isinstance(headers, Mapping):
        raise InvalidEventError(
            f"the headers of {type(new_event.data).__name__} are {headers!r}: give JSON values by"
            " name"
        )


@attrs.frozen
class NewEvent:
    """Wrap a value to be appended with what should be recorded about it.

    It may stand wherever an event is appended. What is None or empty here comes from the session.

    Attributes:
        data: the application's own value.
        id: the event's identity; None lets the store draw one. An id makes appending repeatable:
            the same event again is a success without a second row.
        timestamp: when it happened, aware; None is the database's clock at the commit.
        headers: added to the session's headers, and stronger than those of the same name.
        correlation_id: what the event belongs to.
        causation_id: what caused it.

    Raises:
        InvalidEventError: the timestamp has no time zone, or lies within two days of the ends of
            the calendar; `data` is an envelope already; or something is of the wrong type.
    """

    data: Any = attrs.field(hash=False, validator=_check_unwrapped)
    id: UUID | None = attrs.field(default=None, kw_only=True, validator=_check_id)
    timestamp: datetime | None = attrs.field(default=None, kw_only=True, validator=_check_aware)
    headers: Mapping[str, Any] = attrs.field(
        factory=dict[str, Any],
        converter=attrs.converters.default_if_none(factory=dict[str, Any]),
        kw_only=True,
        hash=False,
        validator=_check_headers,
    )
    correlation_id: str | None = attrs.field(default=None, kw_only=True)
    causation_id: str | None = attrs.field(default=None, kw_only=True)


@attrs.define(eq=False)
class StreamAction:
    """Follow the events queued for one stream through their commit.

    An `Event` is frozen, but its place is known only once the database has given it. So this
    handle is the thing that changes: until the commit `events` holds events that have their id
    and a `version` and `sequence` of 0, which no recorded event has; the commit puts the recorded
    ones in their stead, all at once. A failed commit leaves the handle as it was.

    Attributes:
        stream_id: the stream's identity.
        events: in the order they were queued; replaced at the commit.
        starts: whether these events begin the stream, which then must not exist.
        expected_version: the stream's version before these events; None asks nothing.
        stream_type: the name of the type the stream is started for; None names none.
    """

    stream_id: StreamId
    events: tuple[Event, ...] = attrs.field(converter=tuple, on_setattr=attrs.setters.NO_OP)
    starts: bool = False
    expected_version: int | None = attrs.field(default=ANY, kw_only=True)
    stream_type: str | None = attrs.field(default=None, kw_only=True)

    @property
    def is_committed(self) -> bool:
        """Tell whether the events have their place."""
        return bool(self.events) and self.events[-1].sequence > 0

    def settle(self, recorded: Iterable[Event]) -> None:
        """Put the recorded events in place of the queued ones; the store calls this at the commit.

        Args:
            recorded: the same events, by id and in the same order, now with version and sequence.

        Raises:
            InvalidEventError: they are not the same events; nothing has changed then.
        """
        settled = tuple(recorded)
        queued_ids = [event.id for event in self.events]
        if [event.id for event in settled] != queued_ids:
            raise InvalidEventError(
                f"stream {str(self.stream_id)!r} queued the event ids {queued_ids}, but"
                f" {[event.id for event in settled]} were recorded: settle the queued events"
            )
        self.events = settled
