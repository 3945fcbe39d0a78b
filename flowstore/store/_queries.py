"""Looking for documents by what is in them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString, cast

from psycopg import sql as composing

from flowstore.store._document_types import DocumentType
from flowstore.store._engine import Engine
from flowstore.store._indexes import GinIndex
from flowstore.store._statements import Statement

__all__ = ["find_documents", "query_documents"]

_FIND: Final = "select d.id, d.data::text, d.version from {table} d where d.tenant_id = %s"
_EQUALS: Final = " and d.data -> {field} = %s::jsonb"
_IS_NULL: Final = " and coalesce(d.data -> {field}, 'null') = %s::jsonb"
# Says nothing that equality doesn't, but an index over whole documents can be seen to fit.
_CONTAINS: Final = " and d.data @> %s::jsonb"
_IN_ORDER: Final = " order by d.id"
# A subquery, so that the condition can hold an `or`, and be followed by `order by` and `limit`,
# without seeing another tenant's documents.
_QUERY: Final = """
select d.id, d.data::text, d.version
from (select id, data, version, modified from {table} where tenant_id = %s) as d where """


def find_documents(
    engine: Engine, kind: DocumentType, tenant: str, equal_to: Mapping[str, Any]
) -> Statement:
    """Select the documents whose fields equal the values.

    Field names stand in the statement itself, where an index on the field can be seen to fit.
    """
    query = engine.sql.compose(_FIND, kind.table)
    values: list[str] = []
    for field, value in equal_to.items():
        template = _IS_NULL if value is None else _EQUALS
        query += composing.SQL(template).format(field=_literal(field))
        values.append(engine.documents.value(value))
    contained = _contained(engine, kind, equal_to)
    if contained is not None:
        query += composing.SQL(_CONTAINS)
        values.append(contained)
    query += composing.SQL(_IN_ORDER)
    return Statement(query.as_bytes(), (tenant, *values))


def _contained(engine: Engine, kind: DocumentType, equal_to: Mapping[str, Any]) -> str | None:
    """Write the fields that an index over whole documents finds best; None where there are none.

    Not those with an index of their own, and not those asked to be null, which may be missing.
    """
    if not any(isinstance(index, GinIndex) for index in kind.indexes):
        return None
    fields = {
        field: value
        for field, value in equal_to.items()
        if value is not None and field not in kind.indexes
    }
    return engine.documents.value(fields) if fields else None


def query_documents(
    engine: Engine, kind: DocumentType, tenant: str, where: LiteralString, params: Sequence[Any]
) -> Statement:
    """Select the documents that an application's condition holds for."""
    condition = where if params else where.replace("%", "%%")
    query = engine.sql.statement(_QUERY, kind.table) + condition.encode()
    return Statement(query, (tenant, *params))


def _literal(field: str) -> composing.Composable:
    text = composing.Literal(field).as_string().replace("%", "%%")
    # Quoted by psycopg just before.
    return composing.SQL(cast("LiteralString", text))
