"""A session in memory: one unit of work."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from flowstore.events import Event, StreamId
from flowstore.store._commit import Commit
from flowstore.store._engine import Engine
from flowstore.store._new_events import EventMarks
from flowstore.store._queue import Queue
from flowstore.store._session import Session
from flowstore.store.memory._commit import MemoryCommit
from flowstore.store.memory._database import MemoryDatabase
from flowstore.store.memory._events import MemoryEvents
from flowstore.store.memory._locks import MemoryLocks
from flowstore.store.memory._sessions import MemoryDocuments, ReadsFrom
from flowstore.store.memory._steps import Pause

__all__ = ["MemorySession", "hold_append", "open_memory_session"]


class MemorySession(MemoryDocuments, Session):
    """Gather events and documents, and commit all of them or nothing, into memory."""

    __slots__ = ()

    def _make_commit(self, queue: Queue) -> Commit:
        return MemoryCommit(self._engine, self._tenant, queue, cast("MemoryLocks", self._locks))


def open_memory_session(
    engine: Engine,
    database: MemoryDatabase,
    pause: Pause,
    tenant_id: str | None,
    marks: EventMarks,
) -> MemorySession:
    """Make a session; asks for nothing.

    Raises:
        InvalidTenantError: a tenant in a store of a single tenant, or one that can't be stored.
    """
    queue, lend = Queue(), ReadsFrom(database)
    tenant = engine.tenant(tenant_id)
    locks = MemoryLocks(lend, engine.sql, database=database, pause=pause)
    reading = MemoryDocuments(engine, tenant, queue, lend=lend)
    events = MemoryEvents(engine, reading, queue, marks, locks)
    return MemorySession(engine, tenant, queue, lend=lend, events=events, locks=locks)


@asynccontextmanager
async def hold_append(
    engine: Engine,
    database: MemoryDatabase,
    pause: Pause,
    stream_id: StreamId,
    values: Sequence[Any],
    *,
    tenant_id: str | None,
) -> AsyncGenerator[Sequence[Event]]:
    """Write an append, yield its events, and commit it at the block's end."""
    queue, tenant = Queue(), engine.tenant(tenant_id)
    locks = MemoryLocks(ReadsFrom(database), engine.sql, database=database, pause=pause)
    reading = MemoryDocuments(engine, tenant, queue, lend=ReadsFrom(database))
    events = MemoryEvents(engine, reading, queue, EventMarks(), locks)
    events.append(stream_id, *values)
    await database.round_trip()
    locks.begin()
    try:
        yield await MemoryCommit(engine, tenant, queue, locks).write()
        await locks.commit()
    finally:
        await locks.release()
