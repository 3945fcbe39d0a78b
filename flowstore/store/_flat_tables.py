"""Flat tables: created when they are needed, and the statements that change their rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, LiteralString, TypeAlias, cast

import attrs
from psycopg import sql as composing

from flowstore.errors import RegistrationError, SchemaError
from flowstore.postgres import Connection, translate_errors
from flowstore.projections import Column, DeleteRow, RowChange, Table, WriteRow
from flowstore.store._queue import ChangeRow
from flowstore.store._row_batches import plain, shape_of
from flowstore.store._schema import AutoCreate, lock_schema
from flowstore.store._sql import SchemaSql, for_parameters
from flowstore.store._statements import Statement

__all__ = ["FlatTables"]

_Existing: TypeAlias = Mapping[str, str]
"""The types of a table's columns by name."""

_MARK: Final = "a flat table of flowstore"
"""The comment that tells our tables from others of the schema, which are nobody's to write."""
_TENANT: Final = Column("tenant_id", 'text collate "C"')
_FOUND: Final = """
select c.relname::text, obj_description(c.oid, 'pg_class'), a.attname::text,
    format_type(a.atttypid, a.atttypmod)
from pg_catalog.pg_class c
left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = to_regnamespace({schema_name}) and c.relname = any (%s::text[])"""
_CREATE: Final = "create table if not exists {table} ({columns}, primary key ({keys}))"
_COMMENT: Final = "comment on table {table} is {mark}"
_ADD_COLUMN: Final = "alter table {table} add column if not exists {column}"
_INSERT: Final = """
insert into {table} as t ({columns}) values {values} on conflict ({keys}) do {resolution}"""
_UPDATE: Final = "update {table} as t set {changes} where {found}"
_DELETE: Final = "delete from {table} where {found}"
_UPDATE_MANY: Final = """
update {table} as t set {changes} from (values {rows}) as n ({names}) where {found}"""
_DELETE_MANY: Final = "delete from {table} as t using (values {rows}) as n ({names}) where {found}"


@attrs.define
class FlatTables:
    """Create flat tables, each once, and make the statements that change their rows.

    It creates them on a connection of its own: a pool's connections may all be waiting here.

    Attributes:
        dsn: where the database is.
        sql: puts in the schema's names.
        auto_create: what may be created; "create_only" adds no columns, "none" nothing.
        by_tenant: whether tenants share tables, which then have a column for them.
        to_json: writes a value for a column of JSON.
    """

    dsn: str = attrs.field(repr=False)
    sql: SchemaSql
    auto_create: AutoCreate
    by_tenant: bool
    to_json: Callable[[Any], str] = attrs.field(repr=False)
    _ready: set[Table] = attrs.field(factory=set[Table], init=False, repr=False)
    _statements: dict[Any, bytes] = attrs.field(factory=dict[Any, bytes], init=False, repr=False)

    # -- tables ----------------------------------------------------------------------------------

    async def ensure(self, tables: Iterable[Table]) -> None:
        """See to it that tables are there; asks nothing for those it has seen.

        Raises:
            RegistrationError: this store can't keep a table as it is described.
            SchemaError: a table or column is missing and may not be created, is of another type,
                or the name belongs to something else.
            DatabaseError: PostgreSQL refused to create it.
        """
        unseen = [table for table in dict.fromkeys(tables) if table not in self._ready]
        if not unseen:
            return
        for table in unseen:
            self.check(table)
        with translate_errors():
            async with await Connection.connect(self.dsn) as connection:
                await self._see_to(connection, unseen)
        self._ready.update(unseen)

    def check(self, table: Table) -> None:
        """Refuse a table that this store can't keep as it is described.

        Raises:
            RegistrationError: a column has the tenant's name, or the key's type can't hold a
                stream's identity.
        """
        if self.by_tenant and _TENANT.name in {table.key.name, *_names(table.columns)}:
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

    async def _see_to(self, connection: Connection, tables: Sequence[Table]) -> None:
        found = await self._found(connection, [table.name for table in tables])
        scripts = [
            script for table in tables for script in self._missing(table, found.get(table.name))
        ]
        if scripts:
            async with connection.transaction():
                await lock_schema(connection, self.sql)
                for script in scripts:
                    await connection.execute(script)

    async def _found(self, connection: Connection, names: Sequence[str]) -> Mapping[str, _Existing]:
        cursor = await connection.execute(self.sql.statement(_FOUND), (list(names),))
        found: dict[str, dict[str, str]] = {}
        for table, comment, column, kind in await cursor.fetchall():
            if comment != _MARK:
                raise SchemaError(
                    f"schema {self.sql.schema!r} has a {table!r} that is no flat table: choose"
                    " another name for the flat table"
                )
            found.setdefault(table, {})[column] = kind
        return found

    def _missing(self, table: Table, found: _Existing | None) -> Iterator[bytes]:
        """Yield what creates a table, or adds to it what it lacks."""
        name = {"table": self._name(table)}
        if found is None:
            self._check_allowed(table, "", may="create_only")
            keys = self._keys(table)
            columns = [_defined(column, " not null") for column in keys]
            columns += [_defined(column) for column in table.columns]
            keyed = _listed([composing.Identifier(column.name) for column in keys])
            yield _composed(_CREATE, name, columns=_listed(columns), keys=keyed)
            yield _composed(_COMMENT, name, mark=composing.Literal(_MARK))
            return
        for column in self._lacking(table, found):
            self._check_allowed(table, f"'s column {column.name!r}", may="create_or_update")
            yield _composed(_ADD_COLUMN, name, column=_defined(column))

    def _lacking(self, table: Table, found: _Existing) -> list[Column]:
        for column in (*self._keys(table), *table.columns):
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

    def _check_allowed(self, table: Table, what: str, *, may: AutoCreate) -> None:
        allowed = {"all", "create_or_update", may}
        if self.auto_create not in allowed:
            raise SchemaError(
                f"schema {self.sql.schema!r} lacks flat table {table.name!r}{what}, and"
                f" auto_create={self.auto_create!r} doesn't create it: open it once with"
                " auto_create='create_or_update'"
            )

    # -- rows ------------------------------------------------------------------------------------

    def change(self, table: Table, tenant: str, change: RowChange) -> Statement:
        """Make the statement for a change of a row."""
        place = (*((tenant,) if self.by_tenant else ()), plain(change.key))
        if isinstance(change, DeleteRow):
            return Statement(self._ready_made((table, "delete"), self._delete, table), place)
        kinds = {column.name: column.type for column in table.columns}
        values = [self._value(kinds[name], value) for name, value in change.set.items()]
        values += change.add.values()
        shape = (table, tuple(change.set), tuple(change.add), change.insert)
        make = self._insert if change.insert else self._update
        parameters = (*place, *values) if change.insert else (*values, *place)
        return Statement(self._ready_made(shape, make, table, change), parameters)

    def change_many(self, operations: Sequence[ChangeRow]) -> Statement:
        """Make the statement for changes of one shape, of different rows; see `in_rounds`."""
        first = operations[0]
        if len(operations) == 1:
            return self.change(first.table, first.tenant, first.change)
        parameters = [value for operation in operations for value in self._parameters(operation)]
        key = (*shape_of(first.table, first.change), len(operations))
        query = self._ready_made(key, self._many, first.table, first.change, len(operations))
        return Statement(query, parameters)

    def _parameters(self, operation: ChangeRow) -> list[Any]:
        change = operation.change
        found = [operation.tenant] if self.by_tenant else []
        found.append(plain(change.key))
        if isinstance(change, WriteRow):
            found += map(plain, change.set.values())
            found += map(plain, change.add.values())
        return found

    def empty(self, table: Table) -> Statement:
        """Make the statement that deletes all rows, every tenant's."""
        return Statement(self.sql.statement("delete from {table}", table.name))

    def _ready_made(self, key: Any, make: Callable[..., bytes], *given: Any) -> bytes:
        ready = self._statements.get(key)
        if ready is None:
            ready = self._statements[key] = make(*given)
        return ready

    def _delete(self, table: Table) -> bytes:
        return _composed(_DELETE, {"table": self._quoted(table)}, found=self._where(table))

    def _insert(self, table: Table, change: WriteRow, count: int = 1) -> bytes:
        columns = [column.name for column in self._keys(table)]
        columns += [*change.set, *change.add]
        changes = [_assigned("{column} = excluded.{column}", name) for name in change.set]
        changes += [
            _assigned("{column} = coalesce(t.{column}, 0) + excluded.{column}", name)
            for name in change.add
        ]
        update = composing.SQL("update set {}").format(_listed(changes))
        return _composed(
            _INSERT,
            {"table": self._quoted(table)},
            columns=_listed(map(_column, columns)),
            values=_listed([_bracketed([composing.SQL("%s")] * len(columns))] * count),
            keys=_listed([_column(column.name) for column in self._keys(table)]),
            resolution=update if changes else composing.SQL("nothing"),
        )

    def _update(self, table: Table, change: WriteRow) -> bytes:
        kinds = {column.name: _type(column) for column in table.columns}
        changes = [_assigned("{column} = %s", name) for name in change.set]
        changes += [
            # Cast as an insert would, so that both add the same.
            _assigned("{column} = coalesce(t.{column}, 0) + %s::{type}", name, type=kinds[name])
            for name in change.add
        ]
        table_name = {"table": self._quoted(table)}
        return _composed(_UPDATE, table_name, changes=_listed(changes), found=self._where(table))

    def _many(self, table: Table, change: RowChange, count: int) -> bytes:
        """Compose what makes a change of so many rows; each with its key, then its values."""
        if isinstance(change, WriteRow) and change.insert:
            return self._insert(table, change, count)
        columns = [*self._keys(table)]
        if isinstance(change, WriteRow):
            kinds = {column.name: column for column in table.columns}
            columns += [kinds[name] for name in (*change.set, *change.add)]
        # The first row says what the columns of `values` are.
        typed = [composing.SQL("%s::{}").format(_type(column)) for column in columns]
        names = {
            "table": self._quoted(table),
            "rows": _listed([_bracketed(typed)] * count),
            "names": _listed([_column(column.name) for column in columns]),
            "found": composing.SQL(" and ").join(
                _assigned("t.{column} = n.{column}", column.name) for column in self._keys(table)
            ),
        }
        if isinstance(change, DeleteRow):
            return _composed(_DELETE_MANY, names)
        changes = [_assigned("{column} = n.{column}", name) for name in change.set]
        changes += [
            _assigned("{column} = coalesce(t.{column}, 0) + n.{column}", name)
            for name in change.add
        ]
        return _composed(_UPDATE_MANY, names, changes=_listed(changes))

    def _where(self, table: Table) -> composing.Composable:
        found = [_assigned("{column} = %s", column.name) for column in self._keys(table)]
        return composing.SQL(" and ").join(found)

    def _keys(self, table: Table) -> tuple[Column, ...]:
        return (_TENANT, table.key) if self.by_tenant else (table.key,)

    def _value(self, kind: str, value: Any) -> Any:
        if value is None or kind not in {"json", "jsonb"}:
            return plain(value)
        return self.to_json(value)

    def _name(self, table: Table) -> composing.Composable:
        return composing.Identifier(self.sql.schema, table.name)

    def _quoted(self, table: Table) -> composing.Composable:
        return for_parameters(self._name(table))


def _names(columns: Iterable[Column]) -> Iterator[str]:
    return (column.name for column in columns)


def _column(name: str) -> composing.Composable:
    return for_parameters(composing.Identifier(name))


def _type(column: Column) -> composing.Composable:
    # Safe as it stands: a column's type is one of a list, see `sql_type`.
    return composing.SQL(cast("LiteralString", column.type))


def _bracketed(parts: Iterable[composing.Composable]) -> composing.Composable:
    return composing.SQL("({})").format(_listed(parts))


def _defined(column: Column, ending: LiteralString = "") -> composing.Composable:
    default = composing.SQL(" default 0" if column.counts else "")
    parts = [composing.Identifier(column.name), composing.SQL(" "), _type(column), default]
    return composing.Composed([*parts, composing.SQL(ending)])


def _assigned(
    template: LiteralString, name: str, **parts: composing.Composable
) -> composing.Composable:
    return composing.SQL(template).format(column=_column(name), **parts)


def _listed(parts: Iterable[composing.Composable]) -> composing.Composable:
    return composing.SQL(", ").join(parts)


def _composed(
    template: LiteralString,
    name: Mapping[str, composing.Composable],
    **parts: composing.Composable,
) -> bytes:
    return composing.SQL(template).format(**name, **parts).as_bytes()
