"""Inline projections: applied to the events just written, in the same transaction."""

from collections.abc import Callable, Sequence
from typing import Any

from flowstore.events import Event, group_by_stream_id
from flowstore.projections import (
    AggregateProjection,
    IProjection,
    apply_projection,
    produced_by,
)
from flowstore.store._engine import Engine
from flowstore.store._projection_unit import ProjectionUnit
from flowstore.store._queue import Queue

__all__ = ["apply_inline"]


async def apply_inline(engine: Engine, unit: ProjectionUnit, events: Sequence[Event]) -> Queue:
    """Let every inline projection queue what follows from a commit's events.

    The streams' rows are locked by the append that came before in this transaction, so that
    commits to one stream come here one after the other, each seeing the last one's documents. What a
    projection folds of several streams isn't locked by that: of such documents, also of those that
    don't exist yet, each is held from its loading until the commit, or an update would be lost.

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
            unit.hold(_held_by(registration.projection))
            await apply_projection(registration.projection, unit, group_by_stream_id(wanted))
    return unit.queued


def _held_by(projection: IProjection) -> Callable[[type], bool]:
    """Say which documents have to be held: all that are loaded, where it names none it makes."""
    if isinstance(projection, AggregateProjection):
        return lambda _: False  # a document of a stream, whose row is locked
    produced = frozenset(produced_by(projection))
    return lambda kind: not produced or kind in produced


def _wanted(events: Sequence[Event], consumes: Any) -> list[Event]:
    types = frozenset(consumes)
    return [event for event in events if not types or type(event.data) in types]
