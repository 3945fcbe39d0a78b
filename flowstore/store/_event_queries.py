"""Looking for events by a condition of the application's own."""

import re
from collections.abc import Sequence
from typing import Any, Final, LiteralString

from flowstore.store._engine import Engine
from flowstore.store._statements import Statement

__all__ = ["query_events"]

# A subquery, so that the condition can hold an `or`, and be followed by `order by` and `limit`,
# without seeing another tenant's events.
_QUERY: Final = """
select {event_columns} from (
    select * from {schema}.events where tenant_id = %s and (%s or not archived)
) as e where """
_ORDERED: Final = re.compile(r"\border\s+by\b", re.IGNORECASE)
_LIMITED: Final = re.compile(r"\b(?:limit|offset|fetch)\b", re.IGNORECASE)


def query_events(
    engine: Engine,
    tenant: str,
    where: LiteralString,
    params: Sequence[Any],
    *,
    include_archived: bool,
) -> Statement:
    """Select the events that a condition holds for, by sequence unless it says another order."""
    condition = where if params else where.replace("%", "%%")
    query = engine.sql.statement(_QUERY) + condition.encode()
    if not _ORDERED.search(where) and not _LIMITED.search(where):
        query += b" order by sequence"
    return Statement(query, (tenant, include_archived, *params))
