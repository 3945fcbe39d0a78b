"""Tables of plain columns, and changes of their rows, as values: the store turns them into SQL."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias
from uuid import UUID

import attrs

from flowstore.errors import RegistrationError
from flowstore.events import LONGEST_NAME

__all__ = ["Column", "DeleteRow", "RowChange", "Table", "WriteRow", "check_column_name", "sql_type"]

_PYTHON_TYPES: Final[Mapping[Any, str]] = {
    UUID: "uuid",
    str: "text",
    int: "bigint",
    float: "double precision",
    Decimal: "numeric",
    bool: "boolean",
    bytes: "bytea",
    datetime: "timestamp with time zone",
    date: "date",
    dict: "jsonb",
    list: "jsonb",
}
_NUMBERS: Final = frozenset(
    {"smallint", "integer", "bigint", "numeric", "real", "double precision"}
)
_PLAIN_TYPES: Final = _NUMBERS | {
    "text",
    "character varying",
    "uuid",
    "boolean",
    "bytea",
    "date",
    "interval",
    "json",
    "jsonb",
    "time without time zone",
    "timestamp with time zone",
    "timestamp without time zone",
}
_ALIASES: Final = {
    "int2": "smallint",
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "decimal": "numeric",
    "float4": "real",
    "float8": "double precision",
    "float": "double precision",
    "varchar": "character varying",
    "bool": "boolean",
    "time": "time without time zone",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
}
_WRITTEN: Final = re.compile(
    r"(?P<base>[a-z][a-z0-9 ]*?) ?(\( ?(?P<size>\d{1,5}) ?(, ?(?P<scale>\d{1,3}) ?)?\))?(?P<array>\[\])?"
)


@attrs.frozen
class Column:
    """Describe one column.

    Attributes:
        name: any name of up to 63 bytes.
        type: PostgreSQL's type as PostgreSQL writes it: `integer`, `numeric(10,2)`, `text[]`.
        counts: whether events add to it: it starts at 0 then, not at null.
    """

    name: str
    type: str
    counts: bool = False

    @property
    def is_number(self) -> bool:
        """Whether something can be added to it."""
        return self.type.partition("(")[0] in _NUMBERS and not self.type.endswith("[]")


@attrs.frozen
class Table:
    """Describe a table in the store's schema, with one row a key.

    Attributes:
        name: any name of up to 63 bytes.
        key: the primary key.
        columns: all others.
        keyed_by_stream: whether a stream's identity can come to be a key.
    """

    name: str
    key: Column
    columns: tuple[Column, ...]
    keyed_by_stream: bool = True


@attrs.frozen
class WriteRow:
    """Change the row with a key.

    Attributes:
        key: the row's.
        set: new values by column.
        add: numbers by column, to be added to what is there; null counts as 0.
        insert: whether to make the row where there is none; otherwise nothing happens then.
    """

    key: Any
    set: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    add: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    insert: bool = True


@attrs.frozen
class DeleteRow:
    """Delete the row with a key; there may be none.

    Attributes:
        key: the row's.
    """

    key: Any


RowChange: TypeAlias = WriteRow | DeleteRow


def sql_type(given: Any, where: str) -> str:
    """Give a type's name as PostgreSQL writes it.

    Only known names pass, because a type stands in a statement as it is.

    Args:
        given: a Python class such as `int`, or the name of a PostgreSQL type in any of its
            spellings, with its size and `[]` if it has them.
        where: the column, for messages.

    Raises:
        RegistrationError: it is neither.
    """
    if isinstance(given, str):
        written = _WRITTEN.fullmatch(" ".join(given.lower().split()))
        name = None if written is None else _canonical(written)
    else:
        name = _PYTHON_TYPES.get(given) if isinstance(given, type) else None
    if name is None:
        raise RegistrationError(
            f"{where} is of type {given!r}, which isn't known here: give a Python type such as int"
            f" or datetime, or one of {', '.join(sorted(_PLAIN_TYPES))}; numeric and character"
            " varying may have a size as in numeric(10,2), and any may be an array as in text[]"
        )
    return name


def check_column_name(name: Any, where: str) -> None:
    """Refuse a name that PostgreSQL would refuse, or cut.

    Raises:
        RegistrationError: it isn't text, or is empty, unprintable or longer than 63 bytes.
    """
    if not isinstance(name, str) or not name or not name.isprintable():
        raise RegistrationError(f"{where} is named {name!r}: give it a printable name")
    size = len(name.encode(errors="surrogatepass"))
    if size > LONGEST_NAME:
        raise RegistrationError(
            f"{where} is named {name!r}, which has {size} bytes: PostgreSQL would cut it off at"
            f" {LONGEST_NAME}; choose a shorter name"
        )


def _canonical(written: re.Match[str]) -> str | None:
    base = _ALIASES.get(written["base"], written["base"])
    array = written["array"] or ""
    size, scale = written["size"], written["scale"]
    if base not in _PLAIN_TYPES:
        return None
    if size is None:
        return base + array
    if base == "numeric":
        return f"numeric({int(size)},{int(scale or 0)}){array}"
    if base == "character varying" and scale is None:
        return f"character varying({int(size)}){array}"
    return None
