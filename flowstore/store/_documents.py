"""Documents in their tables: the statements that write and read them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, LiteralString, cast

import attrs

from flowstore.codec import DocumentCodec
from flowstore.events import PlainKey
from flowstore.postgres import DirectStatement, RawRow
from flowstore.store import _arrays
from flowstore.store._document_types import DocumentId, DocumentType, IdColumn
from flowstore.store._held import ABSENT, Relied, Stamp
from flowstore.store._queue import (
    DeleteDocument,
    DocumentOperation,
    StoreDocument,
    WriteDocuments,
)
from flowstore.store._sql import SchemaSql
from flowstore.store._statements import Statement

__all__ = ["DocumentSql", "read_texts"]


def _for_each_id(template: LiteralString) -> dict[IdColumn, LiteralString]:
    """Write a statement for each type of id, because a type can't be a parameter."""
    return {
        "uuid": template.replace("<id>", "uuid").replace("<in order>", ""),
        "text": template.replace("<id>", "text").replace("<in order>", ' collate "C"'),
        "bigint": template.replace("<id>", "bigint").replace("<in order>", ""),
    }


# Every statement locks documents in the order of their ids, which is Python's order too, so that two
# sessions with the same ones can't block each other for ever.
_UPSERT: Final = _for_each_id("""
insert into {table} as d (tenant_id, id, data)
select %s::text, n.id, n.data::jsonb from unnest(%s::<id>[], %s::text[]) as n (id, data)
order by n.id<in order>
on conflict (tenant_id, id) do update
set data = excluded.data, version = d.version + 1, modified = excluded.modified""")
# The documents come out of a join with the progress, so that it is locked, and judged, before any of
# them is; the same as two statements in a transaction, in one round trip instead of two.
#
# A row is told by its stamp: the transaction that wrote it, and its place. Not by its version, which who
# mends a document by hand may leave as it is. One that is to be as it was, and isn't, refuses the
# statement: it is locked by then, and judged as it is now, also where somebody was waited for. The JSON
# comes back as it is kept, which a trigger may have changed.
_ADVANCE_AND_UPSERT: Final = _for_each_id("""
with moved as materialized (select {schema}.advance(%s, %s, %s, %s, %s))
insert into {table} as d (tenant_id, id, data)
select %s::text, n.id, n.data::jsonb
from moved cross join unnest(%s::<id>[], %s::text[]) as n (id, data)
order by n.id<in order>
on conflict (tenant_id, id) do update
set data = excluded.data, version = d.version + 1, modified = excluded.modified
where case
    when d.xmin::text || d.ctid::text = any (%s::text[]) or d.id = any (%s::<id>[]) then true
    else {schema}.refuse_moved(%s, array[d.id::text]) is null
end
returning d.id::text, d.data::text, case
    when d.version > 1 or d.id = any (%s::<id>[]) then d.xmin::text || d.ctid::text
    when {schema}.refuse_moved(%s, array[d.id::text]) is null then null
end""")
# Before anything is written to the table: those that will be written are locked as well, so that all of
# them are in one order.
_CHECK_UNMOVED: Final = _for_each_id("""
with asked as materialized (
    select n.id, n.stamp from unnest(%s::<id>[], %s::text[]) as n (id, stamp)
),
held as materialized (
    select d.id, d.xmin::text || d.ctid::text as stamp
    from asked a join {table} d on d.tenant_id = %s and d.id = a.id
    order by d.id<in order>
    for update of d
)
select {schema}.refuse_moved(%s, array(
    select a.id::text from asked a left join held h on h.id = a.id
    where a.stamp is not null and a.stamp <> coalesce(h.stamp, '')
))""")
_UPSERT_UNMOVED: Final = _for_each_id("""
with asked as (
    select n.id, n.data, n.expected
    from unnest(%s::<id>[], %s::text[], %s::bigint[]) as n (id, data, expected)
    order by n.id<in order>
),
held as materialized (
    select d.id from {table} d
    where d.tenant_id = %s and d.id in (select id from asked)
    order by d.id<in order>
    for update
),
updated as (
    update {table} d
    set data = a.data::jsonb, version = d.version + 1, modified = clock_timestamp()
    from asked a join held h on h.id = a.id
    where d.tenant_id = %s and d.id = a.id and d.version = a.expected
    returning d.id
),
inserted as (
    insert into {table} (tenant_id, id, data)
    select %s, a.id, a.data::jsonb from asked a where a.expected = 0
    on conflict (tenant_id, id) do nothing
    returning id
)
select {schema}.refuse_moved(%s, array(
    select a.id::text from asked a
    where a.id not in (select id from updated) and a.id not in (select id from inserted)
))""")
_DELETE: Final = _for_each_id("""
with held as materialized (
    select d.id from {table} d
    where d.tenant_id = %s and d.id = any (%s::<id>[])
    order by d.id<in order>
    for update
)
delete from {table} d using held h where d.tenant_id = %s and d.id = h.id""")
_LOAD: Final = _for_each_id("""
select id, data::text, version from {table}
where tenant_id = %s and id = any (%s::<id>[])""")
_LOAD_TEXTS: Final = _for_each_id("""
select id, data::text from {table}
where tenant_id = %s::text and id = any (%s::<id>[])""")
# More than so many are looked up by a plan of their own, which takes the server a twentieth of the time
# that the looking up does. A plan that was made while the table was empty, and known to be, reads all of
# it, however large it has grown, until the table is analyzed again: for each page of a catch-up.
_FEW: Final = 20
# Two-key advisory locks, in order. A thousand of them in each table, because they take up the server's
# lock table for the length of the transaction; two documents that share one only wait for each other.
_HOLD: Final = """
select count(pg_advisory_xact_lock(hashtext(%s), k.key))
from (
    select distinct hashtext(n.id) & 1023 as key from unnest(%s::text[]) as n (id) order by key
) as k"""


@attrs.frozen
class DocumentSql:
    """Make the statements that write and read documents.

    Attributes:
        sql: puts in the schema's names.
        codec: writes documents as JSON.
    """

    sql: SchemaSql
    codec: DocumentCodec

    def write(self, batch: Sequence[DocumentOperation]) -> Statement:
        """Write or delete documents of one table and one tenant."""
        first = batch[0]
        if isinstance(first, DeleteDocument):
            ids = _ids(first.kind, batch)
            return self._on(first.kind, _DELETE, first.tenant, ids, first.tenant)
        stores = [operation for operation in batch if isinstance(operation, StoreDocument)]
        ids = _ids(first.kind, batch)
        texts = _arrays.texts([self.text_of(operation) for operation in stores])
        if first.expected is None:
            return self._on(first.kind, _UPSERT, first.tenant, ids, texts)
        expected = _arrays.numbers(operation.expected for operation in stores)
        return self._on(
            first.kind,
            _UPSERT_UNMOVED,
            *(ids, texts, expected, *[first.tenant] * 3, first.kind.table),
        )

    def write_many(self, many: WriteDocuments) -> Statement:
        """Write documents that are JSON already."""
        ids, texts = _key_array(many.kind, many.keys), _arrays.texts(many.texts)
        return self._on(many.kind, _UPSERT, many.tenant, ids, texts)

    def advance_and_write(
        self,
        progress: Sequence[str | None],
        batch: Sequence[StoreDocument],
        relied: Mapping[DocumentId, Stamp],
    ) -> tuple[DirectStatement, Sequence[str | None]]:
        """Move a shard, and write what it made, as one statement; better few documents than many.

        Its rows tell identity, JSON and stamp of each document, as it is kept now; all of it is text.

        Args:
            progress: what the function `advance` takes, as text.
            batch: documents of one table and one tenant, at least one.
            relied: the stamps of those of them that have to be as they were, or `ABSENT`.
        """
        first = batch[0]
        kind, table = first.kind, first.kind.table
        texts = _arrays.texts([self.text_of(operation) for operation in batch])
        free = [each.identity for each in batch if each.identity not in relied]
        absent = [identity for identity, stamp in relied.items() if stamp == ABSENT]
        stamps = _arrays.texts([cast("str", each) for each in relied.values() if each != ABSENT])
        statement = self.sql.direct(_ADVANCE_AND_UPSERT[kind.id_column], table)
        return statement, (
            *(*progress, first.tenant, _ids(kind, batch), texts),
            *(stamps, _id_array(kind, free), table, _id_array(kind, free + absent), table),
        )

    def check_unmoved(
        self, batch: Sequence[DocumentOperation], relied: Sequence[Relied]
    ) -> Statement:
        """Lock documents, and refuse the transaction if those relied on aren't as they were.

        Args:
            batch: what will be written, or deleted, of one table and one tenant.
            relied: of the same table and tenant, at least one; of the batch, or others.
        """
        kind, tenant = relied[0].kind, relied[0].tenant
        asked = _asked(batch, relied)
        ids, stamps = _id_array(kind, list(asked)), _arrays.texts(list(asked.values()))
        return self._on(kind, _CHECK_UNMOVED, ids, stamps, tenant, kind.table)

    def load(self, kind: DocumentType, tenant: str, identities: Sequence[DocumentId]) -> Statement:
        """Select id, JSON and version of the documents that there are."""
        found = self._on(kind, _LOAD, tenant, _id_array(kind, identities))
        return found if len(identities) <= _FEW else attrs.evolve(found, prepare=False)

    def load_texts(
        self, kind: DocumentType, tenant: str, keys: Sequence[PlainKey]
    ) -> tuple[DirectStatement, tuple[str, str]]:
        """Select id and JSON of the documents that there are, to be read by `read_texts`."""
        found = self.sql.direct(_LOAD_TEXTS[kind.id_column], kind.table)
        if len(keys) > _FEW:
            found = attrs.evolve(found, prepare=False)
        return found, (tenant, _key_array(kind, keys))

    def hold(self, kind: DocumentType, tenant: str, identities: Sequence[DocumentId]) -> Statement:
        """Keep documents, also ones that don't exist, from others who hold them, to the commit.

        Read them in a later statement: only that sees what the last holder has committed.
        """
        space = f"flowstore {self.sql.schema}.{kind.table} {tenant}"
        query = self.sql.statement(_HOLD)
        return Statement(query, (space, _arrays.texts([str(identity) for identity in identities])))

    def text_of(self, operation: StoreDocument) -> str:
        """Write an operation's document as JSON, unless it is written already."""
        text = operation.text
        return self.codec.encode(operation.document) if text is None else text

    def value(self, value: Any) -> str:
        """Write a value as it would stand in a document."""
        return self.codec.encode(value)

    def _on(
        self, kind: DocumentType, templates: dict[IdColumn, LiteralString], *parameters: Any
    ) -> Statement:
        return Statement(self.sql.statement(templates[kind.id_column], kind.table), parameters)


def read_texts(kind: DocumentType, rows: Iterable[RawRow], encoding: str) -> dict[PlainKey, str]:
    """Give documents' JSON by their keys.

    Args:
        kind: how the documents are kept.
        rows: identity and JSON in binary, as the server sent them.
        encoding: the connection's.
    """
    pairs = cast("Iterable[tuple[bytes, bytes]]", rows)
    if kind.id_column == "text":
        return {key.decode(encoding): text.decode(encoding) for key, text in pairs}
    read, signed = int.from_bytes, kind.id_column == "bigint"
    return {read(key, "big", signed=signed): text.decode(encoding) for key, text in pairs}


def _asked(
    batch: Iterable[DocumentOperation], relied: Iterable[Relied]
) -> dict[DocumentId, str | None]:
    """List documents with the stamps that they have to have, what is written first."""
    asked: dict[DocumentId, str | None] = {each.identity: None for each in batch}
    asked.update((each.identity, cast("str", each.stamp)) for each in relied)
    return asked


def _ids(kind: DocumentType, batch: Sequence[DocumentOperation]) -> str:
    return _id_array(kind, [operation.identity for operation in batch])


def _key_array(kind: DocumentType, keys: Sequence[PlainKey]) -> str:
    if kind.id_column == "uuid":
        return _arrays.uuid_numbers(cast("Sequence[int]", keys))
    return _id_array(kind, keys)


def _id_array(kind: DocumentType, identities: Sequence[Any]) -> str:
    if kind.id_column == "uuid":
        return _arrays.uuids(identities)
    if kind.id_column == "bigint":
        return _arrays.numbers(identities)
    return _arrays.texts(identities)
