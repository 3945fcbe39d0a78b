"""What a daemon asks of a store about its events: which there are, up to where, and when to look."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime

from flowstore.events import EventPage
from flowstore.store._engine import Engine
from flowstore.store._feed import Feed, OpenAppend
from flowstore.store._handover import Handover
from flowstore.store._signals import Signals

__all__ = ["StoreFeed"]


class StoreFeed:
    """Hand over a store's events in the order of their sequence, and wake who waits for more.

    A face of `EventStore`, which keeps what it needs.
    """

    __slots__ = ()

    _engine: Engine
    _feed: Feed
    _signals: Signals

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

    def handing_over(self) -> AbstractContextManager[Handover]:
        """Have single events that this store appends handed over while the block runs.

        For whoever reads at the mark: what follows it directly needs no look.
        """
        return self._engine.handovers.taking()

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
