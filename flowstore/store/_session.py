"""A session: one unit of work."""

import inspect
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import attrs

from flowstore.store._commit import Commit
from flowstore.store._document_session import DocumentSession
from flowstore.store._engine import Engine
from flowstore.store._event_operations import EventOperations
from flowstore.store._locks import HeldLocks
from flowstore.store._new_events import EventMarks
from flowstore.store._queue import Queue, StoreDocument

__all__ = ["Session", "open_session", "run_callbacks"]


@attrs.define(eq=False)
class Session(DocumentSession):
    """Gather events, documents and statements, and commit all of them or nothing.

    Leave it without `save_changes`, and nothing was written. It can be used again after a commit;
    after a failed one it keeps what was queued. One task at a time.

    Attributes:
        events: the verbs for events.
    """

    events: EventOperations = attrs.field(kw_only=True, repr=False)
    _locks: HeldLocks = attrs.field(kw_only=True, repr=False, alias="locks")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._locks.release()

    async def save_changes(self) -> None:
        """Commit everything that is queued, or nothing.

        Events come first, in the order they were queued, then everything else in its order. A
        session that only appends takes one round trip however many streams it appends to; one
        that also writes documents or runs statements takes two, the second for the commit, unless
        inline projections have to see the events in between.

        Cancelled before the commit is on its way, nothing has happened, and the queue is kept. A
        commit whose outcome is unknown may be tried again: events that were stored aren't stored
        a second time.

        Raises:
            StreamCollisionError: a stream that was to be started exists.
            ConcurrencyError: a stream, or a document, isn't at the version that was expected.
            StreamArchivedError: a stream is archived.
            StreamNotFoundError: a stream has to be started first.
            EventIdConflictError: an event id is stored with another event.
            InvalidEventError: an event can't be stored.
            InvalidDocumentError: a document can't be stored.
            SchemaError: a document's table is missing and may not be created.
            DatabaseError: PostgreSQL refused a statement, or can't be reached.
        """
        queue = self._queue.take()
        try:
            callbacks = await self._make_commit(queue).run()
        except BaseException:
            self._queue.put_back(queue)
            raise
        self._remember_versions(queue)
        if queue.appends:
            self._engine.appended(is_told=queue.is_told)
        await run_callbacks(callbacks)

    def _make_commit(self, queue: Queue) -> Commit:
        return Commit(self._engine, self._tenant, queue, self._locks)

    def _remember_versions(self, queue: Queue) -> None:
        for operation in queue.operations:
            if isinstance(operation, StoreDocument) and operation.expected is not None:
                self._versions[operation.key] = operation.expected + 1


async def run_callbacks(callbacks: Iterable[Callable[[], Any]]) -> None:
    """Call functions that wait for a commit, plain or async, in order."""
    for callback in callbacks:
        pending = callback()
        if inspect.isawaitable(pending):
            await pending


def open_session(engine: Engine, tenant_id: str | None, marks: EventMarks) -> Session:
    """Make a session; asks the database nothing."""
    queue = Queue()
    tenant = engine.tenant(tenant_id)
    locks = HeldLocks(engine.lend, engine.sql, engine.tables.dsn, engine.keep)
    reading = DocumentSession(engine, tenant, queue, lend=locks.lend)
    events = EventOperations(engine, reading, queue, marks, locks)
    return Session(engine, tenant, queue, lend=locks.lend, events=events, locks=locks)
