"""Applying an event once more that a shard has set aside."""

from collections.abc import Callable
from typing import Any, Final

from flowstore.errors import InvalidEventError
from flowstore.events import DeadLetter, Event, group_by_stream_id
from flowstore.postgres import Connection, translate_errors
from flowstore.projections import IProjection, apply_projection
from flowstore.store._commit import operation_statements, see_to_tables
from flowstore.store._engine import Engine
from flowstore.store._names import stored_tenant
from flowstore.store._projection_unit import ProjectionUnit
from flowstore.store._rows import decode_row
from flowstore.store._statements import lend_again

__all__ = ["event_gone", "retry"]

_TAKE: Final = """
delete from {schema}.dead_letters where shard = %s and sequence = %s returning sequence"""
# Held until the commit: meanwhile the shard can't commit a page. The progress before the letter, as
# everybody who writes to a shard does.
_HOLD_SHARD: Final = "select sequence from {schema}.progress where shard = %s for update"
# A page that was loaded before this commit, and comes after it, is refused and applied again: it has
# not seen what is written here.
_EDIT: Final = "update {schema}.progress set edits = edits + 1 where shard = %s"
_EVENT: Final = """
select e.skipped, {event_columns} from {schema}.events e where e.sequence = %s"""


async def retry(
    engine: Engine, projection: IProjection, letter: DeadLetter
) -> list[Callable[[], Any]]:
    """Apply a letter's event and discard the letter, both or neither.

    Returns:
        What waits for the commit, which is done.

    Raises:
        InvalidEventError: the event is gone, or its data doesn't fit its type.
        UnknownEventTypeError: its stored type is not known.
        Exception: whatever the projection raises.
    """
    with translate_errors():
        async with engine.lend() as connection, connection.transaction():
            await connection.execute(engine.sql.statement(_HOLD_SHARD), (letter.shard,))
            place = (letter.shard, letter.sequence)
            cursor = await connection.execute(engine.sql.statement(_TAKE), place)
            if await cursor.fetchone() is None:
                return []  # discarded, or retried by somebody else
            event = await _read(engine, connection, letter)
            if event is None:
                return []
            await connection.execute(engine.sql.statement(_EDIT), (letter.shard,))
            return await _apply(engine, connection, projection, event)


async def _read(engine: Engine, connection: Connection, letter: DeadLetter) -> Event | None:
    """Read a letter's event; None if it is to be skipped."""
    query = engine.sql.statement(_EVENT)
    cursor = await connection.execute(query, (letter.sequence,), binary=True)
    row = await cursor.fetchone()
    if row is None:
        raise event_gone(letter)
    is_skipped, *columns = row
    return None if is_skipped else decode_row(engine.codec, columns)


def event_gone(letter: DeadLetter) -> InvalidEventError:
    """Make the error about a letter whose event isn't stored any more."""
    return InvalidEventError(
        f"the event with sequence {letter.sequence}, which shard {letter.shard!r} has set aside,"
        " is gone: its stream was compacted; discard the letter"
    )


async def _apply(
    engine: Engine, connection: Connection, projection: IProjection, event: Event
) -> list[Callable[[], Any]]:
    tenant = stored_tenant(event.tenant_id)
    unit = ProjectionUnit(engine, tenant, lend=lend_again(connection))
    await apply_projection(projection, unit, group_by_stream_id([event]))
    operations = unit.queued.operations
    await see_to_tables(engine, operations)
    for statement in operation_statements(engine, operations):
        await connection.execute(statement.query, statement.parameters)
    return unit.queued.callbacks
