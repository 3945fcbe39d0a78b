"""Flat tables: created when they are needed, and the statements that change their rows."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, LiteralString

import attrs
from psycopg import sql as composing

from flowstore.errors import SchemaError
from flowstore.postgres import Connection, translate_errors, watched_connection
from flowstore.projections import DeleteRow, RowChange, Table, WriteRow
from flowstore.store._queue import ChangeRow
from flowstore.store._row_batches import plain, shape_of
from flowstore.store._schema import AutoCreate, lock_schema
from flowstore.store._schema_flat import FlatChange, FlatSchema, composed, listed, type_of
from flowstore.store._schema_privileges import explained
from flowstore.store._sql import SchemaSql, for_parameters
from flowstore.store._statements import Statement

__all__ = ["FlatTables"]

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
        plan: says what the tables are to be.
    """

    dsn: str = attrs.field(repr=False)
    sql: SchemaSql
    auto_create: AutoCreate
    by_tenant: bool
    to_json: Callable[[Any], str] = attrs.field(repr=False)
    plan: FlatSchema = attrs.field(init=False, repr=False)
    _ready: set[Table] = attrs.field(factory=set[Table], init=False, repr=False)
    _statements: dict[Any, bytes] = attrs.field(factory=dict[Any, bytes], init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.plan = FlatSchema(self.sql, by_tenant=self.by_tenant)

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
            async with explained(self.dsn, self.sql), watched_connection(self.dsn) as found:
                await self._see_to(found, unseen)
        self._ready.update(unseen)

    def check(self, table: Table) -> None:
        """Refuse a table that this store can't keep as it is described.

        Raises:
            RegistrationError: a column has the tenant's name, or the key's type can't hold a
                stream's identity.
        """
        self.plan.check(table)

    async def _see_to(self, connection: Connection, tables: Sequence[Table]) -> None:
        found = await self.plan.read(connection, [table.name for table in tables])
        changes = [
            change for table in tables for change in self.plan.missing(table, found.get(table.name))
        ]
        for change in changes:
            self._check_allowed(change)
        if changes:
            async with connection.transaction():
                await lock_schema(connection, self.sql)
                for change in changes:
                    await connection.execute(change.script)

    def _check_allowed(self, change: FlatChange) -> None:
        may = "create_only" if change.makes_table else "create_or_update"
        if self.auto_create not in {"all", "create_or_update", may}:
            raise SchemaError(
                f"schema {self.sql.schema!r} lacks {change.what}, and"
                f" auto_create={self.auto_create!r} doesn't create it: open it once with"
                " auto_create='create_or_update', or see `flowstore db apply`"
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

    def key_names(self, table: Table) -> list[str]:
        """List the columns of a table's primary key."""
        return [column.name for column in self.plan.keys(table)]

    def empty(self, table: Table) -> Statement:
        """Make the statement that deletes all rows, every tenant's."""
        return Statement(self.sql.statement("delete from {table}", table.name))

    def _ready_made(self, key: Any, make: Callable[..., bytes], *given: Any) -> bytes:
        ready = self._statements.get(key)
        if ready is None:
            ready = self._statements[key] = make(*given)
        return ready

    def _delete(self, table: Table) -> bytes:
        return composed(_DELETE, {"table": self._quoted(table)}, found=self._where(table))

    def _insert(self, table: Table, change: WriteRow, count: int = 1) -> bytes:
        columns = [column.name for column in self.plan.keys(table)]
        columns += [*change.set, *change.add]
        changes = [_assigned("{column} = excluded.{column}", name) for name in change.set]
        changes += [
            _assigned("{column} = coalesce(t.{column}, 0) + excluded.{column}", name)
            for name in change.add
        ]
        update = composing.SQL("update set {}").format(listed(changes))
        return composed(
            _INSERT,
            {"table": self._quoted(table)},
            columns=listed(map(_column, columns)),
            values=listed([_bracketed([composing.SQL("%s")] * len(columns))] * count),
            keys=listed([_column(column.name) for column in self.plan.keys(table)]),
            resolution=update if changes else composing.SQL("nothing"),
        )

    def _update(self, table: Table, change: WriteRow) -> bytes:
        kinds = {column.name: type_of(column) for column in table.columns}
        changes = [_assigned("{column} = %s", name) for name in change.set]
        changes += [
            # Cast as an insert would, so that both add the same.
            _assigned("{column} = coalesce(t.{column}, 0) + %s::{type}", name, type=kinds[name])
            for name in change.add
        ]
        table_name = {"table": self._quoted(table)}
        return composed(_UPDATE, table_name, changes=listed(changes), found=self._where(table))

    def _many(self, table: Table, change: RowChange, count: int) -> bytes:
        """Compose what makes a change of so many rows; each with its key, then its values."""
        if isinstance(change, WriteRow) and change.insert:
            return self._insert(table, change, count)
        columns = [*self.plan.keys(table)]
        if isinstance(change, WriteRow):
            kinds = {column.name: column for column in table.columns}
            columns += [kinds[name] for name in (*change.set, *change.add)]
        # The first row says what the columns of `values` are.
        typed = [composing.SQL("%s::{}").format(type_of(column)) for column in columns]
        names = {
            "table": self._quoted(table),
            "rows": listed([_bracketed(typed)] * count),
            "names": listed([_column(column.name) for column in columns]),
            "found": composing.SQL(" and ").join(
                _assigned("t.{column} = n.{column}", column.name)
                for column in self.plan.keys(table)
            ),
        }
        if isinstance(change, DeleteRow):
            return composed(_DELETE_MANY, names)
        changes = [_assigned("{column} = n.{column}", name) for name in change.set]
        changes += [
            _assigned("{column} = coalesce(t.{column}, 0) + n.{column}", name)
            for name in change.add
        ]
        return composed(_UPDATE_MANY, names, changes=listed(changes))

    def _where(self, table: Table) -> composing.Composable:
        found = [_assigned("{column} = %s", column.name) for column in self.plan.keys(table)]
        return composing.SQL(" and ").join(found)

    def _value(self, kind: str, value: Any) -> Any:
        if value is None or kind not in {"json", "jsonb"}:
            return plain(value)
        return self.to_json(value)

    def _quoted(self, table: Table) -> composing.Composable:
        return for_parameters(composing.Identifier(self.sql.schema, table.name))


def _column(name: str) -> composing.Composable:
    return for_parameters(composing.Identifier(name))


def _bracketed(parts: Iterable[composing.Composable]) -> composing.Composable:
    return composing.SQL("({})").format(listed(parts))


def _assigned(
    template: LiteralString, name: str, **parts: composing.Composable
) -> composing.Composable:
    return composing.SQL(template).format(column=_column(name), **parts)
