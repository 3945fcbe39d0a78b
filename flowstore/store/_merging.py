"""Making one table's rows those of another, changing only what differs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, LiteralString

import attrs
from psycopg import errors
from psycopg import sql as composing

from flowstore.postgres import Connection

__all__ = ["Merging"]

# Not `drop` and `rename`: a reader whose snapshot is older than a renamed table's rows finds it
# empty, and whoever reads a table keeps it from being dropped. Rows that are changed in place are
# seen by everybody's snapshot as they should be, nobody waits, and grants, views, indexes and
# triggers that others have put on the table stay.
_DELETE: Final = """
delete from {table} as t where not exists (select from {source} as s where {same_key})"""
_WRITE: Final = """
insert into {table} as t ({columns})
select {given} from {source} as s left join {table} as t on {same_key}
where {no_row} or {differs}
order by {ordered}
on conflict ({keys}) do {resolution}"""

# A unique index looks at every row as it is written: two that exchange their values can't be changed
# in place, one after the other. So all that differ are taken out first, and put back changed. That
# takes whole rows, also what others have added to them, and nobody may write to them meanwhile.
_KEEP_OTHERS_OUT: Final = "lock table {table} in share row exclusive mode"
_TAKE_OUT: Final = """
create table {kept} as
select t.* from {table} as t join {source} as s on {same_key} where {differs}"""
_TAKEN_OUT: Final = "delete from {table} as t using {kept} as s where {same_key}"
_PUT_BACK: Final = """
insert into {table} ({columns}) overriding system value
select {given} from {kept} as t join {source} as s on {same_key} order by {ordered}"""
_COLUMNS: Final = """
select attname::text from pg_catalog.pg_attribute
where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = ''
order by attnum"""
_POINTED_AT: Final = """
select exists (
    select from pg_catalog.pg_constraint where contype = 'f' and confrelid = %s::regclass
)"""


@attrs.frozen
class Merging:
    """Leave the rows of one table in another, as the statements of the caller's transaction.

    Attributes:
        table: what is changed.
        source: what it will be like; whatever columns it lacks stay as they are.
        kept: the name of a table that isn't there, for rows that have to be set aside meanwhile.
        keys: the columns of the primary key.
        columns: all others that are compared and written.
        counted: columns that a row which changes gets from itself, with the expression for that.
    """

    table: composing.Identifier
    source: composing.Identifier
    kept: composing.Identifier
    keys: Sequence[str]
    columns: Sequence[str]
    counted: Mapping[str, LiteralString] = attrs.field(factory=dict[str, LiteralString])

    @classmethod
    def of_documents(
        cls,
        table: composing.Identifier,
        source: composing.Identifier,
        kept: composing.Identifier,
    ) -> "Merging":
        """Merge documents.

        One that is the same in both keeps its version; one that changes gets the next, so that
        whoever loaded it before is refused, and nobody else.
        """
        counted: Mapping[str, LiteralString] = {
            "version": "t.version + 1",
            "modified": "clock_timestamp()",
        }
        return cls(table, source, kept, ("tenant_id", "id"), ("data",), counted)

    async def run(self, connection: Connection) -> None:
        """Merge, changing rows in place if no unique index is against it.

        Raises:
            psycopg.errors.UniqueViolation: the rows can't be in the table together; or a foreign
                key points at them, which may delete its own with them.
        """
        try:
            async with connection.transaction():
                for script in self.in_place():
                    await connection.execute(script)
        except (errors.UniqueViolation, errors.ExclusionViolation):
            table = self.table.as_string()
            cursor = await connection.execute(_POINTED_AT, (table,))
            if await cursor.fetchone() == (True,):
                raise
            cursor = await connection.execute(_COLUMNS, (table,))
            columns = [name for (name,) in await cursor.fetchall()]
            for script in self.taking_out(columns):
                await connection.execute(script)

    def in_place(self) -> list[bytes]:
        """Make the statements that change rows where they are."""
        write = self._put(
            _WRITE,
            columns=_each(", ", "{0}", (*self.keys, *self.columns)),
            given=_each(", ", "s.{0}", (*self.keys, *self.columns)),
            no_row=composing.SQL("t.{} is null").format(composing.Identifier(self.keys[-1])),
            keys=_each(", ", "{0}", self.keys),
            resolution=self._update() if self.columns else composing.SQL("nothing"),
        )
        return [self._put(_DELETE), write]

    def taking_out(self, columns: Sequence[str]) -> list[bytes]:
        """Make the statements that take out what differs, put it back and write what is new.

        Args:
            columns: all that the table has, also those that others have added to it.
        """
        put_back = self._put(
            _PUT_BACK, columns=_each(", ", "{0}", columns), given=self._changed(columns)
        )
        first: tuple[LiteralString, ...] = (_KEEP_OTHERS_OUT, _DELETE, _TAKE_OUT, _TAKEN_OUT)
        gone = composing.SQL("drop table {}").format(self.kept).as_bytes()
        return [*[self._put(each) for each in first], put_back, self.in_place()[-1], gone]

    def _put(self, template: LiteralString, **more: composing.Composable) -> bytes:
        """Put the names into a statement."""
        statement = composing.SQL(template).format(
            table=self.table,
            source=self.source,
            kept=self.kept,
            same_key=_each(" and ", "t.{0} = s.{0}", self.keys),
            # As text: `json` has no equality, and 1 equals 1.0, which isn't the same document.
            differs=_each(" or ", "t.{0}::text is distinct from s.{0}::text", self.columns)
            if self.columns
            else composing.SQL("false"),
            ordered=_each(", ", "s.{0}", self.keys),
            **more,
        )
        return statement.as_bytes()

    def _update(self) -> composing.Composable:
        changes = [_each(", ", "{0} = excluded.{0}", self.columns)]
        changes += [
            composing.SQL("{} = ").format(composing.Identifier(name)) + composing.SQL(value)
            for name, value in self.counted.items()
        ]
        return composing.SQL("update set ") + composing.SQL(", ").join(changes)

    def _changed(self, columns: Sequence[str]) -> composing.Composable:
        given: list[composing.Composable] = []
        for name in columns:
            if name in self.counted:
                given.append(composing.SQL(self.counted[name]))
            else:
                row = composing.SQL("s" if name in self.columns else "t")
                given.append(row + composing.SQL(".") + composing.Identifier(name))
        return composing.SQL(", ").join(given)


def _each(
    separator: LiteralString, template: LiteralString, names: Iterable[str]
) -> composing.Composed:
    part = composing.SQL(template)
    return composing.SQL(separator).join(
        [part.format(composing.Identifier(name)) for name in names]
    )
