"""What a daemon asks of a store: PostgreSQL's and the one in memory both give it."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from flowstore.events import DeadLetter, EventPage
from flowstore.projections import IProjection
from flowstore.store import (
    Claim,
    Handover,
    LeaseSession,
    OpenAppend,
    ProjectionUnit,
    Rebuilding,
    StoreOptions,
)

__all__ = ["DaemonStore", "EventFeed", "Target"]


class EventFeed(Protocol):
    """Tells which events there are, and hands them over in the order of the store."""

    @property
    def options(self) -> StoreOptions:
        """What the store was told."""
        ...

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
        """Read events of (floor, mark] in the order of their sequence, at most a page."""
        ...

    async def high_water(self, *, leading_edge_buffer: float = 0.0) -> int:
        """Give the sequence at or below which nothing unseen can still appear."""
        ...

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
        """Give what `high_water` gives, and what `fetch_page` gives above a floor up to there."""
        ...

    def handing_over(self) -> AbstractContextManager[Handover]:
        """Have events that were appended by this very store handed over within the block."""
        ...

    async def highest_sequence(self) -> int:
        """Give the sequence of the last event that is visible."""
        ...

    async def sequence_before(self, when: datetime) -> int:
        """Give the sequence of the last event recorded before a time."""
        ...

    async def open_appends(self) -> list[OpenAppend]:
        """List the appends under way, which hold the mark."""
        ...

    @property
    def appends_heard(self) -> int:
        """How many appends were heard of so far."""
        ...

    def listening(self) -> AbstractAsyncContextManager[None]:
        """Hear of other processes' appends within the block."""
        ...

    async def wait_for_appends(self, seconds: float, /) -> None:
        """Wait until an append is heard of, at most so many seconds."""
        ...


class Target(Protocol):
    """Keeps what a projection writes, with its progress: a store, or a rebuild's shadow."""

    def projection_session(self) -> ProjectionUnit:
        """Begin a unit of work that only `commit_batch` commits."""
        ...

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
        ...

    async def standing(self, projection: IProjection, /) -> Claim:
        """Tell where the projection stands, without owning it."""
        ...

    async def call_after_commit(self, session: ProjectionUnit, /) -> None:
        """Call what waits for a commit that happened although its reply was lost."""
        ...


class DaemonStore(EventFeed, Target, Protocol):
    """Hands over events, keeps what comes of them, and says whose a shard is."""

    @property
    def dsn(self) -> str:
        """Where the database is; may hold a password."""
        ...

    @property
    def rebuilding(self) -> Rebuilding:
        """What a rebuild beside the view needs."""
        ...

    def projection_session(
        self, tenant_id: str | None = None, *, projection: IProjection | None = None
    ) -> ProjectionUnit:
        """Begin a unit of work, of a projection that may not be registered."""
        ...

    async def progress(self, name_or_type: Any, /) -> int:
        """Give the last sequence whose effects a projection has committed."""
        ...

    async def claim(self, projection: IProjection, /) -> Claim:
        """Become the owner of a projection's shard; tells where it stands."""
        ...

    async def rewind(self, projection: IProjection, sequence: int, /) -> None:
        """Take the progress back, and leave the documents as they are."""
        ...

    async def teardown(self, projection: IProjection, /, *, place: int | None = None) -> None:
        """Delete what a projection has written, with its progress."""
        ...

    def leases(self) -> AbstractAsyncContextManager[LeaseSession]:
        """Open what holds leases of shards, on a connection of its own."""
        ...

    async def is_leased(self, projection: IProjection, /) -> bool:
        """Tell whether some process has the lease of a projection's shard."""
        ...

    async def end_commits(self, projection: IProjection, /) -> int:
        """End the commits of a shard's former owner; tells how many there were."""
        ...

    async def durability_warnings(self) -> tuple[str, ...]:
        """Say what of the server's settings may lose commits."""
        ...
