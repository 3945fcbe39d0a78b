"""How far shards have come, what they have set aside, and taking them back to nothing."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

import attrs
import psycopg

from flowstore.errors import DocumentsEditedError, ProgressConflictError, ShardEditedError
from flowstore.events import DeadLetter, plain_key
from flowstore.postgres import translate_errors
from flowstore.projections import IProjection, produced_by, shard_name
from flowstore.store import _arrays
from flowstore.store._commit import operation_statements, see_to_tables
from flowstore.store._engine import Engine
from flowstore.store._held import HeldKey, Kept, Relied
from flowstore.store._names import stored_tenant
from flowstore.store._projection_unit import ProjectionUnit
from flowstore.store._queue import DocumentOperation, Operation, StoreDocument, in_batches
from flowstore.store._refusals import facts_of
from flowstore.store._statements import Statement, fetch_rows, lend_again, run_as_one

__all__ = [
    "Claim",
    "claim_shard",
    "commit_page",
    "discard",
    "move_shard",
    "read_dead_letters",
    "read_progress",
    "read_standing",
    "set_aside",
    "storable",
    "tear_down",
]

_PROGRESS: Final = "select sequence from {schema}.progress where shard = %s"
_CLAIM: Final = "select sequence, started, epoch, edits from {schema}.claim_shard(%s)"
_STANDING: Final = "select sequence, started, epoch, edits from {schema}.progress where shard = %s"
_MOVE: Final = "select {schema}.move_shard(%s, %s, %s)"
_ADVANCE: Final = "select {schema}.advance(%s, %s, %s, %s, %s)"
_SET_ASIDE: Final = """
insert into {schema}.dead_letters as d (shard, sequence, error_type, message, traceback)
select n.shard, n.sequence, n.error_type, n.message, n.traceback
from unnest(%s::text[], %s::bigint[], %s::text[], %s::text[], %s::text[])
    as n (shard, sequence, error_type, message, traceback)
order by n.shard, n.sequence
on conflict (shard, sequence) do update set
    error_type = excluded.error_type, message = excluded.message,
    traceback = excluded.traceback, recorded = excluded.recorded"""
# A rebuild's shadow has letters of its own, which are the projection's once it is in place.
_DEAD_LETTERS: Final = """
select shard, sequence, error_type, message, traceback from {schema}.dead_letters
where case when %s::text is null then shard !~ '^shadow [0-9a-f]{{32}} of ' else shard = %s end
order by shard, sequence"""
_DISCARD: Final = "delete from {schema}.dead_letters where shard = %s and sequence = %s"
_FORGET: Final = "delete from {schema}.dead_letters where shard = %s and sequence > %s"
_FEW: Final = 100
"""Documents that are written in one statement with the progress; of more, the way there matters."""
_MOVED: Final = "FS006"
_EDITED: Final = "FS010"
_DOCUMENTS_EDITED: Final = "FS007"
_REFUSED: Final = frozenset({_MOVED, _EDITED, _DOCUMENTS_EDITED})
_DELETE_ALL: Final = "delete from {table}"


async def read_progress(engine: Engine, shard: str) -> int:
    """Give the last sequence whose effects a shard has committed; 0 before the first."""
    rows = await fetch_rows(engine.lend, Statement(engine.sql.statement(_PROGRESS), (shard,)))
    return rows[0][0] if rows else 0


@attrs.frozen
class Claim:
    """Hold what a shard's owner was told when it began; its commits are refused once that changes.

    Attributes:
        sequence: where the shard stood; 0 also for one that has no place yet.
        started: whether it has a place: it was committed, or put somewhere, at least once.
        epoch: counts owners, rewinds and teardowns; None: a commit is guarded by its floor alone.
        edits: counts what was written to its documents beside its pages.
    """

    sequence: int
    started: bool
    epoch: int | None
    edits: int


async def claim_shard(engine: Engine, shard: str) -> Claim:
    """Begin to own a shard: whoever claimed it before can't commit any more."""
    statement = Statement(engine.sql.statement(_CLAIM), (shard,))
    return Claim(*(await fetch_rows(engine.lend, statement))[0])


async def read_standing(engine: Engine, shard: str) -> Claim:
    """Tell where a shard stands without owning it."""
    rows = await fetch_rows(engine.lend, Statement(engine.sql.statement(_STANDING), (shard,)))
    return Claim(*rows[0]) if rows else Claim(0, started=False, epoch=0, edits=0)


async def move_shard(engine: Engine, shard: str, sequence: int) -> None:
    """Put a shard at a sequence, and forget the dead letters above; its owner stops."""
    statements = [
        Statement(engine.sql.statement(_MOVE), (shard, sequence, True)),
        Statement(engine.sql.statement(_FORGET), (shard, sequence)),
    ]
    with translate_errors():
        async with engine.lend() as connection:
            await run_as_one(connection, statements)


async def commit_page(
    engine: Engine,
    unit: ProjectionUnit,
    *,
    shard: str,
    floor: int,
    ceiling: int,
    dead_letters: Sequence[DeadLetter],
    claim: Claim | None,
) -> None:
    """Write a unit's queue, dead letters and progress in one transaction.

    Raises:
        ProgressConflictError: the shard doesn't stand at `floor`, or has another owner than
            `claim` says; nothing was written.
        ShardEditedError: its documents were written to since `claim`; nothing was written.
        DocumentsEditedError: documents that the unit relies on aren't as they were; nothing was
            written.
        DatabaseError: PostgreSQL refused a statement, or can't be reached.
    """
    await see_to_tables(engine, unit.queued.operations)
    owner = (None, None) if claim is None else (claim.epoch, claim.edits)
    advance = (shard, floor, ceiling, *owner)
    few = None if dead_letters else _few_documents(unit)
    with translate_errors(), _refused_progress(shard, floor):
        if few:
            unit.kept = await _write_few(engine, few, unit.relied, advance)
            return
        statements = _page_statements(engine, unit, advance, dead_letters)
        async with engine.lend() as connection:
            await run_as_one(connection, statements)


async def _write_few(
    engine: Engine,
    few: Sequence[StoreDocument],
    relied: Mapping[HeldKey, Relied],
    advance: Sequence[Any],
) -> dict[HeldKey, Kept]:
    """Move the shard and write documents, in one round trip; gives them as they are kept now."""
    stamps = {each.identity: each.stamp for each in relied.values()}
    told = [None if each is None else str(each) for each in advance]
    statement, parameters = engine.documents.advance_and_write(told, few, stamps)
    async with engine.lend() as connection:
        rows = await connection.fetch_raw(statement, parameters)
        encoding = connection.info.encoding
    place = few[0].tenant, few[0].kind.type
    keys = {str(each.identity): (*place, plain_key(each.identity)) for each in few}
    kept: dict[HeldKey, Kept] = {}
    for row in rows:
        identity, text, stamp = [cast("bytes", column).decode(encoding) for column in row]
        kept[keys[identity]] = Kept(text, stamp)
    return kept


def _page_statements(
    engine: Engine, unit: ProjectionUnit, advance: Sequence[Any], dead_letters: Sequence[DeadLetter]
) -> list[Statement]:
    """Make a page's statements, the progress first: whoever else runs this projection waits there."""
    statements = [Statement(engine.sql.statement(_ADVANCE), advance)]
    if dead_letters:
        statements.append(set_aside(engine, dead_letters))
    operations = unit.queued.operations
    if not unit.relied:
        return [*statements, *operation_statements(engine, operations, sole_writer=True)]
    # Table by table, so that also what is only looked at is locked in the order that all keep to.
    for batch, relied in _by_table(operations, unit.relied.values()):
        if relied:
            statements.append(engine.documents.check_unmoved(batch, relied))
        statements += operation_statements(engine, batch, sole_writer=True)
    return statements


def _by_table(
    operations: Sequence[Operation], relied: Iterable[Relied]
) -> list[tuple[Sequence[DocumentOperation], Sequence[Relied]]]:
    """Sort what is written, which is documents alone, and what is relied on, by table and tenant."""
    found: dict[tuple[str, str], tuple[list[DocumentOperation], list[Relied]]] = {}
    for operation in cast("Sequence[DocumentOperation]", operations):
        found.setdefault((operation.kind.table, operation.tenant), ([], []))[0].append(operation)
    for each in relied:
        found.setdefault((each.kind.table, each.tenant), ([], []))[1].append(each)
    return [found[place] for place in sorted(found)]


def _few_documents(unit: ProjectionUnit) -> Sequence[StoreDocument] | None:
    """Give what is queued if it is a few documents to be stored in one table, and nothing else.

    Not with functions that wait for the commit: a statement that commits by itself may have done so
    although its task was cancelled, and nobody would call them.
    """
    queue = unit.queued
    if queue.callbacks or not 0 < len(queue.operations) <= _FEW:
        return None
    first, *others = in_batches(queue.operations)
    if others or not isinstance(first, Sequence):
        return None
    stored = [each for each in first if isinstance(each, StoreDocument) and each.expected is None]
    if len(stored) != len(first):
        return None
    # What is relied on and isn't written is looked at by a statement of its own.
    written = {(each.tenant, each.kind.type, plain_key(each.identity)) for each in stored}
    return stored if unit.relied.keys() <= written else None


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


async def tear_down(engine: Engine, projection: IProjection, place: int | None) -> None:
    """Delete a projection's documents and dead letters, and put it at a place, in one transaction.

    Those of its own version: another one's stay. What it wrote by SQL is its own `teardown(session)`
    to delete, if it has one. Its owner stops. Without a place it begins where its options say.

    Raises:
        DatabaseError: PostgreSQL refused a statement, or can't be reached.
    """
    shard = shard_name(projection)
    statements = [Statement(engine.sql.statement(_FORGET), (shard, -1))]
    for document_type, version in produced_by(projection).items():
        kind = await engine.kept(document_type, version)
        statements.append(Statement(engine.sql.statement(_DELETE_ALL, kind.table)))
    own: Any = getattr(projection, "teardown", None)
    with translate_errors():
        async with engine.lend() as connection, connection.transaction():
            # The progress first, as everybody who writes to a shard does: whoever is at it is
            # waited for, so that what it writes is deleted too.
            move = (shard, place or 0, place is not None)
            await connection.execute(engine.sql.statement(_MOVE), move)
            unit = ProjectionUnit(engine, stored_tenant(None), lend=lend_again(connection))
            if own is not None:
                await own(unit)
                await see_to_tables(engine, unit.queued.operations)
            statements += operation_statements(engine, unit.queued.operations)
            for statement in statements:
                await connection.execute(statement.query, statement.parameters)


def set_aside(engine: Engine, letters: Sequence[DeadLetter]) -> Statement:
    """Make the statement that writes dead letters, each in the place of an earlier one."""
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
        if error.sqlstate not in _REFUSED:
            raise
        if error.sqlstate == _DOCUMENTS_EDITED:
            raise DocumentsEditedError(shard) from error
        facts = facts_of(error)
        if error.sqlstate == _EDITED:
            raise ShardEditedError(shard, facts["edits"]) from error
        raise ProgressConflictError(shard, expected=floor, found=facts["found"]) from error
