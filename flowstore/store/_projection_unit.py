"""The session that a projection is handed: whoever runs the projection commits it."""

from collections.abc import Callable
from typing import Any, Self

import attrs

from flowstore.errors import FlowstoreError
from flowstore.projections import RowChange, Table
from flowstore.store._document_session import DocumentSession
from flowstore.store._document_types import DocumentId, DocumentType
from flowstore.store._held import HeldDocuments, Written
from flowstore.store._history import History
from flowstore.store._queue import (
    ChangeRow,
    DocumentKey,
    DocumentOperation,
    EmptyTable,
    Queue,
    StoreDocument,
)
from flowstore.store._statements import fetch_rows

__all__ = ["ProjectionUnit"]


def _holds_nothing(_: type) -> bool:
    return False


@attrs.define(eq=False)
class ProjectionUnit(DocumentSession):
    """The session that a projection is handed: whoever runs the projection commits it."""

    _holds: Callable[[type], bool] = attrs.field(default=_holds_nothing, init=False)
    _kept: HeldDocuments | None = attrs.field(default=None, init=False)

    def hold(self, holds: Callable[[type], bool]) -> None:
        """From now on keep what is loaded from others who hold it too, until the commit.

        Args:
            holds: says for a document type whether its documents are meant.
        """
        self._holds = holds

    async def _stored(self, kind: DocumentType, identities: list[DocumentId]) -> dict[Any, Any]:
        if self._holds(kind.type):
            await self._hold(kind, identities)
        if self._kept is not None and kind.type in self._kept.types:
            return await self._kept_or_stored(self._kept, kind, identities)
        return await super()._stored(kind, identities)

    def keep(self, documents: HeldDocuments) -> None:
        """From now on ask what is kept between pages before the database, and keep what is read."""
        self._kept = documents

    def written(self, documents: HeldDocuments) -> list[DocumentOperation]:
        """Give what is queued as it is now, documents as JSON, for `Written`.

        Raises:
            InvalidDocumentError: a document can't be stored.
            FlowstoreError: something else was queued.
        """
        documents.check(self._queue)
        write = self._engine.documents.text_of
        return [
            attrs.evolve(each, document=None, text=write(each))
            if isinstance(each, StoreDocument)
            else each
            for each in self._queue.latest_documents()
        ]

    def take_over(self, written: Written) -> None:
        """Queue what was gathered, in an empty unit that is to be committed."""
        self._queue = written.queue()

    async def _kept_or_stored(
        self, kept: HeldDocuments, kind: DocumentType, identities: list[DocumentId]
    ) -> dict[Any, Any]:
        keys: list[DocumentKey] = [(self._tenant, kind.type, each) for each in identities]
        known, missing = kept.split(keys)
        if missing:
            rows = await self._load_rows(kind, [key[2] for key in missing])
            read = {identity: text for identity, text, _ in rows}
            found = [(key, read.get(key[2])) for key in missing]
            kept.note(found)
            known.update(found)
        decode = self._engine.documents.codec.decode
        return {key[2]: decode(kind.type, text) for key, text in known.items() if text is not None}

    async def _hold(self, kind: DocumentType, identities: list[DocumentId]) -> None:
        statement = self._engine.documents.hold(kind, self._tenant, identities)
        await fetch_rows(self._lend, statement)

    def _is_checked(self, kind: DocumentType) -> bool:  # noqa: ARG002 - a projection's documents are its own
        return False

    @property
    def queued(self) -> Queue:
        """What is queued."""
        return self._queue

    @property
    def history(self) -> History:
        """The tenant's events as they are stored."""
        return History(self._engine, self._tenant)

    async def save_changes(self) -> None:
        """Refuse to commit: the events' transaction, or the daemon's, does.

        Raises:
            FlowstoreError: always.
        """
        raise FlowstoreError(
            "a projection can't commit: its writes are committed with its progress, or with the"
            " events; leave save_changes out of apply"
        )

    def change_rows(self, table: Table, /, *changes: RowChange) -> None:
        """Queue changes of a flat table's rows, for this tenant; they run in queue order."""
        for change in changes:
            self._queue.add(ChangeRow(table, self._tenant, change))

    def empty_table(self, table: Table, /) -> None:
        """Queue the deletion of all rows of a flat table, whichever tenant's."""
        self._queue.add(EmptyTable(table))

    async def create_table(self, table: Table, /) -> None:
        """See to it that a flat table is there; asks nothing for one that was seen before.

        Raises:
            RegistrationError: this store can't keep the table as it is described.
            SchemaError: it is missing and may not be created, or isn't as described.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        await self._engine.flat_tables.ensure([table])

    def for_tenant(self, tenant_id: str | None) -> Self:
        """Give a session of another tenant that shares this one's unit of work."""
        other = type(self)(
            self._engine, self._engine.tenant(tenant_id), self._queue, lend=self._lend
        )
        other._versions = self._versions  # noqa: SLF001 - of this very class
        other._holds = self._holds  # noqa: SLF001 - as above
        other._kept = self._kept  # noqa: SLF001 - as above
        return other
