"""Shadows: tables beside a projection's own, filled by a rebuild while the old ones serve."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, LiteralString
from uuid import uuid4

import attrs
import trio
from psycopg import sql as composing

from flowstore.errors import DatabaseError, ProgressConflictError
from flowstore.events import DeadLetter
from flowstore.postgres import Connection, translate_errors
from flowstore.projections import (
    Composite,
    FlatTable,
    IProjection,
    members_of,
    produced_by,
    shard_name,
)
from flowstore.store._engine import Engine
from flowstore.store._merging import Merging
from flowstore.store._progress import Claim, claim_shard, commit_page, read_standing
from flowstore.store._projection_unit import ProjectionUnit
from flowstore.store._schema import lock_schema
from flowstore.store._shadow_unit import NoShadowError, Places, ShadowUnit, shadow_table
from flowstore.store._statements import lend_again

__all__ = ["Shadow", "forget_shadows", "moved_engine", "open_shadow"]

# 32 hexadecimal digits in the middle: whoever still fills a shadow that another rebuild has
# forgotten finds no progress to move, and so writes nothing into the other's tables.
_FORGET_PROGRESS: Final = """
delete from {schema}.progress
where substr(shard, 1, 7) = 'shadow ' and substr(shard, 40) = ' of ' || %s"""
_FORGET_LETTERS: Final = """
delete from {schema}.dead_letters
where substr(shard, 1, 7) = 'shadow ' and substr(shard, 40) = ' of ' || %s"""
_TAKE: Final = """
delete from {schema}.progress where shard = %s and sequence = %s
returning pg_current_xact_id()::text"""
_HOLD: Final = "select from {schema}.progress where shard = %s for update"
_OUTCOME: Final = "select pg_xact_status(%s::xid8)"
_FIND: Final = "select sequence from {schema}.progress where shard = %s"
_CLEAR_LETTERS: Final = "delete from {schema}.dead_letters where shard = %s"
_MOVE_LETTERS: Final = "update {schema}.dead_letters set shard = %s where shard = %s"

_LAST_SECONDS: Final = 5.0
"""To forget a shadow that was being made when somebody stopped waiting for it."""


@attrs.define(eq=False)
class Shadow:
    """Stand for a projection's tables and progress while a rebuild fills them.

    Attributes:
        projection: whose shadow it is.
        shard: the name that its progress and dead letters are kept under meanwhile.
        claim: what owns it.
        engine: the store's, with the shadow's tables in the place of the projection's.
        places: where the projection itself writes.
        refused: what the projection did that no shadow can take in; then nothing is committed.
        is_in_place: it is the projection's view now.
        attempted: the latest transaction that was to put it in place; what became of it the server
            knows, also where its reply to COMMIT was lost.
    """

    projection: IProjection
    shard: str
    claim: Claim
    engine: Engine = attrs.field(repr=False)
    places: Places
    refused: NoShadowError | None = attrs.field(default=None, init=False)
    is_in_place: bool = attrs.field(default=False, init=False)
    attempted: str | None = attrs.field(default=None, init=False)

    # -- filling -----------------------------------------------------------------------------

    def projection_session(self) -> "ShadowUnit":
        """Begin a unit of work on the shadow."""
        return self.session_on(self.engine)

    def session_on(self, engine: Engine) -> "ShadowUnit":
        """Begin a unit of work on the shadow that takes its connections from elsewhere."""
        return ShadowUnit(
            engine,
            engine.tenant(None),
            lend=engine.lend,
            places=self.places,
            refuse=self.refuse,
        )

    async def commit_batch(
        self,
        session: ProjectionUnit,
        *,
        floor: int,
        ceiling: int,
        dead_letters: Sequence[DeadLetter] = (),
        **_of_a_shard: Any,
    ) -> None:
        """Write a unit of work with the shadow's progress, as the store does with a shard's.

        What waits for the commit is left out.

        Raises:
            NoShadowError: the projection does what no shadow can take in.
            ProgressConflictError: another rebuild has begun; nothing was written.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        self.check()
        await commit_page(
            self.engine,
            session,
            shard=self.shard,
            floor=floor,
            ceiling=ceiling,
            dead_letters=[attrs.evolve(letter, shard=self.shard) for letter in dead_letters],
            claim=self.claim,
        )

    async def standing(self, _projection: Any = None, /) -> Claim:
        """Tell where the shadow stands, and who owns it."""
        return await read_standing(self.engine, self.shard)

    async def call_after_commit(self, _session: ProjectionUnit, /) -> None:
        """Leave out what waits for the commit."""

    def refuse(self, reason: str) -> NoShadowError:
        """Keep the reason why this shadow can't be filled, and give it to be raised."""
        self.refused = NoShadowError(self.projection.name, reason)
        return self.refused

    def check(self) -> None:
        """Refuse to commit once the projection did what no shadow can take in.

        Also where it set the refusal aside, as an event that fails or in a handler of its own.

        Raises:
            NoShadowError: it did.
        """
        if self.refused is not None:
            raise self.refused

    # -- taking over -------------------------------------------------------------------------

    async def analyze(self) -> None:
        """Have the planner know the shadow before it is merged, unless that was attempted."""
        if self.attempted is not None:
            return  # it is known, and may be in place already
        with translate_errors():
            async with self.engine.lend() as connection:
                for name in self.places.names:
                    analyze = _on_table("analyze {}", self.engine, shadow_table(name))
                    await connection.execute(analyze)

    async def was_taken_over(self, connection: Connection) -> bool:
        """Tell whether an earlier attempt has put it in place, whose reply to COMMIT was lost.

        Waits for one that the server is still carrying out, and in the caller's transaction nobody
        else puts it in place, or forgets it, from here on.

        Raises:
            ProgressConflictError: another rebuild has forgotten this shadow.
        """
        statement = self.engine.sql.statement
        if (await connection.execute(statement(_HOLD), (self.shard,))).rowcount:
            return False
        if self.attempted is not None:
            cursor = await connection.execute(_OUTCOME, (self.attempted,))
            if await cursor.fetchone() == ("committed",):
                return True
        raise ProgressConflictError(self.shard, expected=self.claim.sequence, found=None)

    async def take_over(self, connection: Connection, ceiling: int) -> None:
        """Make the projection's rows and dead letters those of the shadow, and forget it.

        In the caller's transaction, which has to see to the projection's own progress.

        Raises:
            ProgressConflictError: another rebuild has forgotten this shadow.
        """
        statement = self.engine.sql.statement
        cursor = await connection.execute(statement(_TAKE), (self.shard, ceiling))
        row = await cursor.fetchone()
        if row is None:
            raise ProgressConflictError(self.shard, expected=ceiling, found=None)
        shard = shard_name(self.projection)
        await connection.execute(statement(_CLEAR_LETTERS), (shard,))
        await connection.execute(statement(_MOVE_LETTERS), (shard, self.shard))
        for merging in self._mergings():
            await merging.run(connection)
        await _forget(connection, self.engine, self.projection, self.places)
        (self.attempted,) = row  # all that is left is to commit it

    async def discard(self) -> bool:
        """Forget the shadow, unless another rebuild has done so; tells whether it was still there.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        return await _discard(self.engine, self.projection, self.places, self.shard)

    def _mergings(self) -> list[Merging]:
        documents = [Merging.of_documents(*self._tables(kind.table)) for kind in self.places.kinds]
        rows = [
            Merging(
                *self._tables(table.name),
                keys=self.engine.flat_tables.key_names(table),
                columns=[column.name for column in table.columns],
            )
            for table in self.places.tables
        ]
        return documents + rows

    def _tables(
        self, name: str
    ) -> tuple[composing.Identifier, composing.Identifier, composing.Identifier]:
        """Name a table, its shadow, and one for rows that have to be set aside."""
        names = (name, shadow_table(name), shadow_table(f"rows of {name}"))
        own, beside, kept = (composing.Identifier(self.engine.sql.schema, each) for each in names)
        return own, beside, kept


async def open_shadow(engine: Engine, projection: IProjection) -> Shadow:
    """Make an empty shadow of a projection, forgetting any that an earlier rebuild has left.

    Raises:
        NoShadowError: what the projection writes can't be kept elsewhere meanwhile, or this store
            may not create tables.
        DatabaseError: PostgreSQL refused, or can't be reached.
    """
    if engine.options.auto_create == "none":
        reason = "that takes tables beside it, and auto_create='none' creates nothing"
        raise NoShadowError(projection.name, reason)
    _check(projection)
    places = _places(engine, projection)
    await engine.tables.ensure(places.kinds)
    await engine.flat_tables.ensure(places.tables)
    shard = f"shadow {uuid4().hex} of {shard_name(projection)}"
    try:
        return await _open(engine, projection, places, shard)
    except BaseException:
        # Nobody has the shadow who could discard it. What can't be forgotten within these seconds
        # the next rebuild forgets.
        with trio.move_on_after(_LAST_SECONDS, shield=True), suppress(DatabaseError):
            await _discard(engine, projection, places, shard)
        raise


async def _open(engine: Engine, projection: IProjection, places: Places, shard: str) -> Shadow:
    with translate_errors():
        async with engine.lend() as connection, connection.transaction():
            await lock_schema(connection, engine.sql)
            await _forget(connection, engine, projection, places)
            # Claimed in the transaction that forgets: of two rebuilds that begin at once only the
            # later one's shadow has progress, and only its owner can write to the tables.
            claim = await claim_shard(attrs.evolve(engine, lend=lend_again(connection)), shard)
    beside = moved_engine(engine, places)
    await beside.tables.ensure([beside.catalogue.describe(kind.type) for kind in places.kinds])
    await beside.flat_tables.ensure(
        [attrs.evolve(table, name=shadow_table(table.name)) for table in places.tables]
    )
    return Shadow(projection, shard, claim, beside, places)


async def _discard(engine: Engine, projection: IProjection, places: Places, shard: str) -> bool:
    """Forget a shadow, unless another rebuild has done so; tells whether it was still there."""
    with translate_errors():
        async with engine.lend() as connection, connection.transaction():
            await lock_schema(connection, engine.sql)
            cursor = await connection.execute(engine.sql.statement(_FIND), (shard,))
            if was_there := cursor.rowcount > 0:
                await _forget(connection, engine, projection, places)
    return was_there


async def forget_shadows(engine: Engine, projection: IProjection) -> None:
    """Forget what an interrupted rebuild of a projection may have left.

    Raises:
        DatabaseError: PostgreSQL refused, or can't be reached.
    """
    with translate_errors():
        async with engine.lend() as connection, connection.transaction():
            await lock_schema(connection, engine.sql)
            await _forget(connection, engine, projection, _places(engine, projection))


def _check(projection: IProjection) -> None:
    """Refuse a projection of which it is known from the start that a shadow can't take it in."""
    for member in members_of(projection):
        reason = None
        if isinstance(member, FlatTable):
            continue
        if member.produces is None:
            reason = "it produces no documents, so nobody knows where it writes"
        elif hasattr(member, "teardown"):
            reason = "it has a teardown of its own, so it writes more than its documents"
        if reason is not None:
            of = f"{member.name!r}: " if isinstance(projection, Composite) else ""
            raise NoShadowError(projection.name, of + reason)


def _places(engine: Engine, projection: IProjection) -> Places:
    """List where a projection's documents and rows are kept."""
    members = members_of(projection)
    return Places(
        tuple(engine.catalogue.describe(kind) for kind in produced_by(projection)),
        tuple(member.table for member in members if isinstance(member, FlatTable)),
    )


def moved_engine(engine: Engine, places: Places) -> Engine:
    """Make an engine that keeps some documents in the shadows of their tables.

    What is known of tables that exist is its own: shadows come and go.
    """
    moved = {kind.type: shadow_table(kind.table) for kind in places.kinds}
    return attrs.evolve(
        engine,
        catalogue=engine.catalogue.moved(moved),
        tables=attrs.evolve(engine.tables),
        flat_tables=attrs.evolve(engine.flat_tables),
    )


async def _forget(
    connection: Connection, engine: Engine, projection: IProjection, places: Places
) -> None:
    shard = shard_name(projection)
    for query in (_FORGET_PROGRESS, _FORGET_LETTERS):
        await connection.execute(engine.sql.statement(query), (shard,))
    for name in places.names:
        await connection.execute(_on_table("drop table if exists {}", engine, shadow_table(name)))


def _on_table(template: LiteralString, engine: Engine, name: str) -> bytes:
    return composing.SQL(template).format(composing.Identifier(engine.sql.schema, name)).as_bytes()
