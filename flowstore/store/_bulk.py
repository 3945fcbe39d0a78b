"""Bringing in many documents at once, by COPY."""

from collections.abc import AsyncIterable, Iterable
from contextlib import aclosing
from typing import Any, Final, Literal, LiteralString, TypeAlias, cast

from psycopg.errors import UniqueViolation

from flowstore.errors import InvalidDocumentError
from flowstore.postgres import Connection, translate_errors
from flowstore.store._document_types import DocumentType
from flowstore.store._engine import Engine
from flowstore.store._files import each_of
from flowstore.store._refusals import not_unique

__all__ = ["DocumentSource", "OnConflict", "insert_all"]

DocumentSource: TypeAlias = Iterable[object] | AsyncIterable[object]
OnConflict: TypeAlias = Literal["refuse", "ignore", "overwrite"]
"""What becomes of a document that is stored already, or comes twice."""

_AT_ONCE: Final = 2000
# Beside the tables, so that conflicts are settled by statements, and rows get there in the order of
# their ids, in which everybody locks them.
_STAGE: Final = """
create temporary table flowstore_bulk (
    place bigint generated always as identity, kind int, id text collate "C", data text
) on commit drop"""
_COPY: Final = "copy pg_temp.flowstore_bulk (kind, id, data) from stdin"
_IDS: Final[dict[str, LiteralString]] = {
    "uuid": "n.id::uuid",
    "text": 'n.id collate "C"',
    "bigint": "n.id::bigint",
}
_MOVE: Final[dict[OnConflict, LiteralString]] = {
    "refuse": """
insert into {table} (tenant_id, id, data)
select %s, <id>, n.data::jsonb from pg_temp.flowstore_bulk n where n.kind = %s order by <id>""",
    "ignore": """
insert into {table} (tenant_id, id, data)
select %s, <id>, n.data::jsonb from (
    select distinct on (b.id) b.id, b.data from pg_temp.flowstore_bulk b
    where b.kind = %s order by b.id, b.place
) n order by <id>
on conflict (tenant_id, id) do nothing""",
    "overwrite": """
insert into {table} as d (tenant_id, id, data)
select %s, <id>, n.data::jsonb from (
    select distinct on (b.id) b.id, b.data from pg_temp.flowstore_bulk b
    where b.kind = %s order by b.id, b.place desc
) n order by <id>
on conflict (tenant_id, id) do update
set data = excluded.data, version = d.version + 1, modified = excluded.modified""",
}


async def insert_all(
    engine: Engine, tenant: str, documents: DocumentSource, on_conflict: OnConflict
) -> int:
    """Write documents of any types in one transaction, and give how many were written."""
    places: dict[DocumentType, int] = {}
    async with engine.lend() as connection:
        with translate_errors():
            async with connection.transaction():
                await connection.execute(_STAGE)
                async with aclosing(each_of(documents)) as each:
                    rows: list[tuple[int, str, str]] = []
                    async for document in each:
                        kind = engine.catalogue.describe(cast("type[Any]", type(document)))
                        place = places.setdefault(kind, len(places))
                        identity = str(kind.identity_of(document))
                        rows.append((place, identity, engine.documents.value(document)))
                        if len(rows) == _AT_ONCE:
                            await _copy(connection, rows)
                            rows = []
                    await _copy(connection, rows)
                await engine.tables.ensure(places)
                return await _move(engine, connection, tenant, places, on_conflict)


async def _copy(connection: Connection, rows: list[tuple[int, str, str]]) -> None:
    if rows:
        async with connection.cursor().copy(_COPY) as copy:
            for row in rows:
                await copy.write_row(row)


async def _move(
    engine: Engine,
    connection: Connection,
    tenant: str,
    places: dict[DocumentType, int],
    on_conflict: OnConflict,
) -> int:
    written = 0
    for kind in sorted(places, key=_table):
        template = _MOVE[on_conflict].replace("<id>", _IDS[kind.id_column])
        query = engine.sql.statement(template, kind.table)
        try:
            cursor = await connection.execute(query, (tenant, places[kind]))
        except UniqueViolation as cause:
            if refusal := not_unique([kind], cause):
                raise refusal from cause
            raise InvalidDocumentError(
                f"a {kind.type.__name__} is stored already, or comes twice:"
                f" {cause.diag.message_detail}; insert it with on_conflict='ignore' or 'overwrite'"
            ) from cause
        written += cursor.rowcount
    return written


def _table(kind: DocumentType) -> Any:
    return kind.table
