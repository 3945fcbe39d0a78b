"""The session that a projection is handed: whoever runs the projection commits it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Self, TypeVar, cast

import attrs
import trio

from flowstore.errors import FlowstoreError
from flowstore.events import PlainKey
from flowstore.postgres import translate_errors
from flowstore.projections import RowChange, Table
from flowstore.store._document_session import DocumentSession
from flowstore.store._document_types import DocumentId, DocumentType
from flowstore.store._documents import read_texts
from flowstore.store._held import HeldKey, Kept, Relied, Written
from flowstore.store._history import History
from flowstore.store._open_documents import OpenDocuments, Shelf
from flowstore.store._queue import (
    ChangeRow,
    EmptyTable,
    Queue,
)
from flowstore.store._statements import fetch_rows

__all__ = ["ProjectionUnit"]

_T = TypeVar("_T")

_WRITTEN_AT_ONCE: Final = 250
"""Documents that are written as JSON before others get a turn: some milliseconds."""


def _holds_nothing(_: type) -> bool:
    return False


@attrs.define(eq=False)
class ProjectionUnit(DocumentSession):
    """The session that a projection is handed: whoever runs the projection commits it.

    Attributes:
        relied: the documents that have to be as they were kept, or the commit is refused.
        kept: what the commit has written, as it is kept now, where that is known.
    """

    relied: Mapping[HeldKey, Relied] = attrs.field(
        factory=dict[HeldKey, Relied], init=False, repr=False
    )
    kept: Mapping[HeldKey, Kept] = attrs.field(factory=dict[HeldKey, Kept], init=False, repr=False)
    _holds: Callable[[type], bool] = attrs.field(default=_holds_nothing, init=False)
    _kept: OpenDocuments | None = attrs.field(default=None, init=False)
    _shelves: dict[type, Shelf] = attrs.field(factory=dict[type, Shelf], init=False, repr=False)

    def hold(self, holds: Callable[[type], bool]) -> None:
        """From now on keep what is loaded from others who hold it too, until the commit.

        Args:
            holds: says for a document type whether its documents are meant.
        """
        self._holds = holds

    async def _stored(self, kind: DocumentType, identities: list[DocumentId]) -> dict[Any, Any]:
        if self._holds(kind.type):
            await self._hold(kind, identities)
        return await super()._stored(kind, identities)

    # -- several pages' work ---------------------------------------------------------------------

    def keep(self, documents: OpenDocuments) -> None:
        """From now on have documents of its types as objects, until they are written out."""
        self._kept = documents

    def store(self, *documents: object) -> None:
        """Queue documents to be written, whether they exist or not; the last write of one wins.

        Raises:
            InvalidDocumentError: a document has no usable `id`.
            RegistrationError: its class can't be a document.
        """
        if self._kept is None:
            super().store(*documents)
            return
        for document in documents:
            shelf = self._shelf(type(document))
            if shelf is None:
                super().store(document)
            else:
                shelf.store(cast("Any", document).id, document)

    def delete(self, document: object) -> None:
        """Queue the deletion of a document; there may be none.

        Raises:
            InvalidDocumentError: the document has no usable `id`.
            RegistrationError: its class can't be a document.
        """
        shelf = self._shelf(type(document))
        if shelf is None:
            super().delete(document)
        else:
            shelf.store(cast("Any", document).id, None)

    def delete_by_id(self, document_type: type, document_id: DocumentId, /) -> None:
        """Queue the deletion of the document with an id; there may be none.

        Raises:
            InvalidDocumentError: documents of the class have ids of another type.
            RegistrationError: the class can't be a document.
        """
        shelf = self._shelf(document_type)
        if shelf is None:
            super().delete_by_id(document_type, document_id)
        else:
            shelf.store(document_id, None)

    def expect_new(self, identities: Iterable[DocumentId]) -> None:
        """Take it that there are no documents with these ids yet: streams begin that they are made of.

        It saves reading them. Where there is one after all, the commit is refused.
        """
        if self._kept is not None:
            self._kept.expect_new(self._tenant, identities)

    def weigh(self, told: int) -> None:
        """Take note that a page was folded, whose events had so many bytes of JSON."""
        if self._kept is not None:
            self._kept.weigh(told, self._measure)

    def _measure(self, document: object) -> int:
        try:
            return len(self._engine.documents.codec.encode(document))
        except FlowstoreError:
            return 0  # it may be mended until it is written

    async def write_out(self) -> Written:
        """Write the documents that are kept as JSON, as they are now; they aren't changed after it.

        Raises:
            InvalidDocumentError: a document can't be stored.
            FlowstoreError: something else was queued.
        """
        if self._kept is None or self._queue:
            raise FlowstoreError(
                "more was queued than documents of the projection's own: it is applied page by page"
            )
        written, encode = self._kept.written, self._engine.documents.codec.encode
        number = 0
        for shelf in self._kept.shelves():
            part = written.part(shelf.tenant, shelf.kind)
            identities, documents = shelf.changed()
            part.identities.update(identities)
            texts = part.texts
            for key in identities:
                number += 1
                if number % _WRITTEN_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
                document = documents[key]
                texts[key] = None if document is None else encode(document)
        return written

    def take_over(self, written: Written) -> None:
        """Queue what was gathered, in an empty unit that is to be committed."""
        self._queue = written.queue_at_once()
        self.relied = written.relied

    def _shelf(self, document_type: type) -> Shelf | None:
        """Find where documents of a class are kept as objects; None if they aren't."""
        shelf = self._shelves.get(document_type)
        if shelf is None and self._kept is not None and document_type in self._kept.held.types:
            kind = self._engine.catalogue.describe(document_type)
            shelf = self._shelves[document_type] = self._kept.shelf(self._tenant, kind)
        return shelf

    async def _load(self, cls: type[_T], identities: list[DocumentId]) -> list[_T]:
        shelf = self._shelf(cls)
        if shelf is None:
            return await super()._load(cls, identities)
        keys = shelf.keys(identities)
        missing = shelf.missing(keys, identities)
        if missing:
            await self._fill(cast("OpenDocuments", self._kept), shelf, missing)
        return shelf.present(keys)

    async def _fill(
        self, kept: OpenDocuments, shelf: Shelf, missing: Mapping[PlainKey, DocumentId]
    ) -> None:
        """Read documents: of what was written before, else from the database."""
        known = kept.known(shelf, missing)
        texts = known.texts
        if known.missing:
            texts.update(await self._load_texts(shelf, known.missing, missing))
        decode = self._engine.documents.codec.decode
        document_type: type[Any] = shelf.kind.type
        for key in missing:
            text = texts.get(key)
            document = None if text is None else decode(document_type, text)
            shelf.put(key, document, text)

    async def _load_texts(
        self,
        shelf: Shelf,
        keys: Sequence[PlainKey],
        identities: Mapping[PlainKey, DocumentId],  # noqa: ARG002 - for a store that knows no keys
    ) -> Mapping[PlainKey, str]:
        """Read the JSON of those documents that there are."""
        kind, documents = shelf.kind, self._engine.documents
        await self._engine.tables.ensure([kind])
        statement, parameters = documents.load_texts(kind, self._tenant, keys)
        with translate_errors():
            async with self._lend() as connection:
                rows = await connection.fetch_raw(statement, parameters)
                encoding = connection.info.encoding
        return read_texts(kind, rows, encoding)

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
