"""Writing what is queued behind a commit's events: documents, rows, archiving, compaction."""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from enum import Enum
from typing import Any, cast

import attrs

from flowstore.projections import DeleteRow, WriteRow
from flowstore.store._engine import Engine
from flowstore.store._queue import (
    ArchiveStream,
    ChangeRow,
    CompactStream,
    DeleteDocument,
    EmptyTable,
    Operation,
    QueuedSql,
    StandsAlone,
    StoreDocument,
    in_batches,
)
from flowstore.store._refusals import document_moved, stream_amended
from flowstore.store.memory._database import Transaction
from flowstore.store.memory._errors import NotInMemoryError
from flowstore.store.memory._limits import check_key
from flowstore.store.memory._rows import (
    EVENT_IDS,
    EVENTS,
    STREAMS,
    StoredDocument,
    documents_of,
    rows_of,
)

__all__ = ["Write", "prepare_writes", "write_all"]


@attrs.frozen
class Write:
    """Hold an operation, made ready.

    Attributes:
        operation: what is to be done.
        text: a stored document's JSON.
    """

    operation: Operation
    text: str = attrs.field(default="", repr=False)


def prepare_writes(engine: Engine, operations: Iterable[Operation]) -> list[Write]:
    """Put operations into the order that the database would get them in, documents as JSON.

    Raises:
        InvalidDocumentError: a document can't be stored.
    """
    return list(_prepared(engine, operations))


def _prepared(engine: Engine, operations: Iterable[Operation]) -> Iterator[Write]:
    for batch in in_batches(operations):
        if not isinstance(batch, Sequence):
            yield Write(batch)
            continue
        # Documents are locked in the order of their ids, as the database's statements do it.
        in_order = sorted(batch, key=lambda each: cast("Any", each.identity))
        for operation in in_order:
            check_key(operation.identity)
            is_stored = isinstance(operation, StoreDocument)
            yield Write(operation, engine.documents.text_of(operation) if is_stored else "")


async def write_all(transaction: Transaction, writes: Iterable[Write], engine: Engine) -> None:
    """Carry out operations one after the other.

    Raises:
        ConcurrencyError: a document, or a stream's events, changed since they were read.
    """
    for write in writes:
        operation = write.operation
        if isinstance(operation, StoreDocument):
            await _store(transaction, operation, write.text)
        elif isinstance(operation, DeleteDocument):
            await _delete(transaction, operation)
        else:
            await _stand_alone(transaction, operation, engine)


async def _store(transaction: Transaction, operation: StoreDocument, text: str) -> None:
    rows, key = documents_of(operation.kind), (operation.tenant, operation.identity)
    await transaction.lock(rows, key)
    found = transaction.get(rows, key)
    version = 0 if found is None else found.version
    if operation.expected is not None and operation.expected != version:
        raise document_moved(operation)
    transaction.put(rows, key, StoredDocument(text, version + 1))


async def _delete(transaction: Transaction, operation: DeleteDocument) -> None:
    rows, key = documents_of(operation.kind), (operation.tenant, operation.identity)
    await transaction.lock(rows, key)
    transaction.delete(rows, key)


async def _stand_alone(transaction: Transaction, operation: StandsAlone, engine: Engine) -> None:
    if isinstance(operation, ArchiveStream):
        await _archive(transaction, operation)
    elif isinstance(operation, CompactStream):
        await _compact(transaction, operation)
    elif isinstance(operation, ChangeRow):
        await _change_row(transaction, operation, engine)
    elif isinstance(operation, EmptyTable):
        for key, _ in transaction.scan(rows_of(operation.table)):
            await transaction.lock(rows_of(operation.table), key)
            transaction.delete(rows_of(operation.table), key)
    elif isinstance(operation, QueuedSql):
        raise NotInMemoryError(f"there is no database here to execute {operation.query!r}")
    else:
        raise NotInMemoryError("documents are written one by one here")


async def _archive(transaction: Transaction, operation: ArchiveStream) -> None:
    place = (operation.tenant, operation.stream_id)
    await transaction.lock(STREAMS, place)
    found = transaction.get(STREAMS, place)
    if found is not None:
        transaction.put(STREAMS, place, attrs.evolve(found, archived=True))


async def _compact(transaction: Transaction, operation: CompactStream) -> None:
    place = (operation.tenant, operation.stream_id)
    await transaction.lock(STREAMS, place)
    found = transaction.get(STREAMS, place)
    if found is None or found.amended != operation.amended:
        raise stream_amended(operation)
    transaction.put(STREAMS, place, attrs.evolve(found, amended=found.amended + 1))
    for event in transaction.stream(place):
        if event.version > operation.version:
            break
        transaction.delete(EVENT_IDS, event.id)
        if event.version < operation.version:
            transaction.delete(EVENTS, event.sequence)
            continue
        standing = attrs.evolve(
            event,
            id=operation.event_id,
            type_name=operation.type_name,
            data=operation.data,
            headers=None,
            correlation_id=None,
            causation_id=None,
            user_name=None,
            skipped=False,
        )
        transaction.put(EVENTS, event.sequence, standing)
        transaction.put(EVENT_IDS, standing.id, event.sequence)


async def _change_row(transaction: Transaction, operation: ChangeRow, engine: Engine) -> None:
    rows, change = rows_of(operation.table), operation.change
    key = (operation.tenant if engine.flat_tables.by_tenant else "", _plain(change.key))
    await transaction.lock(rows, key)
    if isinstance(change, DeleteRow):
        transaction.delete(rows, key)
        return
    found = transaction.get(rows, key)
    if found is not None or change.insert:
        columns = operation.table.columns
        new = {column.name: 0 if column.counts else None for column in columns}
        transaction.put(rows, key, _changed(new if found is None else found, change))


def _changed(row: dict[str, Any], change: WriteRow) -> dict[str, Any]:
    sums = {name: (row[name] or 0) + _plain(amount) for name, amount in change.add.items()}
    # Copied: what the projection does to a list afterwards is none of the row's business.
    return {**row, **{name: deepcopy(_plain(new)) for name, new in change.set.items()}, **sums}


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
