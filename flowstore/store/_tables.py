"""Tables of documents: created when they are first needed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, LiteralString

import attrs
from psycopg import sql as composing

from flowstore.errors import SchemaError
from flowstore.postgres import Connection, translate_errors, watched_connection
from flowstore.store._document_types import DocumentType, IdColumn
from flowstore.store._indexes import index_name, index_script
from flowstore.store._names import derived_name
from flowstore.store._schema import AutoCreate, lock_schema
from flowstore.store._schema_privileges import explained
from flowstore.store._sql import SchemaSql

__all__ = [
    "DocumentTables",
    "index_scripts",
    "key_name",
    "missing_tables",
    "read_id_columns",
    "read_indexes",
    "table_script",
]

_TABLE: Final[dict[IdColumn, LiteralString]] = {
    "uuid": """
create table if not exists {table} (
    tenant_id text collate "C" not null, id uuid not null, data jsonb not null,
    version bigint not null default 1, modified timestamptz not null default clock_timestamp(),
    constraint {key} primary key (tenant_id, id)
)""",
    "text": """
create table if not exists {table} (
    tenant_id text collate "C" not null, id text collate "C" not null, data jsonb not null,
    version bigint not null default 1, modified timestamptz not null default clock_timestamp(),
    constraint {key} primary key (tenant_id, id)
)""",
    "bigint": """
create table if not exists {table} (
    tenant_id text collate "C" not null, id bigint not null, data jsonb not null,
    version bigint not null default 1, modified timestamptz not null default clock_timestamp(),
    constraint {key} primary key (tenant_id, id)
)""",
}
_FOUND: Final = """
select c.relname::text, coalesce(
    (
        select format_type(a.atttypid, null) from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.attname = 'id'
            and exists (
                select from pg_catalog.pg_attribute d
                where d.attrelid = c.oid and d.attname = 'data' and d.atttypid = 'jsonb'::regtype
            )
    ),
    ''
)
from pg_catalog.pg_class c
where c.relnamespace = to_regnamespace({schema_name}) and c.relname = any (%s::text[])"""
_FOUND_INDEXES: Final = """
select c.relname::text from pg_catalog.pg_class c
where c.relnamespace = to_regnamespace({schema_name}) and c.relkind = 'i'
    and c.relname = any (%s::text[])"""


# -- what there is, and what creates the rest ------------------------------------------------------


async def read_id_columns(
    connection: Connection, sql: SchemaSql, kinds: Iterable[DocumentType]
) -> dict[str, str]:
    """Give the type of the id column by table; empty for what is no table of documents."""
    names = [kind.table for kind in kinds]
    cursor = await connection.execute(sql.statement(_FOUND), (names,))
    return dict(await cursor.fetchall())


async def read_indexes(
    connection: Connection, sql: SchemaSql, kinds: Iterable[DocumentType]
) -> set[str]:
    """Tell which of the indexes there are."""
    # Asked for first: `create index if not exists` would lock the table against writers.
    names = [name for kind in kinds for name in index_scripts(sql, kind)]
    cursor = await connection.execute(sql.statement(_FOUND_INDEXES), (names,))
    return {name for (name,) in await cursor.fetchall()}


def missing_tables(kinds: Iterable[DocumentType], found: Mapping[str, str]) -> list[DocumentType]:
    """Tell which tables are missing.

    Raises:
        SchemaError: a table keeps other identities, or is no table of documents.
    """
    missing: list[DocumentType] = []
    for kind in kinds:
        column = found.get(kind.table)
        if column is None:
            missing.append(kind)
        elif column != kind.id_column:
            keeps = f"keeps its ids as {column}" if column else "is no table of documents"
            raise SchemaError(
                f"table {kind.table!r} {keeps}, and {kind.type.__qualname__} has"
                f" them as {kind.id_column}: register the type with another name="
            )
    return missing


def table_script(sql: SchemaSql, kind: DocumentType) -> bytes:
    """Give what creates a table."""
    statement = composing.SQL(_TABLE[kind.id_column]).format(
        table=composing.Identifier(sql.schema, kind.table),
        key=composing.Identifier(key_name(kind.table)),
    )
    return statement.as_bytes()


def index_scripts(sql: SchemaSql, kind: DocumentType) -> dict[str, bytes]:
    """Give what creates each index, by the index' name."""
    return {
        index_name(kind.table, index): index_script(sql.schema, kind.table, index)
        for index in kind.indexes
    }


def key_name(table: str) -> str:
    """Name a table's primary key."""
    return derived_name(table, "pkey")


@attrs.define
class DocumentTables:
    """Create the tables that documents need, each once.

    It works on a connection of its own: a pool's connections may all be waiting here.

    Attributes:
        dsn: where the database is.
        sql: puts in the schema's names.
        auto_create: whether tables may be created; "none" only looks whether they are there.
    """

    dsn: str = attrs.field(repr=False)
    sql: SchemaSql
    auto_create: AutoCreate
    _ready: set[DocumentType] = attrs.field(factory=set[DocumentType], init=False, repr=False)

    async def ensure(self, kinds: Iterable[DocumentType]) -> None:
        """See to it that the tables exist; asks nothing for those it has seen.

        Raises:
            SchemaError: a table is missing and may not be created, or its id is of another type.
            DatabaseError: PostgreSQL refused to create it.
        """
        unseen = [kind for kind in dict.fromkeys(kinds) if kind not in self._ready]
        if not unseen:
            return
        with translate_errors():
            async with explained(self.dsn, self.sql), watched_connection(self.dsn) as found:
                await self._see_to(found, unseen)
        self._ready.update(unseen)

    async def _see_to(self, connection: Connection, kinds: Sequence[DocumentType]) -> None:
        missing = missing_tables(kinds, await read_id_columns(connection, self.sql, kinds))
        if missing and self.auto_create == "none":
            tables = ", ".join(repr(kind.table) for kind in missing)
            raise SchemaError(
                f"schema {self.sql.schema!r} lacks the document tables {tables}, and"
                " auto_create='none' creates nothing: create them first, see `flowstore db apply`"
            )
        changes = [table_script(self.sql, kind) for kind in missing]
        may_index = missing if self.auto_create in ("none", "create_only") else kinds
        if any(kind.indexes for kind in may_index):
            there = await read_indexes(connection, self.sql, may_index)
            changes += _missing_indexes(self.sql, may_index, there)
        if changes:
            async with connection.transaction():
                await lock_schema(connection, self.sql)
                for script in changes:
                    await connection.execute(script)


def _missing_indexes(
    sql: SchemaSql, kinds: Iterable[DocumentType], there: Collection[str]
) -> list[bytes]:
    scripts = [pair for kind in kinds for pair in index_scripts(sql, kind).items()]
    return [script for name, script in scripts if name not in there]
