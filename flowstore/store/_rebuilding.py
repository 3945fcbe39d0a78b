"""What a rebuild asks of the store: shadows, putting them in place, and holding appends."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final

import attrs
import psycopg
import trio

from flowstore.events import DeadLetter, EventPage
from flowstore.postgres import Connection, translate_errors
from flowstore.projections import IProjection, shard_name
from flowstore.store._commit import operation_statements, see_to_tables
from flowstore.store._document_types import DocumentType
from flowstore.store._engine import Engine
from flowstore.store._feed import Feed, Part
from flowstore.store._part_pages import PartPages
from flowstore.store._parts import ShadowPart, join_parts, open_parts, take_part
from flowstore.store._progress import Claim, set_aside, tear_down
from flowstore.store._projection_unit import ProjectionUnit
from flowstore.store._shadow import Shadow, forget_shadows, open_shadow
from flowstore.store._statements import lend_again

__all__ = ["HeldReplay", "Rebuilding"]

# Each statement has to see what was committed while the one before waited for its locks.
_READ_COMMITTED: Final = "set transaction isolation level read committed"
_HOLD_PROGRESS: Final = "select sequence from {schema}.progress where shard = %s for update"
_MOVE: Final = "select {schema}.move_shard(%s, %s, true)"
# Waits for whoever has appended and keeps appends out; reading goes on.
_HOLD_APPENDS: Final = "lock table {schema}.events in share row exclusive mode"
_SHORTEST_WAIT, _LONGEST_WAIT = 0.25, 4.0
"""Seconds. Appends queue up behind one that waits for the lock: so it doesn't wait long at once."""


@attrs.frozen(eq=False)
class Rebuilding:
    """Rebuild what projections have written without anybody seeing it half done."""

    _engine: Engine = attrs.field(repr=False)

    async def open_shadow(self, projection: IProjection) -> Shadow:
        """Make an empty shadow of a projection, forgetting any that was left over.

        Raises:
            NoShadowError: what it writes can't be kept elsewhere meanwhile.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        return await open_shadow(self._engine, projection)

    async def open_parts(self, shadow: Shadow, count: int, floor: int) -> tuple[ShadowPart, ...]:
        """Cut a shadow that stands at `floor` in parts, for so many processes to fill.

        Raises:
            ProgressConflictError: another rebuild has begun.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        return await open_parts(self._engine, shadow, count, floor)

    def take_part(
        self, projection: IProjection, kinds: Sequence[DocumentType], part: ShadowPart
    ) -> Shadow:
        """Stand for a part of a shadow that another process has opened.

        Args:
            projection: whose shadow it is; one that writes nothing but documents.
            kinds: how those are kept.
            part: what is to be filled.
        """
        return take_part(self._engine, projection, kinds, part)

    async def join_parts(
        self, shadow: Shadow, parts: Sequence[ShadowPart], floor: int, ceiling: int
    ) -> None:
        """Make one of a shadow's parts, all or nothing.

        Args:
            shadow: what they are parts of.
            parts: all of them.
            floor: where they began.
            ceiling: where each stands.

        Raises:
            ProgressConflictError: a part doesn't, or another rebuild has begun.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        await join_parts(self._engine, shadow, parts, floor, ceiling)

    def part_pages(self, projection: IProjection, part: Part, *, max_bytes: int) -> PartPages:
        """Give what reads the events that a projection consumes, of a part of the streams."""
        return PartPages(self._engine, projection, part, max_bytes)

    async def forget_shadows(self, projection: IProjection) -> None:
        """Forget what an interrupted rebuild of a projection may have left.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        await forget_shadows(self._engine, projection)

    async def swap(self, shadow: Shadow, ceiling: int) -> int:
        """Put a shadow in the place of what its projection has written, all or nothing.

        Rows, dead letters and progress change in one transaction, and an owner that runs the shard
        elsewhere can't commit afterwards.

        Args:
            shadow: filled up to `ceiling`.
            ceiling: where the projection's progress will stand.

        An attempt whose reply to COMMIT was lost may be made again: one that was carried out is
        recognised, and then nothing more happens.

        Returns:
            Where the projection's progress stands: above `ceiling` if another owner has brought it
            further meanwhile. Then nothing has happened: fill the shadow up to there.

        Raises:
            ProgressConflictError: another rebuild has begun.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        await shadow.analyze()
        shard = shard_name(shadow.projection)
        with translate_errors():
            async with self._engine.lend() as connection, connection.transaction():
                await connection.execute(_READ_COMMITTED)
                if not await shadow.was_taken_over(connection):
                    held = self._engine.sql.statement(_HOLD_PROGRESS)
                    cursor = await connection.execute(held, (shard,))
                    row = await cursor.fetchone()
                    if row is not None and row[0] > ceiling:
                        return row[0]
                    move = self._engine.sql.statement(_MOVE)
                    await connection.execute(move, (shard, ceiling))
                    await shadow.take_over(connection, ceiling)
        shadow.is_in_place = True
        return ceiling

    def holding_appends(
        self, projection: IProjection, shadow: Shadow | None, floor: int
    ) -> AbstractAsyncContextManager["HeldReplay | None"]:
        """Keep everybody from appending for the block, whose effects are committed at its end.

        Gives None where nothing is left to be done: the shadow was put in place by an earlier
        attempt, whose reply to COMMIT was lost.

        Args:
            projection: what is rebuilt.
            shadow: filled up to `floor`; it is put in place at the end. None: everything that the
                projection has written is deleted at the beginning, which nobody sees before the
                end.
            floor: the progress of the shadow; 0 without one.

        Raises:
            ProgressConflictError: another rebuild has begun.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        return _holding_appends(self._engine, projection, shadow, floor)


@attrs.define(eq=False)
class HeldReplay:
    """Apply events in a transaction that keeps everybody from appending.

    It offers what an `EventStore` offers whoever applies batches.
    """

    _engine: Engine = attrs.field(repr=False)
    _projection: IProjection
    _shadow: Shadow | None
    _progress: int
    _feed: Feed = attrs.field(repr=False)

    async def highest_sequence(self) -> int:
        """Give the highest sequence there is: nothing can still appear below, nor above."""
        return await self._feed.highest_sequence()

    async def fetch_page(self, floor: int, ceiling: int, *, max_bytes: int) -> EventPage:
        """Read the next page of the events that the projection consumes."""
        options = self._projection.async_options
        return await self._feed.fetch_page(
            floor,
            ceiling,
            types=tuple(self._projection.consumes),
            limit=options.page_size,
            max_bytes=max_bytes,
            include_archived=options.include_archived,
        )

    def projection_session(self) -> ProjectionUnit:
        """Begin a unit of work in the transaction."""
        if self._shadow is not None:
            return self._shadow.session_on(self._engine)
        engine = self._engine
        return ProjectionUnit(engine, engine.tenant(None), lend=engine.lend)

    async def commit_batch(
        self,
        session: ProjectionUnit,
        *,
        ceiling: int,
        dead_letters: Sequence[DeadLetter] = (),
        **_of_a_shard: Any,
    ) -> None:
        """Write a unit of work; it is committed with everything else, at the end.

        Raises:
            NoShadowError: the projection does what no shadow can take in.
            DatabaseError: PostgreSQL refused; what came before can still be committed.
        """
        shard = shard_name(self._projection)
        if self._shadow is not None:
            self._shadow.check()
            shard = self._shadow.shard
        operations = session.queued.operations
        await see_to_tables(self._engine, operations)
        statements = list(operation_statements(self._engine, operations))
        letters = [attrs.evolve(letter, shard=shard) for letter in dead_letters]
        if letters:
            statements.append(set_aside(self._engine, letters))
        with translate_errors():
            async with self._engine.lend() as connection, connection.transaction():
                for statement in statements:
                    await connection.execute(statement.query, statement.parameters)
        self._progress = ceiling

    async def standing(self, _projection: Any = None, /) -> Claim:
        """Tell where it stands; nobody can come between."""
        return Claim(self._progress, started=True, epoch=None, edits=0)

    async def call_after_commit(self, _session: ProjectionUnit, /) -> None:
        """Leave out what waits for the commit."""


@asynccontextmanager
async def _holding_appends(
    engine: Engine, projection: IProjection, shadow: Shadow | None, floor: int
) -> AsyncGenerator[HeldReplay | None]:
    if shadow is None:
        async with _appends_held(engine) as connection:
            here = attrs.evolve(engine, lend=lend_again(connection))
            await tear_down(here, projection, None)
            yield HeldReplay(here, projection, None, floor, Feed(here))
        return
    await shadow.analyze()
    async with _appends_held(engine) as connection:
        if await shadow.was_taken_over(connection):
            yield None
        else:
            here = attrs.evolve(shadow.engine, lend=lend_again(connection))
            yield HeldReplay(here, projection, shadow, floor, Feed(here))
            await shadow.take_over(connection, floor)
    shadow.is_in_place = True


@asynccontextmanager
async def _appends_held(engine: Engine) -> AsyncGenerator[Connection]:
    """Lend a connection in a transaction during which nobody can append."""
    with translate_errors():
        async with engine.lend() as connection, AsyncExitStack() as stack:
            wait = _SHORTEST_WAIT
            while not await _held(engine, connection, stack, wait):
                await trio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            yield connection


async def _held(
    engine: Engine, connection: Connection, stack: AsyncExitStack, seconds: float
) -> bool:
    """Begin a transaction with the lock, to be ended by the stack, if it is to be had soon."""
    timeout = f"{seconds * 1000:.0f}ms"
    try:
        async with AsyncExitStack() as attempt:
            await attempt.enter_async_context(connection.transaction())
            await connection.execute(_READ_COMMITTED)
            await connection.execute("select set_config('lock_timeout', %s, true)", (timeout,))
            await connection.execute(engine.sql.statement(_HOLD_APPENDS), ())
            await connection.execute("set local lock_timeout to default")
            stack.push_async_exit(attempt.pop_all())
    except psycopg.errors.LockNotAvailable:
        return False
    return True
