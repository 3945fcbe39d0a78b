"""Tables of documents: created when they are first needed."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, LiteralString

import attrs
from psycopg import sql as composing

from flowstore.errors import SchemaError
from flowstore.postgres import Connection, translate_errors
from flowstore.store._document_types import DocumentType, IdColumn
from flowstore.store._names import LONGEST_NAME
from flowstore.store._schema import AutoCreate, lock_schema
from flowstore.store._sql import SchemaSql

__all__ = ["DocumentTables"]

_TABLE: Final[dict[IdColumn, LiteralString]] = {
    "uuid": """
create table if not exists {table} (
    tenant_id text collate "C" not null, id uuid not null, data jsonb not null,
    version bigint not null default 1, modified timestamptz not null default clock_timestamp(),
    primary key (tenant_id, id)
)""",
    "text": """
create table if not exists {table} (
    tenant_id text collate "C" not null, id text collate "C" not null, data jsonb not null,
    version bigint not null default 1, modified timestamptz not null default clock_timestamp(),
    primary key (tenant_id, id)
)""",
    "bigint": """
create table if not exists {table} (
    tenant_id text collate "C" not null, id bigint not null, data jsonb not null,
    version bigint not null default 1, modified timestamptz not null default clock_timestamp(),
    primary key (tenant_id, id)
)""",
}
_INDEX: Final = "create index if not exists {index} on {table} (tenant_id, (data -> {field}))"
_FOUND: Final = """
select c.relname::text, format_type(a.atttypid, null)
from pg_catalog.pg_class c
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = 'id'
where c.relnamespace = to_regnamespace({schema_name}) and c.relname = any (%s::text[])"""


_FOUND_INDEXES: Final = """
select c.relname::text from pg_catalog.pg_class c
where c.relnamespace = to_regnamespace({schema_name}) and c.relkind = 'i'
    and c.relname = any (%s::text[])"""


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
            async with await Connection.connect(self.dsn) as connection:
                await self._see_to(connection, unseen)
        self._ready.update(unseen)

    async def _see_to(self, connection: Connection, kinds: Sequence[DocumentType]) -> None:
        missing = _check_found(kinds, await self._found(connection, kinds))
        if missing and self.auto_create == "none":
            tables = ", ".join(repr(kind.table) for kind in missing)
            raise SchemaError(
                f"schema {self.sql.schema!r} lacks the document tables {tables}, and"
                " auto_create='none' creates nothing: create them first"
            )
        changes = [self.sql.script(_TABLE[kind.id_column], kind.table) for kind in missing]
        may_index = missing if self.auto_create in ("none", "create_only") else kinds
        changes += await self._missing_indexes(connection, may_index)
        if changes:
            async with connection.transaction():
                await lock_schema(connection, self.sql)
                for script in changes:
                    await connection.execute(script)

    async def _found(self, connection: Connection, kinds: Sequence[DocumentType]) -> dict[str, str]:
        names = [kind.table for kind in kinds]
        cursor = await connection.execute(self.sql.statement(_FOUND), (names,))
        return dict(await cursor.fetchall())

    async def _missing_indexes(
        self, connection: Connection, kinds: Sequence[DocumentType]
    ) -> list[bytes]:
        scripts = {
            _index_name(kind.table, field): self._index(kind, field)
            for kind in kinds
            for field in kind.indexes
        }
        if not scripts:
            return []
        # Asked for first: `create index if not exists` would lock the table against writers.
        names = list(scripts)
        cursor = await connection.execute(self.sql.statement(_FOUND_INDEXES), (names,))
        found = {name for (name,) in await cursor.fetchall()}
        return [script for name, script in scripts.items() if name not in found]

    def _index(self, kind: DocumentType, field: str) -> bytes:
        statement = composing.SQL(_INDEX).format(
            index=composing.Identifier(_index_name(kind.table, field)),
            table=composing.Identifier(self.sql.schema, kind.table),
            field=composing.Literal(field),
        )
        return statement.as_bytes()


def _check_found(kinds: Sequence[DocumentType], found: dict[str, str]) -> list[DocumentType]:
    """Tell which tables are missing."""
    for kind in kinds:
        column = found.get(kind.table, kind.id_column)
        if column != kind.id_column:
            raise SchemaError(
                f"table {kind.table!r} keeps its ids as {column}, and {kind.type.__qualname__} has"
                f" them as {kind.id_column}: register the type with another name="
            )
    return [kind for kind in kinds if kind.table not in found]


def _index_name(table: str, field: str) -> str:
    """Name an index; PostgreSQL would cut a long name off, and two could become one."""
    name = f"{table}_{field}_idx"
    if len(name.encode()) <= LONGEST_NAME:
        return name
    return "idx_" + hashlib.sha256(name.encode()).hexdigest()[:40]
