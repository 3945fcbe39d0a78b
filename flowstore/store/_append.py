"""Planning an append: a session's appends as the parameters of one call, and back."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Final, LiteralString, TypeVar

import attrs

from flowstore.codec import EventCodec
from flowstore.events import Event, StreamId, recorded_event
from flowstore.postgres import RawRow
from flowstore.store import _arrays
from flowstore.store._queue import QueuedAppend
from flowstore.store._stream_demand import StreamDemand
from flowstore.store._wire import number, numbers, time

__all__ = ["APPEND_EVENT_TOLD", "TOLD", "AppendPlan", "Appended", "plan_append", "plan_streams"]

_T = TypeVar("_T")

_APPEND: Final = (
    "select bases, sequences, appended from {schema}.append("
    "%s::text, %s::{stream_ids}, %s::text[], %s::bigint[], %s::bigint[], %s::boolean[],"
    " %s::boolean, %s::uuid[], %s::integer[], %s::bigint[], %s::text[], %s::text[],"
    " %s::timestamptz[], %s::text[], %s::text[], %s::text[],"
    " %s::text, %s::text, %s::text, %s::text)"
)
_APPEND_EVENT: Final = (
    "select base, sequence, appended from {schema}.append_event("
    "%s::text, %s::{stream_arg}, %s::text, %s::bigint, %s::boolean, %s::boolean,"
    " %s::uuid, %s::text, %s::text, %s::text, %s::text, %s::text, %s::text)"
)
"""For a single event."""
APPEND_EVENT_TOLD: Final = (
    "select e.base, e.sequence, e.appended, {event_columns} from {schema}.append_event_told("
    "%s::text, %s::{stream_arg}, %s::text, %s::bigint, %s::boolean, %s::boolean,"
    " %s::uuid, %s::text, %s::text, %s::text, %s::text, %s::text, %s::text) e"
)
"""The same, and in the columns from `TOLD` on the event as it is stored."""
TOLD: Final = 3
_APPEND_STREAM: Final = (
    "select base, sequences, appended from {schema}.append_stream("
    "%s::text, %s::{stream_arg}, %s::text, %s::bigint, %s::boolean, %s::boolean,"
    " %s::uuid[], %s::text[], %s::text[], %s::text, %s::text, %s::text, %s::text)"
)
"""For events of one stream that have everything but their data in common."""
_READERS: Final[dict[LiteralString, tuple[Callable[[bytes], Any], ...]]] = {
    _APPEND: (numbers, numbers, time),
    _APPEND_STREAM: (number, numbers, time),
    _APPEND_EVENT: (number, number, time),
}
"""What reads the columns of a call's row."""


@attrs.frozen
class Appended:
    """Hold what the database answered to an append.

    Attributes:
        bases: each stream's version before this commit's events.
        sequences: each event's place in the store, in queue order; None for no events.
        at: the database's clock.
    """

    bases: Sequence[int]
    sequences: Sequence[int] | None
    at: datetime


@attrs.frozen
class AppendPlan:
    """Hold one call of the append function.

    Attributes:
        parameters: of `call`, in order.
        demands: one a stream, in the order that the call names them.
        placed: for each event its stream's index and its place among that stream's events here.
        queued: the appends, in queue order.
        call: the statement that calls the function.
    """

    parameters: tuple[str | None, ...] = attrs.field(repr=False)
    demands: tuple[StreamDemand, ...]
    placed: tuple[tuple[int, int], ...]
    queued: tuple[QueuedAppend, ...]
    call: LiteralString = _APPEND

    @property
    def is_one_event(self) -> bool:
        """Whether `APPEND_EVENT_TOLD` can be called instead."""
        return self.call is _APPEND_EVENT

    def answered(self, row: Sequence[Any]) -> list[list[Event]]:
        """Give the events their places, as the function's row says."""
        base, sequences, at = row
        if self.call is _APPEND:
            return self.recorded(Appended(base, sequences, at))
        return self.recorded(
            Appended((base,), sequences if self.call is _APPEND_STREAM else (sequences,), at)
        )

    def told(self, row: RawRow) -> list[list[Event]]:
        """Give the events their places, as the function's row says on the wire."""
        if self.call is _APPEND_EVENT and len(self.queued) == 1:
            return [[self._only_event(*row)]]
        return self.answered(
            [
                raw if raw is None else read(raw)
                for read, raw in zip(_READERS[self.call], row, strict=True)
            ]
        )

    def _only_event(self, base: Any, sequence: Any, at: Any) -> Event:
        # Most commits: the general way takes twice as long.
        (event,) = self.queued[0].action.events
        return _recorded(event, number(base) + 1, number(sequence), time(at))

    def recorded(self, answer: Appended) -> list[list[Event]]:
        """Give the events their places: one list for each append."""
        places = zip(self.placed, answer.sequences or (), strict=True)
        bases, at = answer.bases, answer.at
        return [
            [
                _recorded(event, bases[stream] + place, sequence, given or at)
                for (event, given), ((stream, place), sequence) in zip(
                    zip(append.action.events, append.timestamps, strict=True), places, strict=False
                )
            ]
            for append in self.queued
        ]


def _recorded(event: Event, version: int, sequence: int, timestamp: datetime) -> Event:
    # In full: attrs.evolve takes three times as long.
    return recorded_event(
        event.data,
        sequence,
        event.id,
        (event.stream_id, version),
        event.type_name,
        timestamp,
        event.headers,
        (event.correlation_id, event.causation_id, event.tenant_id, event.user_name),
    )


def plan_append(
    appends: Sequence[QueuedAppend],
    codec: EventCodec,
    *,
    tenant: str,
    must_exist: bool,
    text_ids: bool,
) -> AppendPlan:
    """Put a session's appends into one call, in queue order.

    Args:
        appends: at least one.
        codec: writes the data.
        tenant: the tenant column's value.
        must_exist: refuse to begin a stream by anything but a start.
        text_ids: stream identities are text, not UUIDs.

    Raises:
        StreamCollisionError: a stream is started after it was appended to in the same commit.
        ConcurrencyError: two appends of this commit expect versions that can't both be.
        InvalidEventError: an event can't be stored.
    """
    in_order, placed = plan_streams(appends)
    if len(in_order) == 1 and placed:
        shorter = _of_one_stream(appends, in_order[0], codec, must_exist=must_exist)
        if shorter is not None:
            call = _APPEND_EVENT if len(placed) == 1 else _APPEND_STREAM
            return AppendPlan((tenant, *shorter), in_order, placed, tuple(appends), call)
    parameters = (
        tenant,
        *_stream_parameters(in_order, text_ids=text_ids),
        _truth(must_exist),
        *_event_parameters(appends, placed, codec),
    )
    return AppendPlan(parameters, in_order, placed, tuple(appends))


def plan_streams(
    appends: Sequence[QueuedAppend],
) -> tuple[tuple[StreamDemand, ...], tuple[tuple[int, int], ...]]:
    """Gather what a commit's appends together ask of each stream.

    Returns:
        The demands, one a stream, and for each event its stream's index among them and its place
        among that stream's events here.

    Raises:
        StreamCollisionError: a stream is started after it was appended to in the same commit.
        ConcurrencyError: two appends of this commit expect versions that can't both be.
    """
    if len(appends) == 1:
        (queued,) = appends
        demand = StreamDemand(queued.action.stream_id)
        demand.take(queued)
        return (demand,), tuple([(0, place) for place in range(1, demand.added + 1)])
    found: dict[StreamId, tuple[int, StreamDemand]] = {}
    placed: list[tuple[int, int]] = []
    for queued in appends:
        stream_id = queued.action.stream_id
        known = found.get(stream_id)
        if known is None:
            known = found[stream_id] = (len(found), StreamDemand(stream_id))
        index, demand = known
        first = demand.added + 1
        demand.take(queued)
        placed += [(index, place) for place in range(first, demand.added + 1)]
    return tuple([demand for _, demand in found.values()]), tuple(placed)


def _of_one_stream(
    appends: Sequence[QueuedAppend], demand: StreamDemand, codec: EventCodec, *, must_exist: bool
) -> tuple[str | None, ...] | None:
    """Give the parameters of a shorter call; None where the events differ in more than data."""
    events = appends[0].action.events
    if len(appends) > 1:
        events = tuple(chain.from_iterable(append.action.events for append in appends))
    if any(any(append.timestamps) for append in appends):
        return None
    first = events[0]
    if len(events) > 1 and any(
        event.headers != first.headers
        or event.correlation_id != first.correlation_id
        or event.causation_id != first.causation_id
        for event in events
    ):
        return None
    stream_id = demand.stream_id
    return (
        stream_id if isinstance(stream_id, str) else stream_id.hex,
        demand.stream_type,
        None if demand.base is None else str(demand.base),
        _truth(demand.starts),
        _truth(must_exist),
        *_bodies(events, codec),
        codec.encode_headers(first.headers) if first.headers else None,
        first.correlation_id,
        first.causation_id,
        first.user_name,
    )


def _bodies(events: Sequence[Event], codec: EventCodec) -> tuple[str, str, str]:
    if len(events) == 1:
        (event,) = events
        return event.id.hex, event.type_name, codec.encode(event.data)
    return (
        _arrays.uuids([event.id for event in events]),
        _arrays.texts([event.type_name for event in events]),
        _arrays.texts([codec.encode(event.data) for event in events]),
    )


def _truth(value: bool) -> str:  # noqa: FBT001 - the value is what is written
    return "t" if value else "f"


def _stream_parameters(demands: Sequence[StreamDemand], *, text_ids: bool) -> Iterable[str]:
    ids: Any = [demand.stream_id for demand in demands]
    yield _arrays.texts(ids) if text_ids else _arrays.uuids(ids)
    yield _arrays.texts([demand.stream_type for demand in demands])
    yield _arrays.numbers(demand.added for demand in demands)
    yield _arrays.numbers(demand.base for demand in demands)
    yield _arrays.booleans(demand.starts for demand in demands)


def _event_parameters(
    appends: Sequence[QueuedAppend], placed: Sequence[tuple[int, int]], codec: EventCodec
) -> Iterable[str | None]:
    events = list(chain.from_iterable(append.action.events for append in appends))
    times = list(chain.from_iterable(append.timestamps for append in appends))
    yield _arrays.uuids([event.id for event in events])
    yield _arrays.numbers([index + 1 for index, _ in placed])
    yield _arrays.numbers([place for _, place in placed])
    yield _arrays.texts([event.type_name for event in events])
    yield _arrays.texts([codec.encode(event.data) for event in events])
    yield _arrays.texts([time and time.isoformat() for time in times]) if any(times) else None
    headers = _shared_or_each(
        [event.headers for event in events],
        lambda each: codec.encode_headers(each) if each else None,
    )
    correlations = _shared_or_each([event.correlation_id for event in events], _as_it_is)
    causations = _shared_or_each([event.causation_id for event in events], _as_it_is)
    yield from (headers[1], correlations[1], causations[1])
    yield from (headers[0], correlations[0], causations[0])
    yield events[0].user_name if events else None


def _as_it_is(value: str | None) -> str | None:
    return value


def _shared_or_each(
    values: Sequence[_T], write: Callable[[_T], str | None]
) -> tuple[str | None, str | None]:
    """Give the value that all share, or else an array of each: usually a session has but one."""
    if all(value == values[0] for value in values):
        return (write(values[0]) if values else None, None)
    return (None, _arrays.texts([write(value) for value in values]))
