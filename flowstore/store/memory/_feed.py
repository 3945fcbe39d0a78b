"""Reading memory in the order of its sequence."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs
import trio

from flowstore.events import EventPage
from flowstore.store._feed import Feed, OpenAppend
from flowstore.store._rows import EventRow, decode_page, row_size
from flowstore.store.memory._database import MemoryDatabase
from flowstore.store.memory._rows import STREAMS, StoredEvent

__all__ = ["MemoryFeed"]


@attrs.define(eq=False)
class MemoryFeed(Feed):
    """Read events in the order of their sequence, as far as nothing can still appear below.

    Attributes:
        database: what is read.
    """

    database: MemoryDatabase = attrs.field(kw_only=True)

    async def high_water(self, leading_edge_buffer: float) -> int:
        """Give the mark: the position, or the lowest bound that an open append has published."""
        await self.database.round_trip()
        position, bound = self.database.position, self.database.bound()
        safe = position if bound is None else min(position, bound)
        self._safe = safe = max(safe, min(self._safe, position))
        if leading_edge_buffer <= 0:
            return safe
        cutoff = self.database.now() - timedelta(seconds=leading_edge_buffer)
        for event in reversed(list(self.database.between(0, safe))):
            if event.recorded <= cutoff:
                break
            safe = event.sequence - 1
        return safe

    async def highest_sequence(self) -> int:
        """Give the highest sequence that is visible; 0 if there is none."""
        await self.database.round_trip()
        return self.database.highest()

    async def sequence_before(self, when: datetime) -> int:
        """Give the highest sequence that was recorded before a time; 0 if there is none."""
        await self.database.round_trip()
        events = self.database.between(0, self.database.highest())
        return max((event.sequence for event in events if event.recorded < when), default=0)

    async def open_appends(self) -> list[OpenAppend]:
        """List the transactions under way that hold the mark, the lowest bound first."""
        await self.database.round_trip()
        now = trio.current_time()
        found = [
            OpenAppend(each.bound, each.number, "flowstore", now - each.begun, "active", None)
            for each in self.database.open_transactions()
            if each.bound is not None
        ]
        return sorted(found, key=lambda each: (each.bound, each.pid))

    async def fetch_page(
        self,
        floor: int,
        mark: int,
        *,
        types: Sequence[type],
        limit: int,
        max_bytes: int | None,
        include_archived: bool,
    ) -> EventPage:
        """Read and decode at most `limit` events of (floor, mark], and `max_bytes` of JSON."""
        names = frozenset(self._stored_names(tuple(types))) if types else frozenset[str]()
        await self.database.round_trip()
        rows: list[EventRow] = []
        size, ceiling = 0, max(floor, mark)
        for event in self.database.between(floor, mark):
            is_wanted = not event.skipped and (not names or event.type_name in names)
            if not is_wanted or (not include_archived and self._is_archived(event)):
                continue
            row = event.row()
            size += row_size(row)
            if rows and max_bytes is not None and size > max_bytes:
                ceiling, size = rows[-1][0], size - row_size(row)
                break
            rows.append(row)
            if len(rows) == limit:
                ceiling = event.sequence
                break
        return EventPage(floor, ceiling, *decode_page(self._engine.codec, rows), size=size)

    def _is_archived(self, event: StoredEvent) -> bool:
        stream = self.database.get(STREAMS, event.stream)
        return stream is not None and stream.archived
