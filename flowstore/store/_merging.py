"""Making one table's rows those of another, changing only what differs."""

from collections.abc import Iterable, Sequence
from typing import Final, LiteralString

from psycopg import sql as composing

__all__ = ["merge_documents", "merge_rows"]

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
_COUNTED: Final = ", version = t.version + 1, modified = excluded.modified"


def merge_documents(table: composing.Composable, source: composing.Composable) -> list[bytes]:
    """Make the statements that leave the documents of `source` in `table`.

    A document that is the same in both keeps its version; one that changes gets the next, so that
    whoever loaded it before is refused, and nobody else.
    """
    return _merge(table, source, ("tenant_id", "id"), ("data",), _COUNTED)


def merge_rows(
    table: composing.Composable,
    source: composing.Composable,
    *,
    keys: Sequence[str],
    columns: Sequence[str],
) -> list[bytes]:
    """Make the statements that leave the rows of `source` in `table`; other columns stay."""
    return _merge(table, source, keys, columns, "")


def _merge(
    table: composing.Composable,
    source: composing.Composable,
    keys: Sequence[str],
    columns: Sequence[str],
    counted: LiteralString,
) -> list[bytes]:
    same_key = _each(" and ", "t.{0} = s.{0}", keys)
    changes = _each(", ", "{0} = excluded.{0}", columns)
    update = composing.SQL("update set {}" + counted).format(changes)
    delete = composing.SQL(_DELETE).format(table=table, source=source, same_key=same_key)
    write = composing.SQL(_WRITE).format(
        table=table,
        source=source,
        same_key=same_key,
        columns=_each(", ", "{0}", (*keys, *columns)),
        given=_each(", ", "s.{0}", (*keys, *columns)),
        no_row=composing.SQL("t.{} is null").format(composing.Identifier(keys[-1])),
        # As text: `json` has no equality, and 1 equals 1.0, which isn't the same document.
        differs=_each(" or ", "t.{0}::text is distinct from s.{0}::text", columns)
        if columns
        else composing.SQL("false"),
        ordered=_each(", ", "s.{0}", keys),
        keys=_each(", ", "{0}", keys),
        resolution=update if columns else composing.SQL("nothing"),
    )
    return [delete.as_bytes(), write.as_bytes()]


def _each(
    separator: LiteralString, template: LiteralString, names: Iterable[str]
) -> composing.Composed:
    part = composing.SQL(template)
    return composing.SQL(separator).join(
        [part.format(composing.Identifier(name)) for name in names]
    )
