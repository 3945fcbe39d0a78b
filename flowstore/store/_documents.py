"""Documents in their tables: the statements that write and read them."""

from collections.abc import Sequence
from typing import Any, Final, LiteralString

import attrs

from flowstore.codec import DocumentCodec
from flowstore.store import _arrays
from flowstore.store._document_types import DocumentId, DocumentType, IdColumn
from flowstore.store._queue import DeleteDocument, DocumentOperation, StoreDocument
from flowstore.store._sql import SchemaSql
from flowstore.store._statements import Statement

__all__ = ["DocumentSql"]

# Literals for each type of id, because a type can't be a parameter. Documents are locked in the
# order of their ids, so that two sessions with the same ones can't block each other for ever.
_UPSERT: Final[dict[IdColumn, LiteralString]] = {
    "uuid": """
insert into {table} as d (tenant_id, id, data)
select %s::text, n.id, n.data::jsonb from unnest(%s::uuid[], %s::text[]) as n (id, data)
order by n.id
on conflict (tenant_id, id) do update
set data = excluded.data, version = d.version + 1, modified = excluded.modified""",
    "text": """
insert into {table} as d (tenant_id, id, data)
select %s::text, n.id, n.data::jsonb from unnest(%s::text[], %s::text[]) as n (id, data)
order by n.id collate "C"
on conflict (tenant_id, id) do update
set data = excluded.data, version = d.version + 1, modified = excluded.modified""",
    "bigint": """
insert into {table} as d (tenant_id, id, data)
select %s::text, n.id, n.data::jsonb from unnest(%s::bigint[], %s::text[]) as n (id, data)
order by n.id
on conflict (tenant_id, id) do update
set data = excluded.data, version = d.version + 1, modified = excluded.modified""",
}
_UPSERT_UNMOVED: Final[dict[IdColumn, LiteralString]] = {
    "uuid": """
with asked as (
    select n.id, n.data, n.expected
    from unnest(%s::uuid[], %s::text[], %s::bigint[]) as n (id, data, expected)
    order by n.id
),
updated as (
    update {table} d
    set data = a.data::jsonb, version = d.version + 1, modified = clock_timestamp()
    from asked a
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
))""",
    "text": """
with asked as (
    select n.id, n.data, n.expected
    from unnest(%s::text[], %s::text[], %s::bigint[]) as n (id, data, expected)
    order by n.id
),
updated as (
    update {table} d
    set data = a.data::jsonb, version = d.version + 1, modified = clock_timestamp()
    from asked a
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
))""",
    "bigint": """
with asked as (
    select n.id, n.data, n.expected
    from unnest(%s::bigint[], %s::text[], %s::bigint[]) as n (id, data, expected)
    order by n.id
),
updated as (
    update {table} d
    set data = a.data::jsonb, version = d.version + 1, modified = clock_timestamp()
    from asked a
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
))""",
}
_DELETE: Final[dict[IdColumn, LiteralString]] = {
    "uuid": "delete from {table} where tenant_id = %s and id = any (%s::uuid[])",
    "text": "delete from {table} where tenant_id = %s and id = any (%s::text[])",
    "bigint": "delete from {table} where tenant_id = %s and id = any (%s::bigint[])",
}
_LOAD: Final[dict[IdColumn, LiteralString]] = {
    "uuid": """
select id, data::text, version from {table}
where tenant_id = %s and id = any (%s::uuid[])""",
    "text": """
select id, data::text, version from {table}
where tenant_id = %s and id = any (%s::text[])""",
    "bigint": """
select id, data::text, version from {table}
where tenant_id = %s and id = any (%s::bigint[])""",
}


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
            return self._on(first.kind, _DELETE, first.tenant, _ids(first.kind, batch))
        stores = [operation for operation in batch if isinstance(operation, StoreDocument)]
        ids = _ids(first.kind, batch)
        texts = _arrays.texts([self.codec.encode(operation.document) for operation in stores])
        if first.expected is None:
            return self._on(first.kind, _UPSERT, first.tenant, ids, texts)
        expected = _arrays.numbers(operation.expected for operation in stores)
        return self._on(
            first.kind,
            _UPSERT_UNMOVED,
            *(ids, texts, expected, first.tenant, first.tenant, first.kind.table),
        )

    def load(self, kind: DocumentType, tenant: str, identities: Sequence[DocumentId]) -> Statement:
        """Select id, JSON and version of the documents that there are."""
        return self._on(kind, _LOAD, tenant, _id_array(kind, identities))

    def value(self, value: Any) -> str:
        """Write a value as it would stand in a document."""
        return self.codec.encode(value)

    def _on(
        self, kind: DocumentType, templates: dict[IdColumn, LiteralString], *parameters: Any
    ) -> Statement:
        return Statement(self.sql.statement(templates[kind.id_column], kind.table), parameters)


def _ids(kind: DocumentType, batch: Sequence[DocumentOperation]) -> str:
    return _id_array(kind, [operation.identity for operation in batch])


def _id_array(kind: DocumentType, identities: Sequence[Any]) -> str:
    if kind.id_column == "uuid":
        return _arrays.uuids(identities)
    if kind.id_column == "bigint":
        return _arrays.numbers(identities)
    return _arrays.texts(identities)
