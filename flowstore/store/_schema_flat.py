"""What flat tables are to be: their names and columns, and the statements that create them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, LiteralString, TypeAlias, cast

import attrs
from psycopg import sql as composing

from flowstore.errors import RegistrationError, SchemaError
from flowstore.postgres import Connection
from flowstore.projections import Column, Table
from flowstore.store._names import derived_name
from flowstore.store._sql import SchemaSql

__all__ = ["FLAT_MARK", "FlatChange", "FlatSchema", "composed", "listed", "type_of"]

Existing: TypeAlias = Mapping[str, str]
"""The types of a table's columns by name."""

FLAT_MARK: Final = "a flat table of flowstore"
"""The comment that tells our tables from others of the schema, which are nobody's to write."""

_TENANT: Final = Column("tenant_id", 'text collate "C"')
_FOUND: Final = """
select c.relname::text, obj_description(c.oid, 'pg_class'), a.attname::text,
    format_type(a.atttypid, a.atttypmod)
from pg_catalog.pg_class c
left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = to_regnamespace({schema_name}) and c.relname = any (%s::text[])"""
_CREATE: Final = """\
create table if not exists {table} ({columns}, constraint {key} primary key ({keys}))"""
_COMMENT: Final = "comment on table {table} is {mark}"
_ADD_COLUMN: Final = "alter table {table} add column if not exists {column}"


@attrs.frozen
class FlatChange:
    """Hold one statement that brings a flat table up.

    Attributes:
        what: what is lacking without it.
        script: the statement.
        makes_table: whether it belongs to making the table, not to changing one.
    """

    what: str
    script: bytes = attrs.field(repr=False)
    makes_table: bool


@attrs.frozen
class FlatSchema:
    """Decide what a store's flat tables lack.

    Attributes:
        sql: puts in the schema's names.
        by_tenant: whether tenants share tables, which then have a column for them.
    """

    sql: SchemaSql
    by_tenant: bool = attrs.field(kw_only=True)

    def check(self, table: Table) -> None:
        """Refuse a table that this store can't keep.

        Raises:
            RegistrationError: the message says why.
        """
        named = {table.key.name, *(column.name for column in table.columns)}
        if self.by_tenant and _TENANT.name in named:
            raise RegistrationError(
                f"flat table {table.name!r} has a column {_TENANT.name!r}, which it is given anyway"
                " where tenants share tables: leave it out"
            )
        kind = table.key.type
        takes_uuid = kind in {"uuid", "text"} or kind.startswith("character varying")
        if table.keyed_by_stream and self.sql.stream_identity == "uuid" and not takes_uuid:
            raise RegistrationError(
                f"flat table {table.name!r} has a key of type {kind}, and is keyed by streams,"
                " which this store knows by UUIDs: say key_type=UUID, or key_from="
            )

    def keys(self, table: Table) -> tuple[Column, ...]:
        """List the columns of a table's primary key."""
        return (_TENANT, table.key) if self.by_tenant else (table.key,)

    async def read(self, connection: Connection, names: Sequence[str]) -> Mapping[str, Existing]:
        """Tell which of the tables there are.

        Raises:
            SchemaError: a name belongs to something else.
        """
        cursor = await connection.execute(self.sql.statement(_FOUND), (list(names),))
        found: dict[str, dict[str, str]] = {}
        for table, comment, column, kind in await cursor.fetchall():
            if comment != FLAT_MARK:
                raise SchemaError(
                    f"schema {self.sql.schema!r} has a {table!r} that is no flat table: choose"
                    " another name for the flat table"
                )
            found.setdefault(table, {})[column] = kind
        return found

    def missing(self, table: Table, found: Existing | None) -> Iterator[FlatChange]:
        """Yield what creates a table, or adds to it what it lacks.

        Args:
            table: how it is to be.
            found: its columns, None if it isn't there.

        Raises:
            SchemaError: a column is of another type.
        """
        what = f"flat table {table.name!r}"
        name = {"table": composing.Identifier(self.sql.schema, table.name)}
        if found is None:
            keys = self.keys(table)
            columns = [_defined(column, " not null") for column in keys]
            columns += [_defined(column) for column in table.columns]
            keyed = listed([composing.Identifier(column.name) for column in keys])
            key = composing.Identifier(derived_name(table.name, "pkey"))
            create = composed(_CREATE, name, columns=listed(columns), keys=keyed, key=key)
            yield FlatChange(what, create, makes_table=True)
            comment = composed(_COMMENT, name, mark=composing.Literal(FLAT_MARK))
            yield FlatChange(f"the comment of {what}", comment, makes_table=True)
            return
        for column in self._lacking(table, found):
            script = composed(_ADD_COLUMN, name, column=_defined(column))
            yield FlatChange(f"{what}'s column {column.name!r}", script, makes_table=False)

    def _lacking(self, table: Table, found: Existing) -> list[Column]:
        for column in (*self.keys(table), *table.columns):
            kind = found.get(column.name)
            expected = "text" if column is _TENANT else column.type
            if kind is None and column in table.columns:
                continue
            if kind != expected:
                raise SchemaError(
                    f"flat table {table.name!r} has its column {column.name!r} as {kind}, and is"
                    f" described with {expected}: give the projection another version=, or drop"
                    " the table and rebuild"
                )
        return [column for column in table.columns if column.name not in found]


def type_of(column: Column) -> composing.Composable:
    """Give a column's type as SQL."""
    # Safe as it stands: a column's type is one of a list, see `sql_type`.
    return composing.SQL(cast("LiteralString", column.type))


def listed(parts: Iterable[composing.Composable]) -> composing.Composable:
    """Put commas between parts."""
    return composing.SQL(", ").join(parts)


def composed(
    template: LiteralString,
    name: Mapping[str, composing.Composable],
    **parts: composing.Composable,
) -> bytes:
    """Put a table's name and other parts into a template."""
    return composing.SQL(template).format(**name, **parts).as_bytes()


def _defined(column: Column, ending: LiteralString = "") -> composing.Composable:
    default = composing.SQL(" default 0" if column.counts else "")
    parts = [composing.Identifier(column.name), composing.SQL(" "), type_of(column), default]
    return composing.Composed([*parts, composing.SQL(ending)])
