"""What came before, for a projection that has to see events again."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any, Final

import attrs

from flowstore.events import Event
from flowstore.store._engine import Engine
from flowstore.store._rows import decode_row
from flowstore.store._statements import Statement, fetch_rows

__all__ = ["History"]

_ROWS_AT_ONCE: Final = 1_000
_WANTED: Final = """
    e.tenant_id = %s and (%s::text[] is null or e.type = any (%s::text[]))
    and (%s or not e.archived) and not e.skipped"""
_READ: Final = (
    """
select {event_columns} from {schema}.events e
where e.sequence > %s and e.sequence <= %s and """
    + _WANTED
    + """
order by e.sequence limit %s"""
)
# Timestamps need not rise with the sequence, as events may bring their own: the first event that is
# late enough is looked for from the beginning.
_FIRST: Final = (
    """
select e.sequence from {schema}.events e
where e.sequence <= %s and (%s::timestamptz is null or e.timestamp >= %s) and """
    + _WANTED
    + """
order by e.sequence limit 1"""
)


@attrs.frozen
class History:
    """Read a tenant's events that came before some other; an `EventHistory`.

    Attributes:
        engine: the store's; histories of one store and tenant are equal.
        tenant: the tenant column's value.
    """

    engine: Engine = attrs.field(eq=id, repr=False)
    tenant: str

    async def read(
        self, types: Sequence[type], /, *, floor: int, ceiling: int, include_archived: bool
    ) -> AsyncGenerator[Event]:
        """Yield the events of (floor, ceiling], in the order of their sequence.

        Raises:
            UnknownEventTypeError: no known type has an event's stored name.
            InvalidEventError: stored data doesn't fit its type.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        wanted = self._wanted(types, include_archived=include_archived)
        query = self.engine.sql.statement(_READ)
        while floor < ceiling:
            rows = await self._rows(query, floor, ceiling, *wanted, _ROWS_AT_ONCE)
            for row in rows:
                yield decode_row(self.engine.codec, row)
            floor = rows[-1][0] if len(rows) == _ROWS_AT_ONCE else ceiling

    async def floor_of(
        self, types: Sequence[type], /, *, since: datetime, ceiling: int, include_archived: bool
    ) -> tuple[int, bool]:
        """Find the sequence after which all events from a time on lie.

        Returns:
            That sequence, `ceiling` if there are none; and whether there are events up to it.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        wanted = self._wanted(types, include_archived=include_archived)
        query = self.engine.sql.statement(_FIRST)
        very_first = await self._rows(query, ceiling, None, None, *wanted)
        if not very_first:
            return ceiling, False
        first = await self._rows(query, ceiling, since, since, *wanted)
        floor = first[0][0] - 1 if first else ceiling
        return floor, very_first[0][0] <= floor

    def _wanted(self, types: Sequence[type], *, include_archived: bool) -> tuple[Any, ...]:
        names = list(self.engine.options.events.stored_names(*types)) if types else None
        return (self.tenant, names, names, include_archived)

    async def _rows(self, query: bytes, *parameters: Any) -> list[tuple[Any, ...]]:
        return await fetch_rows(self.engine.lend, Statement(query, parameters))
