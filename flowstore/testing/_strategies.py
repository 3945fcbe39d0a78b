"""Histories, page sizes and crashes for Hypothesis to draw."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import attrs
from hypothesis import strategies as st

from flowstore.codec import EventRegistry
from flowstore.events import Archived, Compacted, Event, StreamId
from flowstore.store import StoreOptions
from flowstore.store.memory import CommitStep
from flowstore.testing._instances import instances
from flowstore.testing._placing import place

__all__ = [
    "CrashPoint",
    "EventSource",
    "applications_own",
    "crash_points",
    "event_data",
    "event_histories",
    "page_sizes",
    "stream_ids",
    "types_in",
]

EventSource: TypeAlias = type | st.SearchStrategy[Any] | StoreOptions | EventRegistry
"""Where events' data comes from: a class, a strategy, or all types that a store knows."""

_SECOND: Final = timedelta(seconds=1)


@attrs.frozen
class CrashPoint:
    """Say where a projection's commit meets with trouble.

    Attributes:
        step: at "before commit" nothing of it is kept; at "committed" all of it is, and only the
            answer is lost.
        after: how many commits go well before it, from the trouble before this one.
        is_fatal: whether the process ends there; otherwise the database fails once.
    """

    step: CommitStep
    after: int = 0
    is_fatal: bool = True


@attrs.frozen
class _Draw:
    stream: tuple[str | None, StreamId]
    beginning: tuple[Any] | None
    data: Any
    step: int
    pause: timedelta


def event_histories(
    *events: EventSource,
    first: EventSource | None = None,
    max_streams: int = 3,
    max_events: int = 20,
    min_events: int = 0,
    stream_identity: Literal["uuid", "string"] = "uuid",
    tenants: Sequence[str] = (),
    longest_pause: timedelta = _SECOND,
) -> st.SearchStrategy[tuple[Event, ...]]:
    """Draw what a store may hold: events of several streams, mixed, in sequence order.

    Sequences have gaps, as appends that were rolled back leave them; versions have none. Shrinks
    towards few events, one stream and no gaps.

    Args:
        *events: what the events' data may be: classes, whose required fields are drawn by
            their annotations as values that can be stored; strategies, where that isn't enough;
            or `StoreOptions`, or their `events`, for all types that a store knows.
        first: the same for what each stream begins with; None: as any other event.
        max_streams: most streams, at least 1; of each tenant, if there are any.
        max_events: most events, of all streams together.
        min_events: fewest of them.
        stream_identity: whether streams are known by "uuid" or "string".
        tenants: whose streams they are; several may have streams of the same identity.
        longest_pause: most time between an event and the next, at least a second, the shortest.

    Raises:
        ValueError: no events to draw from, no streams, or too short a pause.
    """
    if longest_pause < _SECOND:
        raise ValueError(f"longest_pause is {longest_pause}: a second is the shortest")
    streams = stream_ids(max_streams, stream_identity)
    draws = st.builds(
        _Draw,
        stream=st.sampled_from([(owner, each) for owner in tenants or [None] for each in streams]),
        # Nothing is drawn that isn't used: it would cost time, and shrink badly.
        beginning=st.none() if first is None else st.tuples(event_data([first])),
        data=event_data(events),
        step=st.integers(1, 3),
        pause=_pauses(longest_pause),
    )
    return st.lists(draws, min_size=min_events, max_size=max_events).map(_history)


def page_sizes(*, max_size: int = 10) -> st.SearchStrategy[list[int]]:
    """Draw how many events the pages of a history have, to be used over and over.

    Args:
        max_size: most events a page, at least 1.
    """
    return st.lists(st.integers(1, max_size), min_size=1, max_size=5)


def crash_points(*, most: int = 3) -> st.SearchStrategy[tuple[CrashPoint, ...]]:
    """Draw what befalls a projection's commits, one trouble after the other; shrinks to none.

    Args:
        most: the most of them.
    """
    points = st.builds(
        CrashPoint,
        step=st.sampled_from(["before commit", "committed"]),
        after=st.integers(0, 3),
        is_fatal=st.booleans(),
    )
    return st.lists(points, max_size=most).map(tuple)


def event_data(sources: Iterable[EventSource]) -> st.SearchStrategy[Any]:
    """Draw the data of an event.

    Raises:
        ValueError: there is nothing to draw from.
    """
    known = [each for source in sources for each in _each(source)]
    if not known:
        raise ValueError("there are no events to draw from: name classes, or strategies")
    return st.one_of(*known)


def stream_ids(count: int, identity: Literal["uuid", "string"]) -> list[StreamId]:
    """Give so many streams their names.

    Raises:
        ValueError: there are none.
    """
    if count < 1:
        raise ValueError(f"{count} streams: at least 1")
    numbers = range(1, count + 1)
    if identity == "uuid":
        return [UUID(int=number) for number in numbers]
    return [f"stream-{number}" for number in numbers]


def _pauses(longest: timedelta) -> st.SearchStrategy[timedelta]:
    seconds = int(longest / _SECOND)
    return st.just(_SECOND) if seconds == 1 else st.integers(1, seconds).map(_SECOND.__mul__)


def _each(source: EventSource) -> Iterator[st.SearchStrategy[Any]]:
    if isinstance(source, st.SearchStrategy):
        yield source
    elif isinstance(source, type):
        yield instances(source)
    else:
        yield from map(instances, _known_types(source))


def _known_types(source: StoreOptions | EventRegistry) -> list[type]:
    """List what an application appends: the store's own events mean something to the store."""
    registry = source.events if isinstance(source, StoreOptions) else source
    found = types_in(registry)
    if isinstance(source, StoreOptions):
        found += source.projections.event_types()
    return applications_own(found)


def types_in(registry: EventRegistry) -> list[type]:
    """List the types that can be read, the store's own among them."""
    return [registry.reading(name).type for name in registry.known_names()]


def applications_own(types: Iterable[type]) -> list[type]:
    """Leave out the store's own events, which an application doesn't append as they come."""
    return [kind for kind in dict.fromkeys(types) if kind not in {Archived, Compacted}]


def _history(draws: Sequence[_Draw]) -> tuple[Event, ...]:
    begun: set[Any] = set()
    facts: list[tuple[Any, Any, int]] = []
    for draw in draws:
        begins = draw.beginning is not None and draw.stream not in begun
        begun.add(draw.stream)
        data = draw.beginning[0] if begins and draw.beginning else draw.data
        facts.append((draw.stream, data, draw.step))
    # Streams are told apart by their tenant too, so that each has versions of its own.
    placed = place(facts)
    late = timedelta()
    events: list[Event] = []
    for event, draw in zip(placed, draws, strict=True):
        owner, stream_id = draw.stream
        late += draw.pause - _SECOND
        events.append(
            attrs.evolve(
                event, stream_id=stream_id, tenant_id=owner, timestamp=event.timestamp + late
            )
        )
    return tuple(events)
