"""Histories and page sizes for Hypothesis to draw."""

from typing import Any, Literal
from uuid import UUID

import attrs
from hypothesis import strategies as st

from flowstore.events import Event, StreamId
from flowstore.testing._instances import instances
from flowstore.testing._placing import place

__all__ = ["event_histories", "page_sizes"]


@attrs.frozen
class _Beginning:
    data: Any


def event_histories(
    *events: type | st.SearchStrategy[Any],
    first: type | st.SearchStrategy[Any] | None = None,
    max_streams: int = 3,
    max_events: int = 20,
    min_events: int = 0,
    stream_identity: Literal["uuid", "string"] = "uuid",
) -> st.SearchStrategy[tuple[Event, ...]]:
    """Draw what a store may hold: events of several streams, mixed, in sequence order.

    Sequences have gaps, as appends that were rolled back leave them; versions have none. Shrinks
    towards few events, one stream and no gaps.

    Args:
        *events: what the events' data may be: classes, whose required fields are drawn by
            their annotations as values that can be stored; or strategies, where that isn't enough.
        first: the same for what each stream begins with; None: as any other event.
        max_streams: most streams, at least 1.
        max_events: most events, of all streams together.
        min_events: fewest of them.
        stream_identity: whether streams are known by "uuid" or "string".

    Raises:
        ValueError: no events to draw from, or no streams.
    """
    if not events or max_streams < 1:
        message = f"{len(events)} types of events in {max_streams} streams: at least 1 of 1"
        raise ValueError(message)
    data = st.one_of(*map(_facts, events))
    # Nothing is drawn that isn't used: it would cost time, and shrink badly.
    beginning = st.none() if first is None else _facts(first).map(_Beginning)
    streams = [_stream_id(number, stream_identity) for number in range(1, max_streams + 1)]
    step = st.integers(1, 3)
    draws = st.tuples(st.sampled_from(streams), beginning, data, step)
    return st.lists(draws, min_size=min_events, max_size=max_events).map(_history)


def page_sizes(*, max_size: int = 10) -> st.SearchStrategy[list[int]]:
    """Draw how many events the pages of a history have, to be used over and over.

    Args:
        max_size: most events a page, at least 1.
    """
    return st.lists(st.integers(1, max_size), min_size=1, max_size=5)


def _facts(source: type | st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return instances(source) if isinstance(source, type) else source


def _stream_id(number: int, identity: str) -> StreamId:
    return UUID(int=number) if identity == "uuid" else f"stream-{number}"


def _history(draws: list[tuple[StreamId, _Beginning | None, Any, int]]) -> tuple[Event, ...]:
    begun: set[StreamId] = set()
    facts: list[tuple[StreamId, Any, int]] = []
    for stream_id, beginning, data, step in draws:
        if beginning is not None and stream_id not in begun:
            begun.add(stream_id)
            facts.append((stream_id, beginning.data, step))
        else:
            facts.append((stream_id, data, step))
    return place(facts)
