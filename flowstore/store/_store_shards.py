"""What a daemon asks of a store about a projection: whose its shard is, and to keep its work."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from flowstore.events import DeadLetter
from flowstore.projections import IProjection, produced_by, shard_name
from flowstore.store._durability import durability_warnings
from flowstore.store._engine import Engine
from flowstore.store._leases import LeaseSession, end_commits, is_leased, open_leases
from flowstore.store._progress import (
    Claim,
    claim_shard,
    commit_page,
    move_shard,
    read_standing,
    tear_down,
)
from flowstore.store._projection_unit import ProjectionUnit
from flowstore.store._queue import Queue
from flowstore.store._rebuilding import Rebuilding
from flowstore.store._session import run_callbacks

__all__ = ["StoreShards"]


class StoreShards:
    """Say whose a projection's shard is, and keep what its owner makes of events.

    A face of `EventStore`, which keeps what it needs.
    """

    __slots__ = ()

    dsn: str
    _engine: Engine

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
            DocumentsEditedError: a document that the session had kept was written to by somebody
                else: load again, apply again, commit again; nothing was written.
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

    async def durability_warnings(self) -> tuple[str, ...]:
        """Tell which of the server's settings let a crash take back what was committed.

        Returns:
            For each of fsync, full_page_writes and synchronous_commit that is off a sentence that
            names it and what may happen; nothing on a server that keeps what it was given.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        return await durability_warnings(self._engine)
