"""Indexes of document tables: what may be declared, what each is called, and what creates it."""

import hashlib
import re
from typing import Any, Final, LiteralString, TypeAlias

import attrs
from psycopg import sql as composing

from flowstore.errors import RegistrationError
from flowstore.store._names import check_index_field, derived_name

__all__ = [
    "ExpressionIndex",
    "GinIndex",
    "Index",
    "check_index",
    "expression",
    "gin",
    "index_name",
    "index_script",
    "told_index",
]

_FIELD: Final = "create index if not exists {index} on {table} (tenant_id, (data -> {field}))"
# `jsonb_path_ops` knows containment and JSON paths, in half the space of the default, which knows
# the existence of keys beside. The tenant can't be in it without an extension: it is looked at after.
_GIN: Final = "create index if not exists {index} on {table} using gin (data jsonb_path_ops)"
# On lines of their own, so that a comment at an expression's end swallows nothing.
_EXPRESSION: Final = "create index if not exists {index} on {table} (tenant_id, {parts})"
_UNIQUE: Final = "create unique index if not exists {index} on {table} (tenant_id, {parts})"
_PART: Final = "(\n{}\n)"
_READABLE: Final = 24
_DIGITS: Final = 10


@attrs.frozen
class GinIndex:
    """Index whole documents for containment, `data @> ...`, and JSON paths; `gin()` makes it."""


@attrs.frozen
class ExpressionIndex:
    """Index what SQL expressions make of a document, in their order; `expression()` makes it.

    Attributes:
        parts: SQL expressions of the column `data`.
        unique: whether two documents of one tenant can't have the same values.
    """

    parts: tuple[LiteralString, ...]
    unique: bool = False


Index: TypeAlias = str | GinIndex | ExpressionIndex
"""An index: the name of a field, `gin()` or `expression(...)`."""


def gin() -> GinIndex:
    """Make an index of whole documents, which serves `data @> ...` and fields looked for by `find`."""
    return GinIndex()


def expression(*sql: LiteralString, unique: bool = False) -> ExpressionIndex:
    """Make an index of what SQL expressions make of a document: `lower(data ->> 'name')`.

    A condition uses it that holds the same expression, and begins with the first of several.

    Args:
        sql: expressions of the column `data`, of immutable functions and operators, as constants in
            the program's text: they stand in the statement as they are.
        unique: refuse a document whose values another one of its tenant has; null is like nothing.

    Raises:
        RegistrationError: there is none, or one is no text, blank, or holds NUL.
    """
    if not sql:
        raise RegistrationError("expression() has nothing to index: name an SQL expression")
    for part in sql:
        if not isinstance(part, str) or not part.strip() or "\0" in part:  # pyright: ignore[reportUnnecessaryIsInstance] - given by callers
            raise RegistrationError(f"{part!r} can't be indexed: give expression() SQL as text")
    return ExpressionIndex(sql, unique)


def check_index(document: str, index: Any) -> None:
    """Refuse what is no index.

    Raises:
        RegistrationError: it is neither made by `gin` or `expression` nor a field's name.
    """
    if not isinstance(index, (GinIndex, ExpressionIndex)):
        check_index_field(document, index)


def index_name(table: str, index: Index) -> str:
    """Name an index: the same declaration has the same name, and another one another name."""
    if isinstance(index, str):
        return derived_name(table, index, "idx")
    if isinstance(index, GinIndex):
        return derived_name(table, "data", "gin")
    whole = repr((index.parts, index.unique))
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_DIGITS]
    words = re.sub(r"[^a-z0-9]+", "_", " ".join(index.parts).lower()).strip("_")
    return derived_name(table, words[:_READABLE].strip("_"), digest, "idx")


def told_index(index: Index) -> str:
    """Say of what an index is, for a message."""
    if isinstance(index, str):
        return repr(index)
    return "the whole" if isinstance(index, GinIndex) else ", ".join(index.parts)


def index_script(schema: str, table: str, index: Index) -> bytes:
    """Give what creates an index."""
    names = {
        "index": composing.Identifier(index_name(table, index)),
        "table": composing.Identifier(schema, table),
    }
    if isinstance(index, str):
        statement = composing.SQL(_FIELD).format(field=composing.Literal(index), **names)
    elif isinstance(index, GinIndex):
        statement = composing.SQL(_GIN).format(**names)
    else:
        part = composing.SQL(_PART)
        parts = composing.SQL(", ").join([part.format(composing.SQL(sql)) for sql in index.parts])
        template = _UNIQUE if index.unique else _EXPRESSION
        statement = composing.SQL(template).format(parts=parts, **names)
    return statement.as_bytes()
