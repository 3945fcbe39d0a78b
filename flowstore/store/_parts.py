"""Filling one shadow by several processes: each reads a part of the streams, with progress of its own.

All write to the same shadow tables. What one of them commits is guarded by its own progress, which is
gone once another rebuild has begun, or once the parts have become one: whoever is late writes nothing.
"""

from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import attrs

from flowstore.errors import ProgressConflictError
from flowstore.postgres import Connection, translate_errors
from flowstore.projections import IProjection, shard_name
from flowstore.store._document_types import DocumentType
from flowstore.store._engine import Engine
from flowstore.store._feed import Part
from flowstore.store._progress import Claim, claim_shard
from flowstore.store._schema import lock_schema
from flowstore.store._shadow import Shadow, moved_engine
from flowstore.store._shadow_unit import Places
from flowstore.store._statements import lend_again

__all__ = ["ShadowPart", "join_parts", "open_parts", "take_part"]

_HOLD: Final = "select sequence, epoch from {schema}.progress where shard = %s for update"
_MOVE: Final = "select {schema}.move_shard(%s, %s, true)"
_TAKE: Final = """
delete from {schema}.progress where shard = any(%s::text[]) and sequence = %s returning shard"""
_MOVE_LETTERS: Final = "update {schema}.dead_letters set shard = %s where shard = any(%s::text[])"
_ADVANCE: Final = "select {schema}.advance(%s, %s, %s, %s, %s)"


@attrs.frozen
class ShadowPart:
    """Say what one process has to do for a shadow.

    Attributes:
        part: which streams it reads.
        shard: the name that its progress and dead letters are kept under.
        claim: what owns that.
    """

    part: Part
    shard: str
    claim: Claim


async def open_parts(
    engine: Engine, shadow: Shadow, count: int, floor: int
) -> tuple[ShadowPart, ...]:
    """Cut a shadow that stands at `floor` in so many parts, each with progress of its own.

    Raises:
        ProgressConflictError: another rebuild has begun.
        DatabaseError: PostgreSQL refused, or can't be reached.
    """
    name = shard_name(shadow.projection)
    with translate_errors():
        async with engine.lend() as connection, connection.transaction():
            # Who forgets shadows holds this too: these can't be made between its look and its end.
            await lock_schema(connection, engine.sql)
            await _hold(engine, connection, shadow, floor)
            here = attrs.evolve(engine, lend=lend_again(connection))
            parts: list[ShadowPart] = []
            for number in range(count):
                shard = f"shadow {uuid4().hex} of {name}"
                await connection.execute(engine.sql.statement(_MOVE), (shard, floor))
                claim = await claim_shard(here, shard)
                parts.append(ShadowPart(Part(number, count), shard, claim))
    return tuple(parts)


async def join_parts(
    engine: Engine, shadow: Shadow, parts: Sequence[ShadowPart], floor: int, ceiling: int
) -> None:
    """Make one of a shadow's parts, which have all come from `floor` to `ceiling`.

    Joined already, nothing happens: a reply to COMMIT may have been lost.

    Raises:
        ProgressConflictError: a part doesn't stand there, or another rebuild has begun; nothing
            was written.
        DatabaseError: PostgreSQL refused, or can't be reached.
    """
    statement = engine.sql.statement
    shards = [each.shard for each in parts]
    with translate_errors():
        async with engine.lend() as connection, connection.transaction():
            if await _hold(engine, connection, shadow, floor, ceiling) == ceiling:
                return
            cursor = await connection.execute(statement(_TAKE), (shards, ceiling))
            taken = {shard for (shard,) in await cursor.fetchall()}
            for shard in shards:
                if shard not in taken:
                    raise ProgressConflictError(shard, expected=ceiling, found=None)
            await connection.execute(statement(_MOVE_LETTERS), (shadow.shard, shards))
            owner = (shadow.claim.epoch, shadow.claim.edits)
            await connection.execute(statement(_ADVANCE), (shadow.shard, floor, ceiling, *owner))


async def _hold(engine: Engine, connection: Connection, shadow: Shadow, *places: int) -> int:
    """Hold a shadow's own progress until the transaction ends, and tell where it stands."""
    cursor = await connection.execute(engine.sql.statement(_HOLD), (shadow.shard,))
    row = await cursor.fetchone()
    if row is None or row[0] not in places or row[1] != shadow.claim.epoch:
        found = None if row is None else row[0]
        raise ProgressConflictError(shadow.shard, expected=places[0], found=found)
    return row[0]


def take_part(
    engine: Engine, projection: IProjection, kinds: Sequence[DocumentType], part: ShadowPart
) -> Shadow:
    """Stand for a part of a shadow that another process has opened."""
    places = Places(tuple(kinds), ())
    return Shadow(projection, part.shard, part.claim, moved_engine(engine, places), places)
