"""Reading the store in the order of its sequence."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, cast

import attrs
import psycopg

from flowstore.events import EventPage
from flowstore.postgres import Connection, translate_errors
from flowstore.store import _arrays
from flowstore.store._engine import Engine
from flowstore.store._raw_events import event_reader
from flowstore.store._rows import decode_page, row_size
from flowstore.store._statements import Statement, fetch_rows
from flowstore.store._wire import number

__all__ = ["Feed", "OpenAppend", "Part"]

_HIGH_WATER: Final = "select safe, ready from {schema}.high_water(%s, %s)"
_HIGHEST: Final = "select coalesce(max(sequence), 0) from {schema}.events"
_BEFORE: Final = "select coalesce(max(sequence), 0) from {schema}.events where recorded < %s"
_OPEN_APPENDS: Final = """
select o.bound, o.pid, a.application_name,
    extract(epoch from clock_timestamp() - a.xact_start)::double precision, a.state, a.query
from {schema}.open_appends o left join pg_catalog.pg_stat_activity a on a.pid = o.pid
order by o.bound, o.pid"""
# No types (null): every one. Both reads see one snapshot, as the function is stable.
_PAGE: Final = """
with page as materialized (
    select {schema}.page_end(%s, %s, %s::text[], %s, %s, %s) as ceiling
)
select {event_columns}, (select p.ceiling from page p) from {schema}.events e
where
    e.sequence > %s and e.sequence <= (select p.ceiling from page p)
    and (%s::text[] is null or e.type = any (%s::text[]))
    and (%s or not e.archived) and not e.skipped
order by e.sequence"""
_LOOK: Final = """
select {event_columns}, e.safe, e.ready, e.ceiling
from {schema}.look(%s, %s, %s, %s::text[], %s, %s, %s) e
order by e.sequence"""
_UNFIT: Final = "FS005"
"""What the mark is refused with on a replica, and in sessions of another isolation level."""


@attrs.frozen
class Part:
    """Name one part of the streams; all events of a stream are in the same.

    Attributes:
        number: which part, from 0.
        of: how many parts there are.
    """

    number: int
    of: int


@attrs.frozen
class OpenAppend:
    """Tell of a transaction under way that holds the high-water mark below its events.

    Attributes:
        bound: the sequence that the mark can't pass until the transaction is over.
        pid: the server process; None for a prepared transaction.
        application_name: what the connection calls itself.
        age: seconds since the transaction began.
        state: what the connection is doing, in PostgreSQL's words.
        query: its latest statement.
    """

    bound: int
    pid: int | None
    application_name: str | None
    age: float | None
    state: str | None
    query: str | None


@attrs.define(eq=False)
class Feed:
    """Read events in the order of their sequence, as far as nothing can still appear below."""

    _engine: Engine
    _safe: int = 0
    _names: dict[tuple[type, ...], list[str]] = attrs.field(
        factory=dict[tuple[type, ...], list[str]], init=False
    )

    async def high_water(self, leading_edge_buffer: float) -> int:
        """Give the high-water mark, leaving out events younger than the buffer in seconds."""
        query = self._engine.sql.statement(_HIGH_WATER)
        parameters = (self._safe, float(leading_edge_buffer))
        with translate_errors():
            async with self._engine.lend() as connection, _closed_if_unfit(connection):
                cursor = await connection.execute(query, parameters, binary=True)
                rows = await cursor.fetchall()
        self._safe, ready = rows[0]
        return ready

    async def look(
        self,
        floor: int,
        leading_edge_buffer: float,
        *,
        types: Sequence[type],
        limit: int,
        max_bytes: int | None,
        include_archived: bool,
    ) -> tuple[int, EventPage]:
        """Give the high-water mark, and the page above a floor that it allows, in one round trip."""
        names = _arrays.texts(self._stored_names(tuple(types))) if types else None
        statement = self._engine.sql.direct(_LOOK)
        parameters = (
            *(str(self._safe), repr(float(leading_edge_buffer)), str(floor), names),
            *("t" if include_archived else "f", str(limit)),
            None if max_bytes is None else str(max_bytes),
        )
        with translate_errors():
            async with self._engine.lend() as connection, _closed_if_unfit(connection):
                rows = await connection.fetch_raw(statement, parameters)
                read = event_reader(connection, has_text_ids=self._engine.has_text_ids)
        self._safe, ready, ceiling = [number(cast("bytes", raw)) for raw in rows[0][-3:]]
        events = [read(row) for row in rows if row[0] is not None]
        size = sum(map(row_size, events))
        decoded = decode_page(self._engine.codec, events)
        return ready, EventPage(floor, ceiling, *decoded, size=size)

    async def highest_sequence(self) -> int:
        """Give the highest sequence that is visible; 0 if there is none."""
        rows = await self._rows(self._engine.sql.statement(_HIGHEST))
        return rows[0][0]

    async def sequence_before(self, when: datetime) -> int:
        """Give the highest sequence that was recorded before a time; 0 if there is none."""
        rows = await self._rows(self._engine.sql.statement(_BEFORE), when)
        return rows[0][0]

    async def open_appends(self) -> list[OpenAppend]:
        """List the transactions under way that hold the mark, the lowest bound first."""
        rows = await self._rows(self._engine.sql.statement(_OPEN_APPENDS))
        return [OpenAppend(*row) for row in rows]

    async def fetch_page(
        self,
        floor: int,
        mark: int,
        *,
        types: Sequence[type],
        limit: int,
        max_bytes: int | None,
        include_archived: bool,
    ) -> EventPage:
        """Read and decode at most `limit` events of (floor, mark], and `max_bytes` of JSON."""
        names = self._stored_names(tuple(types)) if types else None
        rows = await self._rows(
            self._engine.sql.statement(_PAGE),
            *(floor, mark, names, include_archived, limit, max_bytes),
            *(floor, names, names, include_archived),
        )
        return self._page(floor, mark, rows)

    def _page(self, floor: int, mark: int, rows: Sequence[tuple[Any, ...]]) -> EventPage:
        ceiling = rows[-1][-1] if rows else max(floor, mark)
        size = sum(map(row_size, rows))
        return EventPage(floor, ceiling, *decode_page(self._engine.codec, rows), size=size)

    def _stored_names(self, types: tuple[type, ...]) -> list[str]:
        names = self._names.get(types)
        if names is None:
            names = self._names[types] = list(self._engine.options.events.stored_names(*types))
        return names

    async def _rows(self, query: bytes, *parameters: Any) -> list[tuple[Any, ...]]:
        return await fetch_rows(self._engine.lend, Statement(query, parameters))


@asynccontextmanager
async def _closed_if_unfit(connection: Connection) -> AsyncGenerator[None]:
    """Close a connection that the mark can't be told on.

    What it connected to, and with which settings, stays for its lifetime; a new one sees mended
    settings, and who is the primary now.
    """
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate == _UNFIT:
            await connection.close()
        raise
