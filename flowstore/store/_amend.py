"""Changing what is stored, where that can't be helped: masking a stream, skipping an event."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, Final
from uuid import UUID

from flowstore.codec import EventCodec
from flowstore.errors import InvalidEventError, UnknownEventTypeError
from flowstore.events import Event, RawEvent, StreamId
from flowstore.postgres import translate_errors
from flowstore.store import _arrays
from flowstore.store._engine import Engine
from flowstore.store._rows import EventRow, decode_row
from flowstore.store._statements import Statement, fetch_rows

__all__ = ["mask", "masked_rows", "not_stored", "refuse_raw", "skip"]

_LOCK: Final = "select version from {schema}.lock_stream(%s, %s, null)"
_EVENTS: Final = """
select {event_columns} from {schema}.events e
where e.tenant_id = %s and e.stream_id = %s order by e.version"""
_MASK: Final = """
select {schema}.mask_events(%s, %s, %s::bigint[], %s::text[], %s::text[])"""
_SKIP: Final = "select {schema}.skip_event(%s)"


async def mask(engine: Engine, tenant: str, stream_id: StreamId) -> int:
    """Put the masked data of a stream's events in the place of theirs; give how many changed."""
    place = (tenant, stream_id)
    statement = engine.sql.statement
    with translate_errors():
        async with engine.lend() as connection, connection.transaction():
            # Before the events are read, so that nobody compacts them meanwhile.
            await connection.execute(statement(_LOCK), place)
            cursor = await connection.execute(statement(_EVENTS), place, binary=True)
            changed = list(masked_rows(engine, await cursor.fetchall()))
            if changed:
                await connection.execute(statement(_MASK), (*place, *_columns(changed)))
    return len(changed)


def masked_rows(engine: Engine, rows: Sequence[EventRow]) -> Iterator[tuple[int, str, str]]:
    """Yield sequence, type name and JSON of the events that a mask changes."""
    codec = engine.codec
    for row in rows:
        event = decode_row(codec, row)
        refuse_raw(engine, event)
        masked = engine.options.events.masked(deepcopy(event.data))
        found = _written(codec, masked)
        if found != _written(codec, event.data):
            yield (event.sequence, *found)


def refuse_raw(engine: Engine, event: Event) -> None:
    """Refuse to change what isn't understood, also where such events are read raw.

    A mask would pass personal data over, and compacting would lose what nobody has folded.

    Raises:
        UnknownEventTypeError: the event's type is not known.
    """
    if isinstance(event.data, RawEvent):
        raise UnknownEventTypeError(event.type_name, engine.options.events.known_names())


def _written(codec: EventCodec, data: Any) -> tuple[str, str]:
    return codec.name_of(data), codec.encode(data)


def _columns(changed: Sequence[tuple[int, str, str]]) -> tuple[str, str, str]:
    return (
        _arrays.numbers(sequence for sequence, _, _ in changed),
        _arrays.texts([name for _, name, _ in changed]),
        _arrays.texts([data for _, _, data in changed]),
    )


async def skip(engine: Engine, event_id: UUID) -> None:
    """Have projections pass an event over.

    Raises:
        InvalidEventError: there is no such event.
    """
    statement = Statement(engine.sql.statement(_SKIP), (event_id,))
    ((is_stored,),) = await fetch_rows(engine.lend, statement)
    if not is_stored:
        raise not_stored(event_id)


def not_stored(event_id: UUID) -> InvalidEventError:
    """Make the error about an event that was to be skipped, and isn't there."""
    return InvalidEventError(
        f"event id {str(event_id)!r} can't be skipped: no event is stored under it"
    )
