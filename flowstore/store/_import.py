"""Importing events in bulk: by COPY, in the order of their source, all or none."""

import re
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
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

__all__ = ["EVENTS_AT_ONCE", "EVENTS_IN_COPY", "EVENTS_IN_PART", "Growing", "import_all"]

EVENTS_AT_ONCE: Final = 5_000
"""Events that are held in memory; besides them psycopg holds up to a megabyte that is to be sent."""

EVENTS_IN_COPY: Final = 50_000
"""Events that go in one COPY, about: it has the time that it began at for all of them."""

EVENTS_IN_PART: Final = 500
"""Events that are made ready, and sent, without letting anybody else have a turn."""

_STILL_STORED: Final = 2
"""Parts that are made ready while the server stores what is on its way when COPY ends."""

_CLOCK: Final = "select clock_timestamp()"
_OPEN: Final = """
select tenant, stream, version, archived, clock_timestamp()
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


@attrs.frozen(eq=False)
class _Part:
    """Hold events on their way, each with its stream.

    Attributes:
        events: in order.
        streams: of each event.
        new: the streams that nothing came for before, with the types they are begun for.
    """

    events: Sequence[Incoming]
    streams: Sequence[Growing]
    new: Mapping[StreamKey, str | None]


@attrs.define(eq=False)
class _Gathered:
    """Gather parts of the source for the next COPY, at most `EVENTS_AT_ONCE` events and a part."""

    _source: AsyncIterator[Sequence[Incoming]]
    _streams: dict[StreamKey, Growing]
    _held: deque[_Part] = attrs.field(factory=deque[_Part], init=False)
    _count: int = attrs.field(default=0, init=False)
    _is_over: bool = attrs.field(default=False, init=False)

    async def pull(self, times: int = 1) -> None:
        """Take so many further parts of the source, as long as there are any and room for them."""
        while times and not self._is_over and self._count < EVENTS_AT_ONCE:
            times -= 1
            try:
                events = await anext(self._source)
            except StopAsyncIteration:
                self._is_over = True
            else:
                self._held.append(_follow(events, self._streams))
                self._count += len(events)

    async def take(self, *, whole: bool) -> Sequence[_Part]:
        """Give what is gathered, at least a part if there is any; as much as fits, if `whole`."""
        while not self._is_over and (whole or not self._held) and self._count < EVENTS_AT_ONCE:
            await self.pull()
        taken = tuple(self._held)
        self._held.clear()
        self._count = 0
        return taken

    def take_known(self) -> _Part | None:
        """Give the next part, if it is gathered and its streams are all open."""
        if not self._held or self._held[0].new:
            return None
        part = self._held.popleft()
        self._count -= len(part.events)
        return part


def _follow(events: Sequence[Incoming], streams: dict[StreamKey, Growing]) -> _Part:
    """Find each event's stream; those that come for the first time have yet to be opened."""
    new: dict[StreamKey, str | None] = {}
    followed: list[Growing] = []
    for event in events:
        growing = streams.get(event.key)
        if growing is None:
            growing = streams[event.key] = Growing(0)
            new[event.key] = event.stream_type
        followed.append(growing)
    return _Part(events, followed, new)


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
    gathered = _Gathered(parts, streams)
    count = 0
    with translate_errors(), _refused_events():
        async with engine.lend() as connection, connection.transaction():
            while taken := await gathered.take(whole=not ahead):
                now = await _open(engine, connection, taken, streams)
                rows = CopyRows(now, connection.info.encoding)
                further = gathered if ahead else None
                count += await _copy(engine, connection, rows, taken, further)
            await _settle(engine, connection, streams)
    return count


async def _open(
    engine: Engine,
    connection: Connection,
    parts: Sequence[_Part],
    streams: dict[StreamKey, Growing],
) -> datetime:
    """Open the streams that come for the first time, and give the database's clock."""
    new = {key: stream_type for part in parts for key, stream_type in part.new.items()}
    if not new:
        cursor = await connection.execute(_CLOCK)
        return (await cursor.fetchall())[0][0]
    parameters = (*_key_arrays(engine, new), _arrays.texts(list(new.values())))
    cursor = await connection.execute(engine.sql.statement(_OPEN), parameters, binary=True)
    opened = await cursor.fetchall()
    for tenant, stream_id, version, archived, _ in opened:
        if archived:
            raise StreamArchivedError(stream_id)
        streams[tenant, stream_id].version = version
    return opened[-1][-1]


async def _copy(
    engine: Engine,
    connection: Connection,
    rows: CopyRows,
    parts: Sequence[_Part],
    further: _Gathered | None,
) -> int:
    """Write parts by one COPY, and give how many events they had.

    While the server stores what was sent a further part is made ready, and sent as well if no stream
    has to be opened for it: between one COPY and the next the server has nothing to do.
    """
    count, waiting = 0, deque(parts)
    pace = 2 if sum(len(part.events) for part in parts) < EVENTS_AT_ONCE // 2 else 1
    async with connection.cursor().copy(engine.sql.script(COPY)) as copy:
        await copy.write(COPY_BEGIN)
        while waiting:
            part = waiting.popleft()
            await copy.write(rows.write(part.events, _placed(part)))
            count += len(part.events)
            if further is not None:
                await further.pull(pace)
                if not waiting and count < EVENTS_IN_COPY and (part := further.take_known()):
                    waiting.append(part)
        await copy.write(COPY_END)
        if further is not None:
            await further.pull(_STILL_STORED)
    return count


def _placed(part: _Part) -> list[tuple[Growing, int]]:
    pairs = zip(part.events, part.streams, strict=True)
    return [(growing, growing.place(event)) for event, growing in pairs]


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
