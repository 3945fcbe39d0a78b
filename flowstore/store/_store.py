"""The store: an open schema, its sessions, and what a daemon asks of it."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any

import attrs

from flowstore.events import DeadLetter, EventPage
from flowstore.postgres import Connection, redact
from flowstore.projections import IProjection, produced_by, shard_name
from flowstore.store._durability import durability_warnings
from flowstore.store._feed import OpenAppend
from flowstore.store._leases import LeaseSession, end_commits, is_leased, open_leases
from flowstore.store._new_events import EventMarks
from flowstore.store._progress import (
    Claim,
    claim_shard,
    commit_page,
    move_shard,
    read_progress,
    read_standing,
    tear_down,
)
from flowstore.store._projection_unit import ProjectionUnit
from flowstore.store._queue import Queue
from flowstore.store._rebuilding import Rebuilding
from flowstore.store._session import Session, open_session, run_callbacks
from flowstore.store._signals import Signals
from flowstore.store._upkeep import StoreUpkeep

__all__ = ["EventStore"]


@attrs.frozen(eq=False, repr=False)
class EventStore(StoreUpkeep):
    """Give sessions to write and read with, and a daemon what it needs.

    Open one with `open_event_store`. Any number of tasks may use it at once.

    Attributes:
        dsn: where the database is, as it was opened; may hold a password.
        options: what the store was told.
    """

    _signals: Signals

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {redact(self.dsn)!r} schema={self.options.schema!r}>"

    # -- applications ----------------------------------------------------------------------------

    def session(
        self,
        *,
        tenant_id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        user_name: str | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> Session:
        """Begin a unit of work; asks the database nothing.

        Args:
            tenant_id: whose streams and documents it sees and writes; stores with conjoined
                tenancy only.
            correlation_id: what its events belong to; None takes, where OpenTelemetry is
                installed, the id of the trace that each is queued in.
            causation_id: what causes its events.
            user_name: who causes its events.
            headers: anything else to be recorded with each event, as JSON values by name.

        Raises:
            InvalidTenantError: a tenant in a store of a single tenant, or one that can't be stored.
        """
        marks = EventMarks(correlation_id, causation_id, user_name, dict(headers or {}))
        return open_session(self._engine, tenant_id, marks)

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """Lend a connection of the pool for the block, with psycopg's API and errors.

        It commits each statement by itself outside `transaction()`. One that idles in a
        transaction for a minute is ended by the server.
        """
        return self._engine.lend()

    async def progress(self, name_or_type: Any) -> int:
        """Give the last sequence whose effects a projection has committed.

        Args:
            name_or_type: its name, the document type it produces, its class, or itself.

        Returns:
            0 before the first commit, and for projections that don't run in a daemon.

        Raises:
            UnknownProjectionError: there is no such projection.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        return await read_progress(self._engine, self._shard(name_or_type))

    # -- reading in order ------------------------------------------------------------------------

    async def high_water(self, *, leading_edge_buffer: float = 0.0) -> int:
        """Give the sequence at or below which nothing unseen can still appear.

        Read up to it in a later statement: only a snapshot taken afterwards has everything. An
        append under way holds it, and nothing else does; it never goes back.

        Args:
            leading_edge_buffer: leave out what was recorded less than so many seconds ago, by the
                database's clock.

        Raises:
            DatabaseError: the server is a replica, or its transactions aren't READ COMMITTED
                (SQLSTATE FS005); or PostgreSQL refused, or can't be reached.
        """
        return await self._feed.high_water(leading_edge_buffer)

    async def highest_sequence(self) -> int:
        """Give the highest sequence that is visible; 0 in an empty store.

        It is no mark to read up to: a lower one may still appear.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        return await self._feed.highest_sequence()

    async def sequence_before(self, when: datetime) -> int:
        """Give the highest sequence recorded before an aware time; 0 if there is none.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        return await self._feed.sequence_before(when)

    async def open_appends(self) -> list[OpenAppend]:
        """List the transactions that hold the high-water mark, the lowest first.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        return await self._feed.open_appends()

    async def durability_warnings(self) -> tuple[str, ...]:
        """Tell which of the server's settings let a crash take back what was committed.

        Returns:
            For each of fsync, full_page_writes and synchronous_commit that is off a sentence that
            names it and what may happen; nothing on a server that keeps what it was given.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        return await durability_warnings(self._engine)

    async def fetch_page(
        self,
        floor: int,
        mark: int,
        *,
        types: Sequence[type] = (),
        limit: int = 500,
        max_bytes: int | None = None,
        include_archived: bool = False,
    ) -> EventPage:
        """Read events of all tenants in the order of their sequence.

        Args:
            floor: read after this sequence; exclusive.
            mark: read up to this sequence, inclusive; not above a high-water mark that was asked
                for earlier.
            types: the event types wanted, passing over all others; empty: every one.
            limit: most events to read; at least 1.
            max_bytes: most bytes of JSON to read, of data and headers; the server counts them. An
                event that is larger comes alone. None: no bound.
            include_archived: read events of archived streams too.

        Returns:
            A page whose ceiling is the last event's sequence if a bound was reached, else `mark`.
            What can't be decoded is among its failures.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        return await self._feed.fetch_page(
            floor,
            mark,
            types=types,
            limit=limit,
            max_bytes=max_bytes,
            include_archived=include_archived,
        )

    async def look(
        self,
        floor: int,
        *,
        leading_edge_buffer: float = 0.0,
        types: Sequence[type] = (),
        limit: int = 500,
        max_bytes: int | None = None,
        include_archived: bool = False,
    ) -> tuple[int, EventPage]:
        """Give the high-water mark with the page above a floor, in one round trip.

        For whoever has read everything up to the floor and waits for what comes next.

        Args:
            floor: read after this sequence; exclusive.
            leading_edge_buffer: as `high_water` takes it.
            types: as `fetch_page` takes them, like those that follow.
            limit: most events to read; at least 1.
            max_bytes: most bytes of JSON to read; None: no bound.
            include_archived: read events of archived streams too.

        Returns:
            What `high_water` gives, and what `fetch_page` gives up to there.

        Raises:
            DatabaseError: as `high_water` and `fetch_page` do.
        """
        return await self._feed.look(
            floor,
            leading_edge_buffer,
            types=types,
            limit=limit,
            max_bytes=max_bytes,
            include_archived=include_archived,
        )

    # -- owning a shard --------------------------------------------------------------------------

    async def claim(self, projection: IProjection) -> Claim:
        """Begin to own a projection's shard: commits of whoever claimed it before are refused.

        Returns:
            Where it stands, and what `commit_batch` takes to know its owner by.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        return await claim_shard(self._engine, shard_name(projection))

    async def standing(self, projection: IProjection) -> Claim:
        """Tell where a projection's shard stands, without owning it.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        return await read_standing(self._engine, shard_name(projection))

    async def rewind(self, projection: IProjection, sequence: int) -> None:
        """Put a projection's shard at a sequence: delivery starts again at the one after it.

        Documents stay; dead letters above the sequence are forgotten, as their events come again.
        Whoever owns the shard can't commit any more.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        await move_shard(self._engine, shard_name(projection), sequence)

    def leases(self) -> AbstractAsyncContextManager[LeaseSession]:
        """Open a connection that holds leases of shards while the block runs.

        Raises:
            DatabaseError: PostgreSQL can't be reached.
        """
        return open_leases(self._engine, self.dsn)

    async def is_leased(self, projection: IProjection) -> bool:
        """Tell whether a process that shares its shards with others runs a projection.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        return await is_leased(self._engine, shard_name(projection))

    async def end_commits(self, projection: IProjection) -> int:
        """End the connections that are in the middle of committing a page of a claimed shard.

        For whoever has its lease: a former owner that is frozen there would keep it standing.

        Returns:
            How many there were.

        Raises:
            DatabaseError: they belong to another role, or PostgreSQL can't be reached.
        """
        return await end_commits(self._engine, shard_name(projection))

    # -- committing a projection's work ----------------------------------------------------------

    def projection_session(
        self, tenant_id: str | None = None, *, projection: IProjection | None = None
    ) -> ProjectionUnit:
        """Begin a unit of work that only `commit_batch` commits.

        Args:
            tenant_id: whose documents it begins with; stores with conjoined tenancy only.
            projection: whose unit it is: what it produces is loaded from, and stored in, the tables
                of its own version. None takes those of the registered versions.

        Raises:
            InvalidTenantError: a tenant in a store of a single tenant, or one that can't be stored.
        """
        versions = {} if projection is None else produced_by(projection)
        engine = self._engine.with_versions(versions)
        return ProjectionUnit(engine, engine.tenant(tenant_id), Queue(), lend=engine.lend)

    async def commit_batch(
        self,
        session: ProjectionUnit,
        *,
        shard: str,
        floor: int,
        ceiling: int,
        dead_letters: Sequence[DeadLetter] = (),
        rebuilding: bool = False,
        claim: Claim | None = None,
    ) -> None:
        """Write a unit of work, dead letters and progress, all or none.

        Args:
            session: what the projection queued.
            shard: the name that its progress is kept under.
            floor: where the progress must stand; a shard without progress stands at 0.
            ceiling: where it stands afterwards.
            dead_letters: what is set aside.
            rebuilding: leave out what waits for the commit (`after_commit`).
            claim: what the shard's owner was told; None guards by the floor alone.

        Raises:
            ProgressConflictError: somebody has moved the shard, or owns it by now; nothing was
                written.
            ShardEditedError: a dead letter was retried since the claim: load again, apply again,
                and commit with the claim's `edits` as the error tells them; nothing was written.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        await commit_page(
            self._engine,
            session,
            shard=shard,
            floor=floor,
            ceiling=ceiling,
            dead_letters=dead_letters,
            claim=claim,
        )
        if not rebuilding:
            await run_callbacks(session.queued.callbacks)

    async def call_after_commit(self, session: ProjectionUnit) -> None:
        """Call what waits for a unit's commit, of which `commit_batch` couldn't tell that it was.

        For whoever found out by the progress that a commit happened whose reply was lost.
        """
        await run_callbacks(session.queued.callbacks)

    async def teardown(self, projection: IProjection, *, place: int | None = None) -> None:
        """Delete a projection's documents, progress and dead letters, in one transaction.

        Those of the version that the projection says, registered or not: so it takes away what an
        old version has left, as `store.teardown(aggregate_projection(Issue, version=1))`. What it
        wrote by SQL stays, unless it has an `async teardown(session)`. Whoever owns the
        shard can't commit any more.

        Args:
            projection: whose work it is.
            place: the sequence that delivery starts again after; None: where the projection's
                `start_from` says, as if it had never run.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        await tear_down(self._engine, projection, place)

    @property
    def rebuilding(self) -> Rebuilding:
        """What a rebuild needs beside it, so that nobody sees a view that is half done."""
        return Rebuilding(self._engine)

    # -- waking up -------------------------------------------------------------------------------

    def notify(self) -> None:
        """Wake those who wait for appends, here at once and in other processes soon.

        Sessions do this after their commits.
        """
        self._signals.notify()

    def listening(self) -> AbstractAsyncContextManager[None]:
        """Hear of other processes' appends too, while the block runs, on a connection of its own.

        A connection that is lost is opened again.
        """
        return self._signals.listening()

    @property
    def appends_heard(self) -> int:
        """How often this store was told of appends, by itself or by other processes.

        Compare it with what it was before a look: an append that nobody waited for, because it
        came during the look, is no reason to wait for the next one.
        """
        return self._signals.heard

    async def wait_for_appends(self, timeout: float) -> None:  # noqa: ASYNC109 - its meaning
        """Return when something was appended, or after `timeout` seconds.

        A hint and no more: notifications of other processes may be lost, and what was appended
        before this call is for `appends_heard` to tell.
        """
        await self._signals.wait(timeout)
