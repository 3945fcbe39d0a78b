"""Gathering changes of flat tables' rows, so that one statement makes many. No I/O here."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, TypeAlias
from uuid import UUID

import attrs

from flowstore.projections import DeleteRow, RowChange, Table, WriteRow
from flowstore.store._queue import ChangeRow

__all__ = ["MOST_ROWS", "Shape", "in_rounds", "plain", "shape_of"]

Shape: TypeAlias = tuple[Any, ...]
"""What the changes of one statement have in common."""

MOST_ROWS: Final = 128
"""Rows in one statement; counts are powers of two, so that few statements serve all of them."""
_WHOLE: Final = frozenset({"smallint", "integer", "bigint"})
_NATURAL: Final[Mapping[str, tuple[type, ...]]] = {
    "uuid": (UUID,),
    "text": (str,),
    "character varying": (str,),
    "smallint": (int,),
    "integer": (int,),
    "bigint": (int,),
    "numeric": (int, Decimal),
    "double precision": (float,),
    "boolean": (bool,),
    "timestamp with time zone": (datetime,),
    "date": (date,),
}
"""Python's types by PostgreSQL's, where naming the type changes nothing of how a value is taken."""
_CUT_BY_CASTS: Final = "character varying("
"""Where naming the type would cut a text off that doesn't fit, and ought to be refused."""
_KEYS: Final = _WHOLE | {"uuid", "text", "boolean", "date"}
"""Types whose values are the same row if, and only if, they are equal in Python."""


def plain(value: Any) -> Any:
    """Give an enumeration's value: psycopg would write its name."""
    return value.value if isinstance(value, Enum) else value


def shape_of(table: Table, change: RowChange) -> Shape:
    """Say which statement makes a change."""
    if isinstance(change, DeleteRow):
        return (table, "delete")
    return (table, tuple(change.set), tuple(change.add), change.insert)


def in_rounds(operations: Sequence[ChangeRow]) -> Iterator[Sequence[ChangeRow]]:
    """Gather changes that one statement can make, those of a row staying in their order.

    A round has at most one change of each row, and rows know nothing of each other: so what is in
    a round may be done in any order, and at once. Whole numbers that are only added, with one
    sign, are added up beforehand: they overflow together if, and only if, they do one by one.

    Locks rows in no order of their own, so that whoever does this needs to be the table's only
    writer.

    Yields:
        Changes of one shape, of different rows, in counts that are powers of two.
    """
    rounds: list[dict[Shape, list[ChangeRow]]] = []
    for chain in _by_row(operations):
        for place, operation in enumerate(_added_up(chain)):
            if place == len(rounds):
                rounds.append({})
            shape = shape_of(operation.table, operation.change)
            if not _is_natural(operation):
                shape = (*shape, id(operation))  # alone: its types have to be found out
            rounds[place].setdefault(shape, []).append(operation)
    for each in rounds:
        for alike in each.values():
            yield from _in_powers(alike)


def _by_row(operations: Sequence[ChangeRow]) -> list[list[ChangeRow]]:
    """Gather the changes of each row; all of a table's where its keys can't be told apart here."""
    chains: dict[Any, list[ChangeRow]] = {}
    told_apart: dict[Table, bool] = {}
    for operation in operations:
        table = operation.table
        known = told_apart.get(table, table.key.type in _KEYS)
        told_apart[table] = known and _fits(table.key.type, plain(operation.change.key))
    for operation in operations:
        table = operation.table
        row = (operation.tenant, plain(operation.change.key)) if told_apart[table] else None
        chains.setdefault((table, row), []).append(operation)
    return list(chains.values())


def _added_up(chain: Sequence[ChangeRow]) -> list[ChangeRow]:
    found: list[ChangeRow] = []
    for operation in chain:
        both = _sum(found[-1], operation) if found else None
        if both is None:
            found.append(operation)
        else:
            found[-1] = both
    return found


def _sum(one: ChangeRow, other: ChangeRow) -> ChangeRow | None:
    """Make one change of two, which does the same; None if that takes two."""
    before, after = one.change, other.change
    if not isinstance(before, WriteRow) or not isinstance(after, WriteRow):
        return None
    alike = shape_of(one.table, before) == shape_of(other.table, after) and before.add
    if not alike or before.set or plain(before.key) != plain(after.key):
        return None
    kinds = {column.name: column.type for column in one.table.columns}
    for name, amount in before.add.items():
        if kinds[name] not in _WHOLE or not _go_together(amount, after.add[name]):
            return None
    added = {name: amount + after.add[name] for name, amount in before.add.items()}
    return attrs.evolve(one, change=attrs.evolve(after, add=added))


def _go_together(one: Any, other: Any) -> bool:
    return type(one) is int and type(other) is int and (one >= 0) == (other >= 0)


def _is_natural(operation: ChangeRow) -> bool:
    table, change = operation.table, operation.change
    if not _fits(table.key.type, plain(change.key)):
        return False
    if isinstance(change, DeleteRow):
        return True
    kinds = {column.name: column.type for column in table.columns}
    values = {**change.set, **change.add}
    if not change.insert and any(kinds[name].startswith(_CUT_BY_CASTS) for name in change.set):
        return False
    return all(value is None or _fits(kinds[name], plain(value)) for name, value in values.items())


def _fits(kind: str, value: Any) -> bool:
    return type(value) in _NATURAL.get(kind.partition("(")[0], ()) and not kind.endswith("[]")


def _in_powers(alike: Sequence[ChangeRow]) -> Iterator[Sequence[ChangeRow]]:
    start, size = 0, MOST_ROWS
    while start < len(alike):
        while size > len(alike) - start:
            size //= 2
        yield alike[start : start + size]
        start += size
