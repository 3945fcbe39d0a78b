"""What all sessions of one store share."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from uuid import UUID

import attrs

from flowstore.codec import DocumentCodec, EventCodec
from flowstore.errors import InvalidEventError, InvalidTenantError
from flowstore.events import StreamId
from flowstore.postgres import Along
from flowstore.store._document_types import DocumentType, DocumentTypes
from flowstore.store._documents import DocumentSql
from flowstore.store._fields import stored_documents
from flowstore.store._flat_tables import FlatTables
from flowstore.store._handover import Handovers
from flowstore.store._ids import new_event_id, new_event_uuids
from flowstore.store._keeping import Keep, keep_nothing
from flowstore.store._names import check_event_text, stored_tenant
from flowstore.store._options import StoreOptions
from flowstore.store._sql import SchemaSql
from flowstore.store._statements import Lend
from flowstore.store._tables import DocumentTables

__all__ = ["Engine", "make_engine"]


class Appended(Protocol):
    """Is told of a commit that appended events."""

    def __call__(self, *, is_told: bool = False) -> None:
        """Wake who waits; other processes have been told, or are to be."""
        ...


def _nothing() -> None:
    """Give nothing."""


@attrs.frozen
class Engine:
    """Hold what all sessions of one store share.

    Attributes:
        options: what the store was told.
        sql: puts the schema's names into statements.
        codec: translates event data.
        documents: makes the statements for documents.
        catalogue: how each class of documents is kept.
        tables: creates the tables of documents.
        flat_tables: creates flat tables, and makes the statements for their rows.
        lend: lends a connection of the pool.
        appended: is called after each commit that appended events.
        along: gives what tells other processes of an append, to be sent with it; None: later.
        handovers: hand single events to daemons of the same store.
        new_id: draws an event's identity.
        keep: lends a connection for longer than a block.
    """

    options: StoreOptions
    sql: SchemaSql
    codec: EventCodec
    documents: DocumentSql
    catalogue: DocumentTypes
    tables: DocumentTables
    flat_tables: FlatTables
    lend: Lend
    appended: Appended
    handovers: Handovers
    new_id: Callable[[], UUID] = new_event_id
    keep: Keep = keep_nothing
    along: Callable[[], Along | None] = _nothing

    @property
    def has_text_ids(self) -> bool:
        """Whether streams are known by text."""
        return self.options.stream_identity == "string"

    def new_ids(self, count: int) -> list[UUID]:
        """Draw identities for so many events."""
        if self.new_id is new_event_id:
            return new_event_uuids(count)
        return [self.new_id() for _ in range(count)]

    def tenant(self, tenant_id: str | None) -> str:
        """Give the tenant column's value.

        Raises:
            InvalidTenantError: the store has a single tenant and another is named, or it can't be
                stored.
        """
        if tenant_id is not None and self.options.tenancy == "single":
            raise InvalidTenantError(
                f"tenant {tenant_id!r} in a store of a single tenant: open the store with"
                " StoreOptions(tenancy='conjoined')"
            )
        return stored_tenant(tenant_id)

    def checked_stream(self, stream_id: Any) -> StreamId:
        """Refuse what can't be a stream's identity in this store, or give it back.

        Raises:
            InvalidEventError: it is of another type than `stream_identity` says, or text that
                can't be one.
        """
        expected = str if self.has_text_ids else UUID
        if not isinstance(stream_id, expected):
            raise InvalidEventError(
                f"{stream_id!r} can't be a stream's identity here: it is a"
                f" {type(stream_id).__name__}, and this store's streams are known by"
                f" {expected.__name__}; see StoreOptions.stream_identity"
            )
        if isinstance(stream_id, str):
            if not stream_id.strip():
                raise InvalidEventError(f"{stream_id!r} can't be a stream's identity: it is blank")
            check_event_text(stream_id, "a stream's identity")
        return stream_id

    async def kept(self, cls: type[Any], version: int | None = None) -> DocumentType:
        """Tell how documents of a class are kept, their table being there.

        Args:
            cls: the class.
            version: of the projection that produces them; None takes the registered one's.
        """
        kind = self.kind_of(cls, version)
        await self.tables.ensure([kind])
        return kind

    def kind_of(self, cls: type[Any], version: int | None = None) -> DocumentType:
        """Tell how documents of a class are kept by a version of the projection that makes them."""
        if version is None:
            return self.catalogue.describe(cls)
        return self.options.documents.resolved({cls: version}).describe(cls)

    def with_versions(self, versions: Mapping[type[Any], int]) -> "Engine":
        """Make an engine that keeps documents where versions of the projections that make them do.

        Args:
            versions: by document type; all others stay where they are.
        """
        kinds = [self.kind_of(cls, version) for cls, version in versions.items()]
        moved = {kind.type: kind.table for kind in kinds if kind != self.kind_of(kind.type)}
        return attrs.evolve(self, catalogue=self.catalogue.moved(moved)) if moved else self


def make_engine(
    dsn: str,
    options: StoreOptions,
    lend: Lend,
    appended: Appended,
    new_id: Callable[[], UUID] = new_event_id,
) -> Engine:
    """Put together what sessions share, making known what the projections name.

    Raises:
        RegistrationError: a projection produces a class that can't be a document, an aggregate's
            `id` can't hold a stream's identity, or an index is of a field that isn't there.
    """
    options.projections.check_stream_identity(str if options.stream_identity == "string" else UUID)
    options.events.add_types(*options.projections.event_types())
    sql = SchemaSql(options.schema, options.stream_identity)
    codec = DocumentCodec(options.events.converter)
    documents = DocumentSql(sql, codec)
    event_codec = EventCodec(options.events)
    return Engine(
        options=options,
        sql=sql,
        codec=event_codec,
        documents=documents,
        catalogue=stored_documents(options),
        tables=DocumentTables(dsn, sql, options.auto_create),
        flat_tables=FlatTables(
            dsn,
            sql,
            options.auto_create,
            by_tenant=options.tenancy == "conjoined",
            to_json=documents.value,
        ),
        lend=lend,
        appended=appended,
        handovers=Handovers(event_codec),
        new_id=new_id,
    )
