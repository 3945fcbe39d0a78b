"""How events travel: in pages as they are read, in batches as they are applied."""

import attrs

from flowstore.events._event import Event, EventStream, StreamId

__all__ = ["DeadLetter", "EventBatch", "EventFailure", "EventPage"]


@attrs.frozen
class EventFailure:
    """Tell of a stored event that can't be decoded.

    Attributes:
        sequence: its place in the store.
        stream_id: identity of its stream.
        version: its place in the stream.
        type_name: the name that its type is stored under.
        error: why it can't be decoded.
    """

    sequence: int
    stream_id: StreamId
    version: int
    type_name: str
    error: Exception


@attrs.frozen
class EventPage:
    """Hold what was read of the store in (floor, ceiling].

    The page accounts for the whole interval even when it has no events: nothing else that was
    asked for lies in it. Change one with `attrs.evolve`, leaving floor and ceiling as they are,
    or the next owner will read events twice, or never.

    Attributes:
        floor: the sequence that reading began after; exclusive.
        ceiling: the sequence that was read up to; inclusive, never below `floor`.
        events: in sequence order.
        failures: events in the interval that can't be decoded, in sequence order.
        size: about how many bytes their JSON takes; 0 where nobody has counted. Pages that differ
            in it alone are equal.
    """

    floor: int
    ceiling: int
    events: tuple[Event, ...] = attrs.field(default=(), converter=tuple)
    failures: tuple[EventFailure, ...] = attrs.field(default=(), converter=tuple)
    size: int = attrs.field(default=0, kw_only=True, eq=False)


@attrs.frozen
class EventBatch:
    """Hold the events of (floor, ceiling] by stream, as a projection takes them.

    Attributes:
        floor: the progress that the batch continues from; exclusive.
        ceiling: the progress once the batch is committed; inclusive, never below `floor`.
        streams: in the order of their first sequence; events within each in version order.
        failures: events in the interval that can't be decoded, in sequence order.
    """

    floor: int
    ceiling: int
    streams: tuple[EventStream, ...] = attrs.field(default=(), converter=tuple)
    failures: tuple[EventFailure, ...] = attrs.field(default=(), converter=tuple)


@attrs.frozen
class DeadLetter:
    """Tell of an event that a shard has set aside.

    Attributes:
        shard: the shard's name.
        sequence: the event's place in the store.
        error_type: name of the error's class.
        message: the error's message.
        traceback: where it was raised, as Python prints it; empty where nothing was raised.
    """

    shard: str
    sequence: int
    error_type: str
    message: str
    traceback: str = ""
