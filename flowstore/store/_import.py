"""Importing events in bulk: by COPY, in the order of their source, all or none."""

import re
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
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
from flowstore.store._copy_rows import COPY, COPY_BEGIN, COPY_END, CopyRows
from flowstore.store._engine import Engine
from flowstore.store._incoming import Incoming, StreamKey

__all__ = ["EVENTS_AT_ONCE", "EVENTS_IN_PART", "Growing", "import_all"]

EVENTS_AT_ONCE: Final = 5_000
"""Events that are held in memory, and go in one COPY."""

EVENTS_IN_PART: Final = 500
"""Events that are made ready, and sent, without letting anybody else have a turn."""

_CLOCK: Final = "select clock_timestamp()"
_OPEN: Final = """
select tenant, stream, version, archived
from {schema}.open_streams(%s::text[], %s::{stream_ids}, %s::text[])"""
_SETTLE: Final = """
select {schema}.settle_streams(%s::text[], %s::{stream_ids}, %s::bigint[], %s::boolean[])"""
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@attrs.define
class Growing:
    """Follow a stream through an import.

    Attributes:
        version: the version of its last event.
        archives: whether it is to be archived.
        field: its identity as rows have it, once it was written.
    """

    version: int
    archives: bool = False
    field: bytes = b""

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


@attrs.define(eq=False)
class _Gathered:
    """Gather parts of the source for the next COPY, at most `EVENTS_AT_ONCE` events and a part."""

    _parts: AsyncIterator[Sequence[Incoming]]
    _held: list[Sequence[Incoming]] = attrs.field(factory=list[Sequence[Incoming]], init=False)
    _count: int = attrs.field(default=0, init=False)
    _is_over: bool = attrs.field(default=False, init=False)

    async def pull(self) -> None:
        """Take another part of the source, if there is one and room for it."""
        if self._is_over or self._count >= EVENTS_AT_ONCE:
            return
        try:
            part = await anext(self._parts)
        except StopAsyncIteration:
            self._is_over = True
        else:
            self._held.append(part)
            self._count += len(part)

    async def take(self, *, whole: bool) -> Sequence[Sequence[Incoming]]:
        """Give what is gathered, at least a part if there is any; as much as fits, if `whole`."""
        while not self._is_over and (whole or not self._held) and self._count < EVENTS_AT_ONCE:
            await self.pull()
        taken, self._held, self._count = self._held, [], 0
        return taken


async def import_all(
    engine: Engine, parts: AsyncIterator[Sequence[Incoming]], *, ahead: bool
) -> int:
    """Write all events in one transaction.

    Streams stay locked, and the high-water mark stays below the first event, until the commit.

    Args:
        engine: the store's.
        parts: the events, in order.
        ahead: make parts ready while the server stores those before; for sources that nothing has
            to be waited for in.

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
    gathered = _Gathered(parts)
    count = 0
    with translate_errors(), _refused_events():
        async with engine.lend() as connection, connection.transaction():
            while taken := await gathered.take(whole=not ahead):
                events = chain.from_iterable(taken)
                followed = await _follow(engine, connection, events, streams)
                further = gathered if ahead else None
                await _copy(engine, connection, taken, iter(followed), further)
                count += sum(map(len, taken))
            await _settle(engine, connection, streams)
    return count


async def _follow(
    engine: Engine,
    connection: Connection,
    events: Iterable[Incoming],
    streams: dict[StreamKey, Growing],
) -> list[Growing]:
    """Give each event's stream, opening those that come for the first time."""
    new: dict[StreamKey, str | None] = {}
    followed: list[Growing] = []
    for event in events:
        growing = streams.get(event.key)
        if growing is None:
            growing = streams[event.key] = Growing(0)
            new[event.key] = event.stream_type
        followed.append(growing)
    if new:
        parameters = (*_key_arrays(engine, new), _arrays.texts(list(new.values())))
        cursor = await connection.execute(engine.sql.statement(_OPEN), parameters, binary=True)
        for tenant, stream_id, version, archived in await cursor.fetchall():
            if archived:
                raise StreamArchivedError(stream_id)
            streams[tenant, stream_id].version = version
    return followed


async def _copy(
    engine: Engine,
    connection: Connection,
    parts: Sequence[Sequence[Incoming]],
    followed: Iterator[Growing],
    further: _Gathered | None,
) -> None:
    """Write parts by one COPY; while the server stores one, a further one is made ready."""
    cursor = await connection.execute(_CLOCK)
    now: Any = (await cursor.fetchone() or (None,))[0]
    rows = CopyRows(now, connection.info.encoding)
    # Placed before COPY begins: nothing can be refused halfway then but by the database.
    blocks = [rows.write(part, _placed(part, followed)) for part in parts]
    is_growing = sum(map(len, parts)) < EVENTS_AT_ONCE // 2
    async with cursor.copy(engine.sql.script(COPY)) as copy:
        await copy.write(COPY_BEGIN)
        for block in blocks:
            await copy.write(block)
            if further is not None:
                await further.pull()
                if is_growing:
                    await further.pull()
        await copy.write(COPY_END)


def _placed(part: Sequence[Incoming], followed: Iterator[Growing]) -> list[tuple[Growing, int]]:
    # `part` ends first: what it leaves of `followed` is the next part's.
    return [(growing, growing.place(event)) for event, growing in zip(part, followed, strict=False)]


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
