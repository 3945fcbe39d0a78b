"""What a session has queued, and how it is put together for a commit. No I/O here."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final, LiteralString, TypeAlias
from uuid import UUID

import attrs

from flowstore.events import PlainKey, StreamAction, StreamId, plain_key
from flowstore.projections import RowChange, Table
from flowstore.store._document_types import DocumentId, DocumentType

__all__ = [
    "AT_ONCE",
    "ArchiveStream",
    "ChangeRow",
    "CompactStream",
    "DeleteDocument",
    "DocumentKey",
    "DocumentOperation",
    "EmptyTable",
    "Operation",
    "Queue",
    "QueuedAppend",
    "QueuedSql",
    "StoreDocument",
    "WriteDocuments",
    "in_batches",
]

AT_ONCE: Final = 2_000
"""Documents that a statement writes at most: a server that is short of time takes long to receive more."""

DocumentKey: TypeAlias = tuple[str, type, DocumentId]
"""Stored tenant, class and identity: what a document is known by."""


@attrs.frozen
class StoreDocument:
    """Write a document, whether it exists or not.

    Attributes:
        tenant: the tenant column's value.
        kind: how the document's class is kept.
        identity: the document's.
        document: the document; written as it is when the session commits.
        expected: the version it was loaded at, where that is to be checked.
        text: the document's JSON, where it is written already; stored in its place.
    """

    tenant: str
    kind: DocumentType
    identity: DocumentId
    document: Any = attrs.field(eq=False)
    expected: int | None = None
    text: str | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def key(self) -> DocumentKey:
        """What the document is known by."""
        return (self.tenant, self.kind.type, self.identity)


@attrs.frozen
class DeleteDocument:
    """Delete a document, whether it exists or not.

    Attributes:
        tenant: the tenant column's value.
        kind: how the document's class is kept.
        identity: the document's.
    """

    tenant: str
    kind: DocumentType
    identity: DocumentId

    @property
    def key(self) -> DocumentKey:
        """What the document is known by."""
        return (self.tenant, self.kind.type, self.identity)


@attrs.frozen
class WriteDocuments:
    """Write documents of one class and tenant, whether they exist or not, `AT_ONCE` of them at most.

    Thousands of operations of their own would take longer than writing them, and the garbage
    collector through all of them.

    Attributes:
        tenant: the tenant column's value.
        kind: how the documents' class is kept.
        keys: the documents' identities in the form that is quickly looked up, each once, in order.
        texts: their JSON, written already, in the same order.
    """

    tenant: str
    kind: DocumentType
    keys: Sequence[PlainKey]
    texts: Sequence[str] = attrs.field(repr=False)


@attrs.frozen
class QueuedSql:
    """Run a statement of the application.

    Attributes:
        query: the statement, with psycopg's placeholders if it has parameters.
        parameters: in order; None sends the statement as it is.
    """

    query: LiteralString | bytes
    parameters: tuple[Any, ...] | None


@attrs.frozen
class ChangeRow:
    """Change a row of a flat table.

    Attributes:
        table: the table.
        tenant: the tenant column's value, where the table has one.
        change: what becomes of the row.
    """

    table: Table
    tenant: str
    change: RowChange = attrs.field(eq=False)


@attrs.frozen
class EmptyTable:
    """Delete all rows of a flat table, whichever tenant's.

    Attributes:
        table: the table.
    """

    table: Table


@attrs.frozen
class ArchiveStream:
    """Archive a stream with its events.

    Attributes:
        tenant: the tenant column's value.
        stream_id: the stream's identity.
    """

    tenant: str
    stream_id: StreamId


@attrs.frozen
class CompactStream:
    """Put one event in the place of a stream's events.

    Attributes:
        tenant: the tenant column's value.
        stream_id: the stream's identity.
        version: of the last event to be replaced.
        amended: how often the stream had been amended when its events were folded.
        event_id: the new event's identity.
        type_name: the name that it is stored under.
        data: its JSON text.
    """

    tenant: str
    stream_id: StreamId
    version: int
    amended: int
    event_id: UUID
    type_name: str
    data: str = attrs.field(repr=False)


@attrs.frozen(eq=False)
class QueuedAppend:
    """Append to a stream.

    Attributes:
        action: the events and what is asked of the stream; no events only ask.
        timestamps: what each event was given as its time; None is the database's clock.
    """

    action: StreamAction
    timestamps: tuple[datetime | None, ...] = ()


DocumentOperation: TypeAlias = StoreDocument | DeleteDocument
StandsAlone: TypeAlias = (
    WriteDocuments | QueuedSql | ChangeRow | EmptyTable | ArchiveStream | CompactStream
)
Operation: TypeAlias = DocumentOperation | StandsAlone
Callback: TypeAlias = Callable[[], Any]


@attrs.define
class Queue:
    """Hold a session's unit of work in the order of its verbs.

    Attributes:
        appends: they are written first, in this order.
        operations: everything else, written after them in this order.
        callbacks: to be called once the commit is done.
        is_told: other processes have been told of its commit.
    """

    appends: list[QueuedAppend] = attrs.field(factory=list[QueuedAppend])
    operations: list[Operation] = attrs.field(factory=list[Operation])
    callbacks: list[Callback] = attrs.field(factory=list[Callback])
    is_told: bool = attrs.field(default=False, init=False)
    _latest: dict[DocumentKey, DocumentOperation] = attrs.field(
        factory=dict[DocumentKey, DocumentOperation]
    )

    def __bool__(self) -> bool:
        return bool(self.appends or self.operations or self.callbacks)

    def add(self, operation: Operation) -> None:
        """Queue an operation."""
        self.operations.append(operation)
        self._note(operation)

    def latest(self, key: DocumentKey) -> DocumentOperation | None:
        """Find the last operation queued for a document."""
        return self._latest.get(key)

    def latest_documents(self) -> list[DocumentOperation]:
        """List the last operation queued for each document."""
        return list(self._latest.values())

    def copy(self) -> "Queue":
        """Make a queue that holds the same and can be added to on its own."""
        return Queue(
            list(self.appends), list(self.operations), list(self.callbacks), dict(self._latest)
        )

    def take(self) -> "Queue":
        """Empty this queue into a new one, for a commit."""
        taken = self.copy()
        self.appends.clear()
        self.operations.clear()
        self.callbacks.clear()
        self._latest.clear()
        return taken

    def put_back(self, taken: "Queue") -> None:
        """Queue again, before anything queued since, what a failed commit had taken."""
        self.appends[:0] = taken.appends
        self.operations[:0] = taken.operations
        self.callbacks[:0] = taken.callbacks
        self._latest.clear()
        for operation in self.operations:
            self._note(operation)

    def _note(self, operation: Operation) -> None:
        if isinstance(operation, (StoreDocument, DeleteDocument)):
            self._latest[operation.key] = operation


def in_batches(
    operations: Iterable[Operation],
) -> Iterator[StandsAlone | Sequence[DocumentOperation]]:
    """Gather neighbouring document operations, the last one for each document winning.

    A statement of the application sees what was queued before it and nothing of what came after,
    so that nothing moves past one.

    Yields:
        Batches of document operations, table by table and in the order of the identities, so that
        sessions lock documents in one order whatever they do to them; and every other operation
        by itself.
    """
    gathered: dict[DocumentKey, DocumentOperation] = {}
    for operation in operations:
        if isinstance(operation, (StoreDocument, DeleteDocument)):
            gathered[operation.key] = operation
        else:
            yield from _by_statement(gathered.values())
            gathered.clear()
            yield operation
    yield from _by_statement(gathered.values())


def _by_statement(
    operations: Iterable[DocumentOperation],
) -> Iterator[Sequence[DocumentOperation]]:
    tables: dict[tuple[str, str], list[DocumentOperation]] = {}
    for operation in operations:
        tables.setdefault((operation.kind.table, operation.tenant), []).append(operation)
    for table in sorted(tables):
        in_order = sorted(tables[table], key=_identity)
        for _, run in groupby(in_order, key=_manner):
            same = list(run)
            for start in range(0, len(same), AT_ONCE):
                yield same[start : start + AT_ONCE]


def _identity(operation: DocumentOperation) -> Any:
    return plain_key(
        operation.identity
    )  # of one type in one table; its order is the database's too


def _manner(operation: DocumentOperation) -> tuple[bool, bool]:
    is_store = isinstance(operation, StoreDocument)
    return is_store, is_store and operation.expected is not None
