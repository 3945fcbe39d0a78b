"""What is stored, as values: one class for each of PostgreSQL's tables."""

from collections.abc import Hashable
from datetime import datetime
from typing import Any, Final, Generic, TypeAlias, TypeVar
from uuid import UUID

import attrs

from flowstore.events import DeadLetter, StreamId
from flowstore.projections import Table
from flowstore.store._document_types import DocumentId, DocumentType
from flowstore.store._incoming import StreamKey
from flowstore.store._progress import Claim

__all__ = [
    "DEAD_LETTERS",
    "EVENTS",
    "EVENT_IDS",
    "KEPT_STREAMS",
    "PROGRESS",
    "STREAMS",
    "Rows",
    "StoredDocument",
    "StoredEvent",
    "StoredStream",
    "documents_of",
    "rows_of",
]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@attrs.frozen
class Rows(Generic[K, V]):
    """Name a table, and say of what type its keys and rows are.

    Attributes:
        name: the table's.
    """

    name: str


@attrs.frozen
class StoredStream:
    """Hold a stream's row.

    Attributes:
        type: what it was started for.
        version: of its last event.
        created: when the row came to be.
        updated: when it was last appended to.
        archived: whether it is archived, and its events with it.
        amended: how often its events were changed.
    """

    type: str | None
    version: int
    created: datetime
    updated: datetime
    archived: bool = False
    amended: int = 0


@attrs.frozen
class StoredEvent:
    """Hold an event's row.

    Attributes:
        sequence: place in the store.
        id: its identity.
        stream: tenant and identity of its stream.
        version: place in the stream.
        type_name: the name that its type is stored under.
        data: its JSON text.
        timestamp: when it was recorded, as it says.
        recorded: when the row came to be.
        headers: their JSON text, if there are any.
        correlation_id: what it belongs to.
        causation_id: what caused it.
        user_name: who caused it.
        skipped: whether projections pass it over.
    """

    sequence: int
    id: UUID
    stream: StreamKey
    version: int
    type_name: str
    data: str = attrs.field(repr=False)
    timestamp: datetime
    recorded: datetime
    headers: str | None
    correlation_id: str | None
    causation_id: str | None
    user_name: str | None
    skipped: bool = False

    def row(self) -> tuple[Any, ...]:
        """Give what makes an event, in the order that `decode_row` takes it."""
        tenant, stream_id = self.stream
        return (
            *(self.sequence, self.id, stream_id, self.version, self.type_name, self.data),
            *(self.timestamp, self.headers, self.correlation_id, self.causation_id),
            *(self.user_name, tenant),
        )


@attrs.frozen
class StoredDocument:
    """Hold a document's row.

    Attributes:
        data: its JSON text.
        version: how often it was written.
    """

    data: str = attrs.field(repr=False)
    version: int


DocumentRows: TypeAlias = Rows[tuple[str, DocumentId], StoredDocument]
FlatRows: TypeAlias = Rows[tuple[str, Any], dict[str, Any]]

STREAMS: Final = Rows[StreamKey, StoredStream]("streams")
EVENTS: Final = Rows[int, StoredEvent]("events")
EVENT_IDS: Final = Rows[UUID, int]("event ids")
"""The unique index on the events' identities."""
PROGRESS: Final = Rows[str, Claim]("progress")
DEAD_LETTERS: Final = Rows[tuple[str, int], DeadLetter]("dead letters")
KEPT_STREAMS: Final = Rows[tuple[str, StreamId], None]("kept streams")
"""No rows, only locks: advisory ones, for streams that may not exist yet."""


def documents_of(kind: DocumentType) -> DocumentRows:
    """Name the table of a class of documents."""
    return Rows(f"documents {kind.table}")


def rows_of(table: Table) -> FlatRows:
    """Name a flat table."""
    return Rows(f"rows {table.name}")
