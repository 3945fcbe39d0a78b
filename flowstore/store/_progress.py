"""How far shards have come, what they have set aside, and taking them back to nothing."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from flowstore.errors import ProgressConflictError
from flowstore.events import DeadLetter
from flowstore.postgres import translate_errors
from flowstore.projections import IProjection, produced_by, shard_name
from flowstore.store import _arrays
from flowstore.store._commit import operation_statements, see_to_tables
from flowstore.store._document_session import ProjectionUnit
from flowstore.store._engine import Engine
from flowstore.store._names import stored_tenant
from flowstore.store._refusals import facts_of
from flowstore.store._statements import Statement, fetch_rows, lend_again, run_as_one

__all__ = [
    "commit_page",
    "discard",
    "read_dead_letters",
    "read_progress",
    "storable",
    "tear_down",
]

_PROGRESS: Final = "select sequence from {schema}.progress where shard = %s"
_ADVANCE: Final = "select {schema}.advance(%s, %s, %s)"
_SET_ASIDE: Final = """
insert into {schema}.dead_letters as d (shard, sequence, error_type, message, traceback)
select n.shard, n.sequence, n.error_type, n.message, n.traceback
from unnest(%s::text[], %s::bigint[], %s::text[], %s::text[], %s::text[])
    as n (shard, sequence, error_type, message, traceback)
order by n.shard, n.sequence
on conflict (shard, sequence) do update set
    error_type = excluded.error_type, message = excluded.message,
    traceback = excluded.traceback, recorded = excluded.recorded"""
_DEAD_LETTERS: Final = """
select shard, sequence, error_type, message, traceback from {schema}.dead_letters
where %s::text is null or shard = %s order by shard, sequence"""
_DISCARD: Final = "delete from {schema}.dead_letters where shard = %s and sequence = %s"
_FORGET: Final = """
with letters as (delete from {schema}.dead_letters where shard = %s)
delete from {schema}.progress where shard = %s"""
_DELETE_ALL: Final = "delete from {table}"


async def read_progress(engine: Engine, shard: str) -> int:
    """Give the last sequence whose effects a shard has committed; 0 before the first."""
    rows = await fetch_rows(engine.lend, Statement(engine.sql.statement(_PROGRESS), (shard,)))
    return rows[0][0] if rows else 0


async def commit_page(
    engine: Engine,
    unit: ProjectionUnit,
    *,
    shard: str,
    floor: int,
    ceiling: int,
    dead_letters: Sequence[DeadLetter],
) -> None:
    """Write a unit's queue, dead letters and progress in one transaction.

    Raises:
        ProgressConflictError: the shard doesn't stand at `floor`; nothing was written.
        DatabaseError: PostgreSQL refused a statement, or can't be reached.
    """
    operations = unit.queued.operations
    await see_to_tables(engine, operations)
    statements = [Statement(engine.sql.statement(_ADVANCE), (shard, floor, ceiling))]
    if dead_letters:
        statements.append(_set_aside(engine, dead_letters))
    statements += operation_statements(engine, operations)
    with translate_errors(), _refused_progress(shard, floor):
        async with engine.lend() as connection:
            await run_as_one(connection, statements)


async def read_dead_letters(engine: Engine, shard: str | None) -> list[DeadLetter]:
    """List what a shard, or every shard, has set aside."""
    statement = Statement(engine.sql.statement(_DEAD_LETTERS), (shard, shard))
    return [DeadLetter(*row) for row in await fetch_rows(engine.lend, statement)]


async def discard(engine: Engine, letter: DeadLetter) -> None:
    """Forget a dead letter; it may be gone already."""
    statement = Statement(engine.sql.statement(_DISCARD), (letter.shard, letter.sequence))
    with translate_errors():
        async with engine.lend() as connection:
            await run_as_one(connection, [statement])


async def tear_down(engine: Engine, projection: IProjection) -> None:
    """Delete a projection's documents, progress and dead letters, in one transaction.

    Those of its own version: another one's stay. What it wrote by SQL is its own `teardown(session)` to delete, if it has one.

    Raises:
        DatabaseError: PostgreSQL refused a statement, or can't be reached.
    """
    shard = shard_name(projection)
    statements = [Statement(engine.sql.statement(_FORGET), (shard, shard))]
    for document_type, version in produced_by(projection).items():
        kind = await engine.kept(document_type, version)
        statements.append(Statement(engine.sql.statement(_DELETE_ALL, kind.table)))
    own: Any = getattr(projection, "teardown", None)
    with translate_errors():
        async with engine.lend() as connection, connection.transaction():
            unit = ProjectionUnit(engine, stored_tenant(None), lend=lend_again(connection))
            if own is not None:
                await own(unit)
                await see_to_tables(engine, unit.queued.operations)
            statements += operation_statements(engine, unit.queued.operations)
            for statement in statements:
                await connection.execute(statement.query, statement.parameters)


def _set_aside(engine: Engine, letters: Sequence[DeadLetter]) -> Statement:
    columns = (
        _arrays.texts([letter.shard for letter in letters]),
        _arrays.numbers(letter.sequence for letter in letters),
        _arrays.texts([storable(letter.error_type) for letter in letters]),
        _arrays.texts([storable(letter.message) for letter in letters]),
        _arrays.texts([storable(letter.traceback) for letter in letters]),
    )
    return Statement(engine.sql.statement(_SET_ASIDE), columns)


def storable(text: str) -> str:
    """Replace what PostgreSQL's text can't hold: an error may quote anything."""
    return text.replace("\0", "\\0").encode(errors="replace").decode()


@contextmanager
def _refused_progress(shard: str, floor: int) -> Generator[None]:
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate != "FS006":
            raise
        found = facts_of(error)["found"]
        raise ProgressConflictError(shard, expected=floor, found=found) from error
