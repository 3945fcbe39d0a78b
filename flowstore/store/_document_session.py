"""The document half of a session: queueing writes, and reading what is stored and queued."""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, LiteralString, TypeVar, cast

import attrs
from psycopg import AsyncCursor

from flowstore.postgres import translate_errors
from flowstore.store._document_types import DocumentId, DocumentType
from flowstore.store._engine import Engine
from flowstore.store._fields import check_found_by
from flowstore.store._names import told_tenant
from flowstore.store._queries import find_documents, query_documents
from flowstore.store._queue import (
    DeleteDocument,
    DocumentKey,
    Queue,
    QueuedSql,
    StoreDocument,
)
from flowstore.store._statements import Lend, Row, Statement, check_statement, fetch_rows

__all__ = ["DocumentSession"]

_T = TypeVar("_T")

_ROWS_AT_ONCE: Final = 200
"""Rows that a streaming query holds in memory."""


@attrs.define(eq=False)
class DocumentSession:
    """Queue writes of documents, and read documents as they would be after what is queued.

    The verbs that are plain functions only queue. Nothing is written before the unit of work is
    committed, and then all of it is, or nothing.
    """

    _engine: Engine = attrs.field(repr=False)
    _tenant: str
    _queue: Queue = attrs.field(factory=Queue, repr=False)
    _lend: Lend = attrs.field(repr=False, kw_only=True, alias="lend")
    _versions: dict[DocumentKey, int] = attrs.field(
        factory=dict[DocumentKey, int], init=False, repr=False
    )

    @property
    def tenant_id(self) -> str | None:
        """Whose streams and documents this session sees; None in a store of one tenant."""
        return told_tenant(self._tenant)

    @property
    def stored_tenant(self) -> str:
        """The tenant column's value for this session's tenant."""
        return self._tenant

    @property
    def lend(self) -> Lend:
        """Where this session's reads get their connection."""
        return self._lend

    # -- queueing --------------------------------------------------------------------------------

    def store(self, *documents: object) -> None:
        """Queue documents to be written, whether they exist or not; the last write of one wins.

        Raises:
            InvalidDocumentError: a document has no usable `id`.
            RegistrationError: its class can't be a document.
        """
        for document in documents:
            kind = self._engine.catalogue.describe(type(document))
            identity = kind.identity_of(document)
            key = (self._tenant, kind.type, identity)
            expected = self._versions.get(key, 0) if self._is_checked(kind) else None
            self._queue.add(StoreDocument(self._tenant, kind, identity, document, expected))

    def delete(self, document: object) -> None:
        """Queue the deletion of a document; there may be none.

        Raises:
            InvalidDocumentError: the document has no usable `id`.
            RegistrationError: its class can't be a document.
        """
        kind = self._engine.catalogue.describe(type(document))
        self._queue.add(DeleteDocument(self._tenant, kind, kind.identity_of(document)))

    def delete_by_id(self, document_type: type, document_id: DocumentId, /) -> None:
        """Queue the deletion of the document with an id; there may be none.

        Raises:
            InvalidDocumentError: documents of the class have ids of another type.
            RegistrationError: the class can't be a document.
        """
        kind = self._engine.catalogue.describe(document_type)
        self._queue.add(DeleteDocument(self._tenant, kind, kind.checked(document_id)))

    def execute(self, sql: LiteralString, /, *params: Any) -> None:
        """Queue a statement, with `%s` for each parameter.

        It runs in queue order, after the commit's events. Without parameters a percent sign means
        itself.

        Raises:
            DatabaseError: it would begin or end a transaction: what is queued is one, as a whole.
        """
        check_statement(sql)
        self._queue.add(QueuedSql(sql, params or None))

    def after_commit(self, callback: Callable[[], Any], /) -> None:
        """Call a function, plain or async, once what is queued now has been committed.

        It isn't called when the commit fails, and never in a rebuild.
        """
        self._queue.callbacks.append(callback)

    # -- reading ---------------------------------------------------------------------------------

    async def load(self, document_type: type[_T], document_id: DocumentId, /) -> _T | None:
        """Give a document as it would be after what is queued; None if there is none.

        A loaded document isn't watched: store it to keep a change.

        Raises:
            InvalidDocumentError: the id is of another type than the class', or the stored JSON
                doesn't fit the class.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        found = await self._load(document_type, [document_id])
        return found[0] if found else None

    async def load_many(
        self, document_type: type[_T], document_ids: Iterable[DocumentId], /
    ) -> list[_T]:
        """Give those documents that there are, in the order asked, in one round trip.

        Raises:
            InvalidDocumentError: an id is of another type than the class', or stored JSON doesn't
                fit the class.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        return await self._load(document_type, list(document_ids))

    async def find(self, document_type: type[_T], /, **equal_to: Any) -> list[_T]:
        """Give the stored documents whose fields equal the values, in the order of their ids.

        Sees what is committed, not what is queued. An index on a field serves it. Fields have the
        names that they are stored under, as an application's converter may rename them; those of
        a class with a hook of its own aren't known here, and nothing is found by a wrong one.

        Raises:
            UnknownFieldError: the class isn't stored with such a field.
            InvalidDocumentError: stored JSON doesn't fit the class.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        kind = self._engine.catalogue.describe(document_type)
        check_found_by(kind, self._engine.documents.codec.keys_of(kind.type), equal_to)
        return self._decoded(kind, await self._find_rows(kind, equal_to))

    async def query(
        self, document_type: type[_T], where: LiteralString, /, *params: Any
    ) -> list[_T]:
        """Give the stored documents that an SQL condition on the column `data` holds for.

        Sees what is committed, not what is queued. Also `id`, `version` and `modified` can be
        asked for, and `order by` and `limit` may follow the condition.

        Raises:
            InvalidDocumentError: stored JSON doesn't fit the class.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        kind = await self._engine.kept(document_type)
        statement = query_documents(self._engine, kind, self._tenant, where, params)
        return self._decoded(kind, await fetch_rows(self._lend, statement))

    async def stream_query(
        self, document_type: type[_T], where: LiteralString, /, *params: Any
    ) -> AsyncGenerator[_T]:
        """Yield what `query` would list, without holding all of it in memory.

        It keeps a connection until it is exhausted or closed: iterate inside
        `contextlib.aclosing`.

        Raises:
            InvalidDocumentError: stored JSON doesn't fit the class.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        kind = await self._engine.kept(document_type)
        statement = query_documents(self._engine, kind, self._tenant, where, params)
        with translate_errors():
            async with (
                self._lend() as connection,
                connection.cursor(binary=True) as cursor,
                aclosing(_streamed(cursor, statement)) as rows,
            ):
                async for row in rows:
                    yield self._decoded(kind, [row])[0]

    def _is_checked(self, kind: DocumentType) -> bool:
        """Whether storing a document is refused if it moved since this session loaded it."""
        return kind.optimistic_concurrency

    async def _load(self, cls: type[_T], identities: list[DocumentId]) -> list[_T]:
        kind = self._engine.catalogue.describe(cls)
        keys = {identity: (self._tenant, cls, kind.checked(identity)) for identity in identities}
        asked = [identity for identity, key in keys.items() if self._queue.latest(key) is None]
        stored = await self._stored(kind, asked) if asked else {}
        found = (self._present(keys[identity], stored) for identity in identities)
        return [document for document in found if document is not None]

    def _present(self, key: DocumentKey, stored: dict[Any, Any]) -> Any:
        queued = self._queue.latest(key)
        if isinstance(queued, StoreDocument):
            return queued.document
        return None if queued else stored.get(key[2])

    async def _stored(self, kind: DocumentType, identities: list[DocumentId]) -> dict[Any, Any]:
        rows = await self._load_rows(kind, identities)
        if kind.optimistic_concurrency:
            for identity, _, version in rows:
                self._versions[self._tenant, kind.type, identity] = version
        decode = self._engine.documents.codec.decode
        return {identity: decode(kind.type, text) for identity, text, _ in rows}

    async def _load_rows(self, kind: DocumentType, identities: list[DocumentId]) -> Sequence[Row]:
        """Read id, JSON and version of those documents that there are, in any order."""
        await self._engine.tables.ensure([kind])
        statement = self._engine.documents.load(kind, self._tenant, identities)
        return await fetch_rows(self._lend, statement)

    async def _find_rows(self, kind: DocumentType, equal_to: Mapping[str, Any]) -> Sequence[Row]:
        """Read id, JSON and version of the documents whose fields equal the values, by their ids."""
        await self._engine.tables.ensure([kind])
        statement = find_documents(self._engine, kind, self._tenant, equal_to)
        return await fetch_rows(self._lend, statement)

    def _decoded(self, kind: DocumentType, rows: Iterable[tuple[Any, ...]]) -> list[Any]:
        decode = self._engine.documents.codec.decode
        documents: list[Any] = []
        for identity, text, version in rows:
            if kind.optimistic_concurrency:
                self._versions[self._tenant, kind.type, identity] = version
            documents.append(decode(kind.type, text))
        return documents


def _streamed(cursor: AsyncCursor[Row], statement: Statement) -> AsyncGenerator[Row]:
    rows = cursor.stream(statement.query, statement.parameters, size=_ROWS_AT_ONCE)
    return cast("AsyncGenerator[Row]", rows)  # psycopg doesn't say that it can be closed
