"""Reading one part of the streams, for processes that rebuild a projection together.

Each of them goes through all events to find its own, so what an event costs the server counts as often
as there are parts. A page is read in one pass therefore, where others take two: `page_end` finds out
how many events fit before they are read.
"""

from collections.abc import Sequence
from typing import Any, Final, LiteralString, TypeAlias

import attrs

from flowstore.events import EventPage
from flowstore.projections import IProjection
from flowstore.store._engine import Engine
from flowstore.store._feed import Part
from flowstore.store._rows import decode_page, row_size
from flowstore.store._statements import Statement, fetch_rows

__all__ = ["PartPages"]

_Row: TypeAlias = tuple[Any, ...]

# All events of a stream are in the same part. That is agreed upon by those who ask the same server, and
# nothing of it is kept; so an identity is hashed as it is, which is cheaper than as text.
_OF_NUMBERS: Final = "uuid_hash_extended(e.stream_id, 0)"
_OF_TEXTS: Final = "hashtextextended(e.stream_id, 0)"
# `case`: of a comparison with a hash the planner expects that next to nothing passes, and has several
# processes look for a page of five hundred; of what this gives it expects the half.
# `limit`: nothing is moved across it, so that JSON is made text once.
_BEGIN: Final = """
with stream_part as (
    select
        e.sequence, e.id, e.stream_id, e.version, e.type, e.data::text as data, e.timestamp,
        e.headers::text as headers, e.correlation_id, e.causation_id, e.user_name, e.tenant_id
    from {schema}.events e
    where
        e.sequence > %s and e.sequence <= %s
        and (%s::text[] is null or e.type = any (%s::text[]))
        and (%s or not e.archived) and not e.skipped
        and case when mod("""
_END: Final = """ & 9223372036854775807, %s) = %s then true else false end
    order by e.sequence limit %s
)"""
# An event that is larger than its share of the page comes without its data.
_EVEN: Final = """
select
    p.sequence, p.id, p.stream_id, p.version, p.type,
    case when octet_length(p.data) + coalesce(octet_length(p.headers), 0) <= %s then p.data end,
    p.timestamp,
    case when octet_length(p.data) + coalesce(octet_length(p.headers), 0) <= %s then p.headers end,
    p.correlation_id, p.causation_id, p.user_name, p.tenant_id
from stream_part p order by p.sequence"""
# As many as fit, and always the first one.
_WEIGHED: Final = """, weighed as (
    select p.*, row_number() over upwards as place,
        sum(octet_length(p.data) + coalesce(octet_length(p.headers), 0)) over upwards as total
    from stream_part p
    window upwards as (order by p.sequence rows unbounded preceding)
)
select
    p.sequence, p.id, p.stream_id, p.version, p.type, p.data, p.timestamp, p.headers,
    p.correlation_id, p.causation_id, p.user_name, p.tenant_id
from weighed p where p.total <= %s or p.place = 1 order by p.sequence"""
_DATA: Final = 5
"""Where an event's data stands in its row."""


@attrs.define(eq=False)
class PartPages:
    """Read the events that a projection consumes, of one part of the streams.

    Attributes:
        engine: the store's.
        projection: what consumes them.
        part: which streams.
        max_bytes: most bytes of JSON that a page has; one event that is larger comes alone.
    """

    engine: Engine = attrs.field(repr=False)
    projection: IProjection
    part: Part
    max_bytes: int
    _names: list[str] | None = attrs.field(init=False)
    _among: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        types = tuple(self.projection.consumes)
        self._names = list(self.engine.options.events.stored_names(*types)) if types else None

    async def fetch(self, floor: int, mark: int) -> EventPage:
        """Read the next page of (floor, mark].

        As long as no event is larger than its share of a page nobody adds up what they take together,
        which costs the server a third more. From then on a page is looked for among twice as many events
        as the one before had: the server writes out all that it adds up, five hundred large ones for
        a page of four otherwise.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        limit = self.projection.async_options.page_size
        if not self._among:
            share = self.max_bytes // limit
            rows = await self._rows(_EVEN, floor, mark, limit, share, share)
            fitting = _fitting(rows)
            if fitting == len(rows):
                ceiling = rows[-1][0] if len(rows) == limit else max(floor, mark)
                return self._page(floor, ceiling, rows)
            self._among = 1
            if fitting:
                return self._page(floor, rows[fitting - 1][0], rows[:fitting])
        rows = await self._rows(_WEIGHED, floor, mark, self._among, self.max_bytes)
        self._among = min(2 * len(rows), limit) if rows else 1
        # Whether another one would have fitted it doesn't say; if there was none the next one tells.
        return self._page(floor, rows[-1][0] if rows else max(floor, mark), rows)

    async def _rows(
        self, select: LiteralString, floor: int, mark: int, limit: int, *bounds: int
    ) -> list[_Row]:
        hashed = _OF_TEXTS if self.engine.has_text_ids else _OF_NUMBERS
        query = self.engine.sql.statement(_BEGIN + hashed + _END + select)
        archived = self.projection.async_options.include_archived
        wanted = (floor, mark, self._names, self._names, archived, self.part.of, self.part.number)
        return await fetch_rows(self.engine.lend, Statement(query, (*wanted, limit, *bounds)))

    def _page(self, floor: int, ceiling: int, rows: Sequence[_Row]) -> EventPage:
        size = sum(map(row_size, rows))
        return EventPage(floor, ceiling, *decode_page(self.engine.codec, rows), size=size)


def _fitting(rows: Sequence[_Row]) -> int:
    """Count the rows before the first one that came without its data."""
    return next((at for at, row in enumerate(rows) if row[_DATA] is None), len(rows))
