"""Inline projections: applied to the events just written, in the same transaction."""

from collections.abc import Sequence
from typing import Any

from flowstore.events import Event, group_by_stream_id
from flowstore.projections import apply_projection
from flowstore.store._document_session import ProjectionUnit
from flowstore.store._engine import Engine
from flowstore.store._queue import Queue

__all__ = ["apply_inline"]


async def apply_inline(engine: Engine, unit: ProjectionUnit, events: Sequence[Event]) -> Queue:
    """Let every inline projection queue what follows from a commit's events.

    The streams' rows are locked by the append that came before in this transaction, so that
    commits to one stream come here one after the other, each seeing the last one's documents.

    Args:
        engine: the store's.
        unit: reads in the transaction that wrote the events; holds what the committing session
            had queued.
        events: in sequence order, with their places.

    Returns:
        What the session had queued, and behind it what the projections queued.
    """
    for registration in engine.options.projections.inline():
        wanted = _wanted(events, registration.projection.consumes)
        if wanted:
            await apply_projection(registration.projection, unit, group_by_stream_id(wanted))
    return unit.queued


def _wanted(events: Sequence[Event], consumes: Any) -> list[Event]:
    types = frozenset(consumes)
    return [event for event in events if not types or type(event.data) in types]
