"""Importing events in bulk: by COPY, in the order of their source, all or none."""

import re
from collections.abc import AsyncIterator, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import attrs
import psycopg

from flowstore.errors import (
    ConcurrencyError,
    EventIdConflictError,
    InvalidEventError,
    StreamArchivedError,
)
from flowstore.postgres import Connection, translate_errors
from flowstore.store import _arrays
from flowstore.store._engine import Engine
from flowstore.store._incoming import Incoming, StreamKey

__all__ = ["EVENTS_AT_ONCE", "Growing", "import_all"]

EVENTS_AT_ONCE: Final = 5_000
"""Events that are held in memory, and go in one COPY."""

_CLOCK: Final = "select clock_timestamp()"
_OPEN: Final = """
select tenant, stream, version, archived
from {schema}.open_streams(%s::text[], %s::{stream_ids}, %s::text[])"""
_COPY: Final = """
copy {schema}.events (
    id, stream_id, version, type, data, timestamp,
    headers, correlation_id, causation_id, user_name, tenant_id, skipped
) from stdin"""
_SETTLE: Final = """
select {schema}.settle_streams(%s::text[], %s::{stream_ids}, %s::bigint[], %s::boolean[])"""
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@attrs.define
class Growing:
    """Follow a stream through an import.

    Attributes:
        version: the version of its last event.
        archives: whether it is to be archived.
    """

    version: int
    archives: bool = False

    def place(self, event: Incoming) -> int:
        """Give an event its version.

        Raises:
            ConcurrencyError: it has to be at another one.
        """
        expected = self.version + 1
        version = expected if event.version is None else event.version
        may_begin = event.begins_later and self.version == 0
        if version != expected and not may_begin:
            raise ConcurrencyError(
                event.key[1],
                expected=version - 1,
                found=self.version,
                message=f"is at version {self.version}, and an event at version {version} can't"
                " follow that: import whole streams, in order, into a store without them",
            )
        self.version = version
        self.archives = self.archives or event.archives
        return version


async def import_all(engine: Engine, chunks: AsyncIterator[Sequence[Incoming]]) -> int:
    """Write all events in one transaction.

    Streams stay locked, and the high-water mark stays below the first event, until the commit.

    Returns:
        How many they were.

    Raises:
        ConcurrencyError: an event isn't the next of its stream.
        StreamArchivedError: a stream that is there already is archived.
        EventIdConflictError: an event id is stored already, or comes twice.
        InvalidEventError: an event can't be stored.
        DatabaseError: PostgreSQL refused, or can't be reached.
    """
    streams: dict[StreamKey, Growing] = {}
    count = 0
    with translate_errors(), _refused_events():
        async with engine.lend() as connection, connection.transaction():
            async for chunk in chunks:
                await _open_streams(engine, connection, chunk, streams)
                await _copy(engine, connection, chunk, streams)
                count += len(chunk)
            await _settle(engine, connection, streams)
    return count


async def _open_streams(
    engine: Engine,
    connection: Connection,
    chunk: Iterable[Incoming],
    streams: dict[StreamKey, Growing],
) -> None:
    new: dict[StreamKey, str | None] = {}
    for event in chunk:
        if event.key not in streams:
            new.setdefault(event.key, event.stream_type)
    if not new:
        return
    parameters = (*_key_arrays(engine, new), _arrays.texts(list(new.values())))
    cursor = await connection.execute(engine.sql.statement(_OPEN), parameters, binary=True)
    for tenant, stream_id, version, archived in await cursor.fetchall():
        if archived:
            raise StreamArchivedError(stream_id)
        streams[tenant, stream_id] = Growing(version)


async def _copy(
    engine: Engine,
    connection: Connection,
    chunk: Iterable[Incoming],
    streams: dict[StreamKey, Growing],
) -> None:
    cursor = await connection.execute(_CLOCK)
    (now,) = await cursor.fetchone() or (None,)
    # Placed before COPY begins: nothing can be refused halfway then but by the database.
    rows = [_row(event, streams[event.key].place(event), now) for event in chunk]
    async with cursor.copy(engine.sql.script(_COPY)) as copy:
        for row in rows:
            await copy.write_row(row)


def _row(event: Incoming, version: int, now: Any) -> tuple[Any, ...]:
    tenant, stream_id = event.key
    return (
        *(event.event_id, stream_id, version, event.type_name, event.data),
        *(event.timestamp or now, event.headers),
        *(event.correlation_id, event.causation_id, event.user_name),
        *(tenant, event.skipped),
    )


async def _settle(
    engine: Engine, connection: Connection, streams: dict[StreamKey, Growing]
) -> None:
    parameters = (
        *_key_arrays(engine, streams),
        _arrays.numbers(stream.version for stream in streams.values()),
        _arrays.booleans(stream.archives for stream in streams.values()),
    )
    await connection.execute(engine.sql.statement(_SETTLE), parameters)


def _key_arrays(engine: Engine, keys: Iterable[StreamKey]) -> tuple[str, str]:
    pairs = list(keys)
    ids: list[Any] = [stream_id for _, stream_id in pairs]
    tenants = _arrays.texts([tenant for tenant, _ in pairs])
    return tenants, _arrays.texts(ids) if engine.has_text_ids else _arrays.uuids(ids)


@contextmanager
def _refused_events() -> Generator[None]:
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        found = _UUID.search(error.diag.message_detail or "")
        if error.diag.constraint_name != "events_id_key" or found is None:
            raise
        raise EventIdConflictError(UUID(found[0])) from error
    except psycopg.DataError as error:
        raise InvalidEventError(f"PostgreSQL can't store an imported event: {error}") from error
