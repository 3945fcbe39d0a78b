"""What came before, read from memory."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import datetime

import attrs

from flowstore.events import Event
from flowstore.store._history import History
from flowstore.store._rows import decode_row
from flowstore.store.memory._database import MemoryDatabase, View
from flowstore.store.memory._rows import EVENTS, STREAMS, StoredEvent

__all__ = ["MemoryHistory"]


@attrs.frozen
class MemoryHistory(History):
    """Read a tenant's events that came before some other.

    Attributes:
        view: what is read.
    """

    view: View = attrs.field(eq=False, repr=False)

    async def read(
        self, types: Sequence[type], /, *, floor: int, ceiling: int, include_archived: bool
    ) -> AsyncGenerator[Event]:
        """Yield the events of (floor, ceiling], in the order of their sequence."""
        await self.view.round_trip()
        for stored in list(self._found(types, floor, ceiling, include_archived=include_archived)):
            yield decode_row(self.engine.codec, stored.row())

    async def floor_of(
        self, types: Sequence[type], /, *, since: datetime, ceiling: int, include_archived: bool
    ) -> tuple[int, bool]:
        """Find the sequence after which all events from a time on lie."""
        await self.view.round_trip()
        events = list(self._found(types, 0, ceiling, include_archived=include_archived))
        late = (event.sequence - 1 for event in events if event.timestamp >= since)
        floor = next(late, ceiling)
        return floor, bool(events) and events[0].sequence <= floor

    def _found(
        self, types: Sequence[type], floor: int, ceiling: int, *, include_archived: bool
    ) -> Iterator[StoredEvent]:
        names = frozenset(self.engine.options.events.stored_names(*types)) if types else None
        for event in self._between(floor, ceiling):
            is_wanted = not event.skipped and (names is None or event.type_name in names)
            if is_wanted and event.stream[0] == self.tenant:
                stream = self.view.get(STREAMS, event.stream)
                if include_archived or stream is None or not stream.archived:
                    yield event

    def _between(self, floor: int, ceiling: int) -> Iterator[StoredEvent]:
        if isinstance(self.view, MemoryDatabase):
            yield from self.view.between(floor, ceiling)
            return
        for sequence, event in sorted(self.view.scan(EVENTS), key=lambda found: found[0]):
            if floor < sequence <= ceiling:
                yield event
