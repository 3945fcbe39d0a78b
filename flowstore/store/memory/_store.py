"""The store in memory, as applications see it but for the daemon."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from random import Random
from typing import Any, NoReturn
from uuid import UUID

import attrs

from flowstore.events import DeadLetter, Event, EventPage, StreamId
from flowstore.projections import IProjection, produced_by, shard_name
from flowstore.store._bulk import DocumentSource, OnConflict
from flowstore.store._files import ExportTarget, ImportSource, read_parts
from flowstore.store._leases import LeaseSession
from flowstore.store._new_events import EventMarks
from flowstore.store._options import StoreOptions
from flowstore.store._progress import Claim
from flowstore.store._projection_unit import ProjectionUnit
from flowstore.store._queue import Queue
from flowstore.store._rebuilding import Rebuilding
from flowstore.store._session import Session, run_callbacks
from flowstore.store._store import EventStore
from flowstore.store.memory._bulk import insert_all
from flowstore.store.memory._database import MemoryDatabase
from flowstore.store.memory._errors import NotInMemoryError
from flowstore.store.memory._feed import MemoryFeed
from flowstore.store.memory._leases import end_commits, is_leased, open_leases
from flowstore.store.memory._opening import memory_engine
from flowstore.store.memory._progress import MemoryShards
from flowstore.store.memory._rebuilding import MemoryRebuilding
from flowstore.store.memory._rows import DocumentRows, documents_of, rows_of
from flowstore.store.memory._session import hold_append, open_memory_session
from flowstore.store.memory._sessions import MemoryUnit, ReadsFrom
from flowstore.store.memory._steps import Pause, give_way
from flowstore.store.memory._upkeep import export_all, import_all, mask, skip

__all__ = ["MemoryEventStore"]


@attrs.frozen(eq=False, repr=False, init=False)
class MemoryEventStore(EventStore):
    """Keep streams and documents in memory, by the rules of PostgreSQL.

    What commits, what is refused and what a reader sees at which moment is as in a database:
    sequences are drawn before the commit, those of a failed one leave holes, a later one may
    become visible before an earlier one, and the high-water mark stays below whoever has drawn
    and not committed. Streams and documents are locked from the first write to the commit. Events
    and documents are kept as JSON. Only SQL is refused, with `NotInMemoryError`.

    There is nothing to open and nothing to close.

    Attributes:
        dsn: the word "memory".
        options: what the store was told.
        database: what it keeps; give it to another store, and they share it as two processes
            share a database.
    """

    database: MemoryDatabase
    _pause: Pause
    _shards: MemoryShards

    def __init__(
        self,
        options: StoreOptions | None = None,
        *,
        database: MemoryDatabase | None = None,
        pause: Pause = give_way,
        random: Random | None = None,
    ) -> None:
        """Make a store.

        Args:
            options: how events and documents are kept, and the projections.
            database: what is shared with other stores; None makes a new one.
            pause: awaited with the name of each step of a commit. It may wait, which holds the
                commit open there; or raise, which is the commit's failure: rolled back at any
                step but "committed", where it stands and only the answer is lost. What waits at
                "committed" can't be cancelled.
            random: where event ids come from, beside the database's clock; a seeded one gives
                the same ids again.

        Raises:
            RegistrationError: a projection produces a class that can't be a document, or keeps a
                table that this store can't keep.
        """
        options = options or StoreOptions()
        database = database or MemoryDatabase()
        engine = memory_engine(options, database, random or Random())  # noqa: S311  no secrets
        self.__attrs_init__(  # type: ignore[attr-defined]
            "memory",
            options,
            engine,
            MemoryFeed(engine, database=database),
            database.signals,
            database,
            pause,
            MemoryShards(engine, database, pause),
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

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
        """Begin a unit of work, as `EventStore.session` does."""
        marks = EventMarks(correlation_id, causation_id, user_name, dict(headers or {}))
        return open_memory_session(self._engine, self.database, self._pause, tenant_id, marks)

    @asynccontextmanager
    async def open_append(
        self, stream_id: StreamId, /, *events: Any, tenant_id: str | None = None
    ) -> AsyncGenerator[Sequence[Event]]:
        """Hold an append open while the block runs: its numbers are drawn and nothing is visible.

        It is committed at the block's end, and rolled back by an error in it, which leaves holes
        in the sequence. Yields the events with their places.

        Args:
            stream_id: the stream's identity.
            *events: the application's values, or `NewEvent`s; at least one.
            tenant_id: whose stream it is; stores with conjoined tenancy only.

        Raises:
            FlowstoreError: what `save_changes` raises.
        """
        engine = self._engine
        async with hold_append(
            engine, self.database, self._pause, stream_id, events, tenant_id=tenant_id
        ) as placed:
            yield placed
        engine.appended()

    def connection(self) -> NoReturn:
        """Refuse: there is no connection to lend.

        Raises:
            NotInMemoryError: always.
        """
        raise NotInMemoryError(
            "there is no database here to connect to: open a store on PostgreSQL"
        )

    async def progress(self, name_or_type: Any) -> int:
        """Give the last sequence whose effects a projection has committed."""
        await self.database.round_trip()
        return self._shards.standing(self._shard(name_or_type)).sequence

    def document_rows(self, document_type: type, version: int = 1) -> DocumentRows:
        """Name the table in `database` that keeps the documents of a class.

        Args:
            document_type: the class.
            version: of the projection that makes them.

        Raises:
            RegistrationError: the class can't be a document.
        """
        return documents_of(self._engine.kind_of(document_type, version))

    def table_rows(self, name: str) -> list[dict[str, Any]]:
        """Give the rows of a registered flat table, by their keys' text.

        Each by column name, the key among them, and `tenant_id` where tenants share the table.

        Args:
            name: the table's.

        Raises:
            NotInMemoryError: no registered projection keeps such a table.
        """
        for table in self.options.projections.tables():
            if table.name == name:
                break
        else:
            raise NotInMemoryError(f"no registered projection keeps a flat table {name!r}")
        by_tenant = self._engine.flat_tables.by_tenant
        return [
            {**({"tenant_id": tenant} if by_tenant else {}), table.key.name: key, **row}
            for (tenant, key), row in sorted(self.database.scan(rows_of(table)), key=_by_key)
        ]

    # -- owning a shard --------------------------------------------------------------------------

    async def claim(self, projection: IProjection) -> Claim:
        """Begin to own a projection's shard: commits of whoever claimed it before are refused."""
        return await self._shards.claim(shard_name(projection))

    async def standing(self, projection: IProjection) -> Claim:
        """Tell where a projection's shard stands, without owning it."""
        await self.database.round_trip()
        return self._shards.standing(shard_name(projection))

    async def rewind(self, projection: IProjection, sequence: int) -> None:
        """Put a projection's shard at a sequence: delivery starts again at the one after it."""
        await self._shards.rewind(shard_name(projection), sequence)

    def leases(self) -> AbstractAsyncContextManager[LeaseSession]:
        """Hold leases of shards, among the stores that share the database, while the block runs."""
        return open_leases(self.database)

    async def is_leased(self, projection: IProjection) -> bool:
        """Tell whether a process that shares its shards with others runs a projection."""
        return await is_leased(self.database, shard_name(projection))

    async def end_commits(self, projection: IProjection) -> int:
        """End whoever is in the middle of committing a page of a claimed shard."""
        return await end_commits(self.database, shard_name(projection))

    # -- committing a projection's work ----------------------------------------------------------

    def projection_session(
        self, tenant_id: str | None = None, *, projection: IProjection | None = None
    ) -> ProjectionUnit:
        """Begin a unit of work that only `commit_batch` commits."""
        engine = self._engine.with_versions({} if projection is None else produced_by(projection))
        tenant = engine.tenant(tenant_id)
        return MemoryUnit(engine, tenant, Queue(), lend=ReadsFrom(self.database))

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
        """Write a unit of work, dead letters and progress, all or none."""
        await self._shards.commit(
            session,
            shard=shard,
            floor=floor,
            ceiling=ceiling,
            dead_letters=dead_letters,
            claim=claim,
        )
        if not rebuilding:
            await run_callbacks(session.queued.callbacks)

    async def teardown(self, projection: IProjection, *, place: int | None = None) -> None:
        """Delete a projection's documents, progress and dead letters, in one transaction."""
        await self._shards.tear_down(projection, place)

    @property
    def rebuilding(self) -> Rebuilding:
        """What a rebuild needs beside it: in memory, nothing."""
        return MemoryRebuilding(self._engine)

    # -- waking up -------------------------------------------------------------------------------

    async def durability_warnings(self) -> tuple[str, ...]:
        """Tell of no settings: nobody takes memory for durable."""
        await self.database.round_trip()
        return ()

    def listening(self) -> AbstractAsyncContextManager[None]:
        """Hear of the appends of those who share the database, which one does anyway."""
        return nullcontext()

    # -- upkeep ----------------------------------------------------------------------------------

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
        """Give the high-water mark with the page above a floor, one after the other."""
        mark = await self.high_water(leading_edge_buffer=leading_edge_buffer)
        page = await self.fetch_page(
            floor,
            mark,
            types=types,
            limit=limit,
            max_bytes=max_bytes,
            include_archived=include_archived,
        )
        return mark, page

    async def import_events(self, source: ImportSource, *, tenant_id: str | None = None) -> int:
        """Store events from elsewhere, all of them or none, in the order of their source."""
        self._engine.tenant(tenant_id)
        async with aclosing(read_parts(self._engine, tenant_id, source)) as parts:
            count = await import_all(self.database, self._pause, parts)
        if count:
            self._engine.appended()
        return count

    async def _insert_all(
        self, tenant: str, documents: DocumentSource, on_conflict: OnConflict
    ) -> int:
        return await insert_all(
            self._engine, self.database, self._pause, tenant, documents, on_conflict=on_conflict
        )

    async def export_events(self, target: ExportTarget) -> int:
        """Write every event below the high-water mark as a line of JSON, in sequence order."""
        return await export_all(self.database, target, await self.high_water())

    async def mask_stream(self, stream_id: StreamId, *, tenant_id: str | None = None) -> int:
        """Take personal data out of a stream's events, for good, by the rules of the options."""
        checked, tenant = self._engine.checked_stream(stream_id), self._engine.tenant(tenant_id)
        return await mask(self._engine, self.database, self._pause, tenant, checked)

    async def skip_event(self, event_id: UUID) -> None:
        """Have projections, and live aggregation, pass an event over from now on."""
        await skip(self.database, self._pause, event_id)

    async def dead_letters(self, name_or_type: Any = None) -> list[DeadLetter]:
        """List the events that a projection, or any, has set aside, by shard and sequence."""
        shard = None if name_or_type is None else self._shard(name_or_type)
        await self.database.round_trip()
        return self._shards.letters(shard)

    async def retry_dead_letter(self, letter: DeadLetter) -> None:
        """Apply an event that was set aside to its projection, and discard the letter."""
        projection = self.options.projections.find(letter.shard).projection
        await run_callbacks(await self._shards.retry(projection, letter))

    async def discard_dead_letter(self, letter: DeadLetter) -> None:
        """Forget a dead letter; it may be gone already."""
        await self._shards.discard(letter)


def _by_key(row: tuple[tuple[str, Any], dict[str, Any]]) -> tuple[str, str]:
    (tenant, key), _ = row
    return tenant, str(key)
