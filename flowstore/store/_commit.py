"""Committing a session's queue: everything or nothing, in as few round trips as possible."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final, TypeAlias
from uuid import UUID

import attrs

from flowstore.errors import (
    ConcurrencyError,
    FlowstoreError,
    StreamArchivedError,
    StreamCollisionError,
)
from flowstore.events import Event
from flowstore.postgres import Connection, translate_errors
from flowstore.store._append import APPEND_EVENT_TOLD, TOLD, AppendPlan, plan_append
from flowstore.store._engine import Engine
from flowstore.store._inline import apply_inline
from flowstore.store._locks import HeldLocks
from flowstore.store._projection_unit import ProjectionUnit
from flowstore.store._queue import (
    ArchiveStream,
    ChangeRow,
    CompactStream,
    DeleteDocument,
    EmptyTable,
    Operation,
    Queue,
    QueuedAppend,
    QueuedSql,
    StoreDocument,
    WriteDocuments,
    in_batches,
)
from flowstore.store._raw_events import event_reader, place_and_size
from flowstore.store._refusals import EventIdTakenError, refused_commits
from flowstore.store._repeats import (
    find_stored,
    recorded_before,
    without_doubles,
    without_repeats,
)
from flowstore.store._row_batches import in_rounds
from flowstore.store._statements import Row, Statement, fetch_rows, lend_again, run_as_one

__all__ = ["Callbacks", "Commit", "Written", "operation_statements", "see_to_tables"]

_ARCHIVE: Final = "select {schema}.archive_stream(%s, %s)"
_PERHAPS_REPEATED: Final = (
    ConcurrencyError,
    EventIdTakenError,
    StreamArchivedError,
    StreamCollisionError,
)
"""What a commit is refused for when it is tried again after it was carried out."""
_COMPACT: Final = "select {schema}.compact_stream(%s, %s, %s, %s, %s, %s, %s)"
Callbacks: TypeAlias = list[Callable[[], Any]]
Written: TypeAlias = list[list[Event]]
"""The recorded events of each append, in the order they were queued."""


@attrs.frozen
class Commit:
    """Commit one queue.

    Attributes:
        engine: the store's.
        tenant: the tenant column's value.
        queue: what is to be committed; stays as it is.
        locks: what the session holds; let go of with the commit.
    """

    engine: Engine
    tenant: str
    queue: Queue
    locks: HeldLocks

    async def run(self) -> Callbacks:
        """Write everything, or nothing, and then give the events their places.

        Returns:
            What waits for the commit, which is done: the session's, then inline projections'.

        Raises:
            StreamCollisionError: a stream that was to be started exists.
            ConcurrencyError: a stream, or a document, isn't at the version that was expected.
            StreamArchivedError: a stream is archived.
            StreamNotFoundError: a stream has to be started first.
            EventIdConflictError: an event id is stored with another event.
            InvalidEventError: an event can't be stored.
            InvalidDocumentError: a document can't be stored.
            DatabaseError: PostgreSQL refused a statement, or can't be reached.
        """
        appends = list(self.queue.appends)
        repeated: dict[UUID, Event] | None = None
        while True:
            try:
                written, callbacks = await self._write(appends)
            except _PERHAPS_REPEATED as refusal:
                found = await self._repeated(appends, refusal)
                repeated = {**(repeated or {}), **found}
                appends = without_repeats(without_doubles(appends, self.engine.codec), found)
            else:
                break
        with translate_errors():
            await self.locks.commit()
        if repeated is None:  # nothing was left out
            for queued, events in zip(self.queue.appends, written, strict=True):
                queued.action.settle(events)
            return callbacks
        recorded = repeated | {event.id: event for event in chain.from_iterable(written)}
        for queued in self.queue.appends:
            queued.action.settle(recorded[event.id] for event in queued.action.events)
        return callbacks

    async def _repeated(
        self, appends: Sequence[QueuedAppend], refusal: FlowstoreError
    ) -> dict[UUID, Event]:
        """Find which events are stored already; without any, the refusal stands.

        A commit whose answer was lost is repeated with the same event ids, and would then be
        refused for the versions that it made itself.
        """
        events = list(chain.from_iterable(queued.action.events for queued in appends))
        if not events:
            raise refusal
        rows = await self._find_stored(events)
        has_doubles = len({event.id for event in events}) < len(events)
        if not rows and not (has_doubles and isinstance(refusal, EventIdTakenError)):
            raise refusal
        return recorded_before(events, rows, self.tenant)

    async def _find_stored(self, events: Sequence[Event]) -> Sequence[Row]:
        """Find those of the events that are stored, as `recorded_before` takes them."""
        statement = find_stored(self.engine.sql, self.engine.codec, events)
        return await fetch_rows(self.locks.lend, statement)

    async def _write(self, appends: Sequence[QueuedAppend]) -> tuple[Written, Callbacks]:
        plan = self._plan(appends) if appends else None
        if self.queue.operations:
            await see_to_tables(self.engine, self.queue.operations)
        refused = refused_commits(plan, self.queue.operations, self.engine.catalogue)
        with translate_errors(), refused:
            async with self.locks.lend() as connection:
                if self.locks.connection is not None:
                    return await self._write_in_order(connection, plan)
                if plan is None or not self.engine.options.projections.inline():
                    return await self._write_at_once(connection, plan), self.queue.callbacks
                async with connection.transaction():
                    return await self._write_in_order(connection, plan)

    def _plan(self, appends: Sequence[QueuedAppend]) -> AppendPlan:
        return plan_append(
            appends,
            self.engine.codec,
            tenant=self.tenant,
            must_exist=self.engine.options.mandatory_stream_types,
            text_ids=self.engine.has_text_ids,
        )

    def _append(self, plan: AppendPlan) -> Statement:
        return Statement(self.engine.sql.statement(plan.call), plan.parameters)

    async def _write_at_once(self, connection: Connection, plan: AppendPlan | None) -> Written:
        if not self.queue.operations:
            return [] if plan is None else await self._write_alone(connection, plan)
        statements = [] if plan is None else [self._append(plan)]
        statements += operation_statements(self.engine, self.queue.operations)
        rows = await run_as_one(connection, statements)
        return [] if plan is None else plan.answered(rows[0] or ())

    async def _write_directly(self, connection: Connection, plan: AppendPlan) -> Written:
        call = self.engine.sql.direct(plan.call)
        return plan.told(await connection.fetch_row(call, plan.parameters))

    async def _write_alone(self, connection: Connection, plan: AppendPlan) -> Written:
        """Write events in a commit of their own, and tell of it: here of a single one as it is stored."""
        hands_over = plan.is_one_event and self.engine.handovers.are_wanted
        call = self.engine.sql.direct(APPEND_EVENT_TOLD if hands_over else plan.call)
        along = self.engine.along() if connection.is_alone else None
        row = await connection.fetch_row(call, plan.parameters, along)
        self.queue.is_told = along is not None
        if not hands_over:
            return plan.told(row)
        # An answer, and no transaction open behind it: it is committed.
        if connection.is_alone:
            stored = row[TOLD:]
            read = event_reader(connection, has_text_ids=self.engine.has_text_ids)
            sequence, size = place_and_size(stored)
            self.engine.handovers.put(sequence, size, partial(read, stored))
        return plan.told(row[:TOLD])

    async def _write_in_order(
        self, connection: Connection, plan: AppendPlan | None
    ) -> tuple[Written, Callbacks]:
        """Write one after the other, in the transaction that is under way."""
        recorded: Written = []
        queue = self.queue
        if plan is not None:
            recorded = await self._write_directly(connection, plan)
            events = list(chain.from_iterable(recorded))
            lend = lend_again(connection)
            unit = ProjectionUnit(self.engine, self.tenant, queue.copy(), lend=lend)
            queue = await apply_inline(self.engine, unit, events)
        await see_to_tables(self.engine, queue.operations)
        for statement in operation_statements(self.engine, queue.operations):
            await connection.execute(statement.query, statement.parameters)
        return recorded, queue.callbacks


async def see_to_tables(engine: Engine, operations: Sequence[Operation]) -> None:
    """Create the document tables that the operations need."""
    await engine.tables.ensure(
        operation.kind
        for operation in operations
        if isinstance(operation, (StoreDocument, DeleteDocument, WriteDocuments))
    )


def operation_statements(
    engine: Engine, operations: Sequence[Operation], *, sole_writer: bool = False
) -> Iterator[Statement]:
    """Turn queued operations into statements, as few as keep their order.

    Args:
        engine: the store's.
        operations: in the order they were queued.
        sole_writer: whether nobody else writes to the flat tables meanwhile; then rows are
            changed, and locked, many at once, else one by one in the order they were queued.
    """
    changes: list[ChangeRow] = []
    for batch in in_batches(operations):
        if sole_writer and isinstance(batch, ChangeRow):
            changes.append(batch)
            continue
        yield from map(engine.flat_tables.change_many, in_rounds(changes))
        changes.clear()
        if isinstance(batch, WriteDocuments):
            yield engine.documents.write_many(batch)
        elif isinstance(batch, QueuedSql):
            yield Statement(batch.query, batch.parameters)
        elif isinstance(batch, ChangeRow):
            yield engine.flat_tables.change(batch.table, batch.tenant, batch.change)
        elif isinstance(batch, EmptyTable):
            yield engine.flat_tables.empty(batch.table)
        elif isinstance(batch, ArchiveStream):
            query = engine.sql.statement(_ARCHIVE)
            yield Statement(query, (batch.tenant, batch.stream_id))
        elif isinstance(batch, CompactStream):
            yield Statement(engine.sql.statement(_COMPACT), attrs.astuple(batch, recurse=False))
        else:
            yield engine.documents.write(batch)
    yield from map(engine.flat_tables.change_many, in_rounds(changes))
