"""Bringing events in and out of memory, and changing what is stored."""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC
from uuid import UUID

import attrs

from flowstore.errors import EventIdConflictError, StreamArchivedError
from flowstore.events import StreamId
from flowstore.store._amend import masked_rows, not_stored
from flowstore.store._engine import Engine
from flowstore.store._files import ExportTarget, write_lines
from flowstore.store._ids import new_event_id
from flowstore.store._import import EVENTS_AT_ONCE, Growing
from flowstore.store._incoming import Incoming, StreamKey
from flowstore.store._names import told_tenant
from flowstore.store._refusals import EventIdTakenError
from flowstore.store._statements import Row
from flowstore.store.memory._appending import insert_event
from flowstore.store.memory._database import MemoryDatabase, Transaction
from flowstore.store.memory._limits import check_key, check_text
from flowstore.store.memory._rows import (
    EVENT_IDS,
    EVENTS,
    KEPT_STREAMS,
    STREAMS,
    StoredEvent,
    StoredStream,
)
from flowstore.store.memory._steps import Pause

__all__ = ["export_all", "import_all", "mask", "skip"]


async def import_all(
    database: MemoryDatabase, pause: Pause, chunks: AsyncIterator[Sequence[Incoming]]
) -> int:
    """Write all events in one transaction, and give their number.

    Raises:
        ConcurrencyError: an event isn't the next of its stream.
        StreamArchivedError: a stream that is there already is archived.
        EventIdConflictError: an event id is stored already, or comes twice.
    """
    streams: dict[StreamKey, Growing] = {}
    count = 0
    async with database.transaction(pause) as transaction:
        async for chunk in chunks:
            await _open_streams(transaction, chunk, streams)
            versions = [streams[event.key].place(event) for event in chunk]
            await pause("before numbers")
            for event, version in zip(chunk, versions, strict=True):
                await _insert(transaction, event, version)
            await pause("numbers drawn")
            count += len(chunk)
        for place, growing in streams.items():
            found = transaction.get(STREAMS, place)
            if found is not None:
                archived = found.archived or growing.archives
                settled = attrs.evolve(found, version=growing.version, archived=archived)
                transaction.put(STREAMS, place, settled)
    return count


async def _open_streams(
    transaction: Transaction, chunk: Iterable[Incoming], streams: dict[StreamKey, Growing]
) -> None:
    new: dict[StreamKey, str | None] = {}
    for event in chunk:
        if event.key not in streams:
            new.setdefault(event.key, event.stream_type)
    for place in sorted(new):
        await transaction.lock(STREAMS, place)
    now = transaction.database.now()
    for place, stream_type in new.items():
        found = transaction.get(STREAMS, place)
        if found is not None and found.archived:
            raise StreamArchivedError(place[1])
        opened = found or StoredStream(stream_type, 0, now, now)
        transaction.put(STREAMS, place, attrs.evolve(opened, updated=now))
        streams[place] = Growing(opened.version)


async def _insert(transaction: Transaction, event: Incoming, version: int) -> None:
    now = transaction.database.now()
    event_id = event.event_id or new_event_id()
    check_key(event.key[1])
    check_text(event.correlation_id, event.causation_id, event.user_name)
    stored = StoredEvent(
        sequence=transaction.draw(),
        id=event_id,
        stream=event.key,
        version=version,
        type_name=event.type_name,
        data=event.data,
        timestamp=(event.timestamp or now).astimezone(UTC),
        recorded=now,
        headers=event.headers,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        user_name=event.user_name,
        skipped=event.skipped,
    )
    try:
        await insert_event(transaction, stored)
    except EventIdTakenError as taken:
        raise EventIdConflictError(event_id) from taken


async def export_all(database: MemoryDatabase, target: ExportTarget, mark: int) -> int:
    """Write every event up to a mark, a line each, and give their number."""

    async def read(floor: int) -> Sequence[Row]:
        await database.round_trip()
        found = list(database.between(floor, mark))[:EVENTS_AT_ONCE]
        return [(event.sequence, _line(database, event)) for event in found]

    return await write_lines(target, read)


def _line(database: MemoryDatabase, event: StoredEvent) -> str:
    tenant, stream_id = event.stream
    stream = database.get(STREAMS, event.stream)
    value = {
        "sequence": event.sequence,
        "id": str(event.id),
        "stream_id": str(stream_id),
        "version": event.version,
        "type": event.type_name,
        "timestamp": event.timestamp.isoformat(),
        "headers": event.headers and json.loads(event.headers),
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
        "user_name": event.user_name,
        "tenant_id": told_tenant(tenant),
        "stream_type": stream and stream.type,
        "archived": stream is not None and stream.archived,
        "skipped": event.skipped,
        "data": json.loads(event.data),
    }
    return json.dumps(value, ensure_ascii=False)


async def mask(
    engine: Engine, database: MemoryDatabase, pause: Pause, tenant: str, stream_id: StreamId
) -> int:
    """Put the masked data of a stream's events in the place of theirs; give how many changed."""
    place = (tenant, stream_id)
    async with database.transaction(pause) as transaction:
        await transaction.lock(KEPT_STREAMS, place)
        await transaction.lock(STREAMS, place)
        events = {event.sequence: event for event in transaction.stream(place)}
        changed = list(masked_rows(engine, [event.row() for event in events.values()]))
        found = transaction.get(STREAMS, place)
        if changed and found is not None:
            transaction.put(STREAMS, place, attrs.evolve(found, amended=found.amended + 1))
        for sequence, type_name, data in changed:
            masked = attrs.evolve(events[sequence], type_name=type_name, data=data)
            transaction.put(EVENTS, sequence, masked)
    return len(changed)


async def skip(database: MemoryDatabase, pause: Pause, event_id: UUID) -> None:
    """Have projections pass an event over.

    Raises:
        InvalidEventError: there is no such event.
    """
    async with database.transaction(pause) as transaction:
        found = _by_id(transaction, event_id)
        if found is None:
            raise not_stored(event_id)
        await transaction.lock(STREAMS, found.stream)
        # Looked at again: who had the stream may have skipped it, or put another in its place.
        found = _by_id(transaction, event_id)
        stream = None if found is None else transaction.get(STREAMS, found.stream)
        if found is None or stream is None:
            raise not_stored(event_id)
        if not found.skipped:
            amended = attrs.evolve(stream, amended=stream.amended + 1)
            transaction.put(STREAMS, found.stream, amended)
            transaction.put(EVENTS, found.sequence, attrs.evolve(found, skipped=True))


def _by_id(transaction: Transaction, event_id: UUID) -> StoredEvent | None:
    sequence = transaction.get(EVENT_IDS, event_id)
    return None if sequence is None else transaction.get(EVENTS, sequence)
