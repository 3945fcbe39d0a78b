"""Who draws numbers when, who commits, who rolls back: drawn, and played on a store in memory."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, TypeAlias

import attrs
from hypothesis import strategies as st

from flowstore.events import Event, StreamId
from flowstore.store.memory import MemoryEventStore
from flowstore.testing._strategies import EventSource, event_data, stream_ids

__all__ = [
    "CommitSchedule",
    "Moment",
    "WriterStep",
    "commit_schedules",
    "end_append",
    "play_schedule",
]

_LONGEST_APPEND: Final = 3
"""Events of a drawn append at most: two show all that more would."""

_Verb: TypeAlias = Literal["draw", "commit", "roll back"]
_Stream: TypeAlias = tuple[str | None, StreamId]


@attrs.frozen
class _Draw:
    stream_id: StreamId
    beginning: tuple[Any] | None
    data: list[Any]
    tenant: str | None


@attrs.frozen
class _End:
    verb: Literal["commit", "roll back"]
    which: int


@attrs.frozen
class WriterStep:
    """Say what one writer does.

    Attributes:
        verb: "draw": append, so that it has sequence numbers and nobody sees its events;
            "commit": make them visible; "roll back": leave holes in their place.
        writer: who, numbered from 1; each draws once and ends once.
        stream_id: where it appends to, if it draws.
        data: what it appends, if it draws.
        tenant_id: whose stream it is, in a store of several tenants.
    """

    verb: _Verb
    writer: int
    stream_id: StreamId | None = None
    data: tuple[Any, ...] = ()
    tenant_id: str | None = None


@attrs.frozen
class CommitSchedule:
    """Hold the steps of several writers in the order they are taken.

    Attributes:
        steps: whoever draws ends later, and nobody draws for a stream that somebody holds.
    """

    steps: tuple[WriterStep, ...]

    def __str__(self) -> str:
        return "; ".join(_told(step) for step in self.steps)


@attrs.frozen
class Moment:
    """Tell what is true of a store after a step, by the schedule and not by the store.

    Attributes:
        step: what was done.
        visible: the schedule's events that are committed, in sequence order.
        readable: those that a reader may go on to: below every number that is drawn and not
            committed, so that nothing can appear among or before them any more.
        held: numbers that are drawn and neither committed nor rolled back.
    """

    step: WriterStep
    visible: tuple[Event, ...]
    readable: tuple[Event, ...]
    held: tuple[int, ...]


def commit_schedules(
    *events: EventSource,
    first: EventSource | None = None,
    max_streams: int = 3,
    max_steps: int = 15,
    min_steps: int = 0,
    tenants: Sequence[str] = (),
    stream_identity: Literal["uuid", "string"] = "uuid",
) -> st.SearchStrategy[CommitSchedule]:
    """Draw appends that overlap: numbers with gaps, and commits out of their order.

    Shrinks towards few steps, one stream, and appends that are committed as soon as drawn.

    Args:
        *events: what the events' data may be, as for `event_histories`.
        first: the same for what each stream begins with; None: as any other event.
        max_streams: most streams, at least 1.
        max_steps: most steps, beside those that end what is open at the end.
        min_steps: fewest to be drawn; one that would end what nobody has begun is left out.
        tenants: whose streams they are; empty in a store without tenants.
        stream_identity: whether streams are known by "uuid" or "string".

    Raises:
        ValueError: no events to draw from, or no streams.
    """
    streams = st.sampled_from(stream_ids(max_streams, stream_identity))
    data = st.lists(event_data(events), min_size=1, max_size=_LONGEST_APPEND)
    whose = st.sampled_from(tenants) if tenants else st.none()
    beginnings = st.none() if first is None else st.tuples(event_data([first]))
    draws = st.builds(_Draw, streams, beginnings, data, whose)
    ends = st.builds(_End, st.sampled_from(["commit", "roll back"]), st.integers(0, 3))
    # An end of nothing is no step: whatever has to be there may shrink to it.
    return st.lists(ends | draws, min_size=min_steps, max_size=max_steps).map(_schedule)


async def play_schedule(
    schedule: CommitSchedule, store: MemoryEventStore
) -> AsyncGenerator[Moment]:
    """Do what a schedule says on a store, and yield after each step what a reader may see.

    Leaving it early rolls back what is open: iterate over it inside `contextlib.aclosing`. Nobody
    else may append to the schedule's streams meanwhile.

    Raises:
        ValueError: a writer ends that hasn't drawn, or draws for a stream that somebody holds.
        FlowstoreError: what `save_changes` raises.
    """
    _check(schedule)
    held: dict[int, tuple[AbstractAsyncContextManager[Sequence[Event]], Sequence[Event]]] = {}
    visible: list[Event] = []
    try:
        for step in schedule.steps:
            if step.verb == "draw":
                assert step.stream_id is not None  # noqa: S101  the schedule is checked
                append = store.open_append(step.stream_id, *step.data, tenant_id=step.tenant_id)
                held[step.writer] = append, await append.__aenter__()
            else:
                append, placed = held.pop(step.writer)
                await end_append(append, keeps=step.verb == "commit")
                visible += placed if step.verb == "commit" else ()
            yield _moment(step, visible, (placed for _, placed in held.values()))
    finally:
        for append, _ in held.values():
            await end_append(append, keeps=False)


class _RollBack(Exception):  # noqa: N818  it is an order
    pass


async def end_append(append: AbstractAsyncContextManager[Any], *, keeps: bool) -> None:
    """Commit what `open_append` holds, or roll it back."""
    if keeps:
        await append.__aexit__(None, None, None)
        return
    order = _RollBack()
    try:
        await append.__aexit__(_RollBack, order, None)
    except _RollBack:
        return


def _moment(step: WriterStep, visible: Iterable[Event], held: Iterable[Iterable[Event]]) -> Moment:
    drawn = sorted(event.sequence for placed in held for event in placed)
    seen = tuple(sorted(visible, key=lambda event: event.sequence))
    readable = tuple(event for event in seen if not drawn or event.sequence < drawn[0])
    return Moment(step, seen, readable, tuple(drawn))


def _check(schedule: CommitSchedule) -> None:
    held: dict[int, tuple[str | None, StreamId | None]] = {}
    for step in schedule.steps:
        stream = step.tenant_id, step.stream_id
        if step.verb != "draw":
            if held.pop(step.writer, None) is None:
                raise ValueError(f"writer {step.writer} can't {step.verb}: it hasn't drawn")
            continue
        if step.writer in held or stream in held.values() or step.stream_id is None:
            raise ValueError(
                f"writer {step.writer} can't draw for {step.stream_id!r}: it holds something"
                " already, somebody holds the stream, or no stream is named"
            )
        held[step.writer] = stream


def _schedule(choices: Sequence[_Draw | _End]) -> CommitSchedule:
    """Make of free choices a schedule that can be played."""
    steps: list[WriterStep] = []
    held: dict[int, _Stream] = {}
    begun: set[_Stream] = set()

    def end(writer: int, verb: Literal["commit", "roll back"]) -> None:
        stream = held.pop(writer)
        if verb == "commit":
            begun.add(stream)
        steps.append(WriterStep(verb, writer))

    for choice in choices:
        if isinstance(choice, _Draw):
            stream = choice.tenant, choice.stream_id
            # Let go of the stream, as a second writer would have to wait for the first.
            for holding in [writer for writer, theirs in held.items() if theirs == stream]:
                end(holding, "commit")
            writer = sum(step.verb == "draw" for step in steps) + 1
            held[writer] = stream
            data = _data(choice, is_first=stream not in begun)
            steps.append(WriterStep("draw", writer, choice.stream_id, data, choice.tenant))
        elif held:
            end(list(held)[choice.which % len(held)], choice.verb)
    for writer in list(held):
        end(writer, "commit")
    return CommitSchedule(tuple(steps))


def _data(draw: _Draw, *, is_first: bool) -> tuple[Any, ...]:
    if not is_first or draw.beginning is None:
        return tuple(draw.data)
    return (*draw.beginning, *draw.data[1:])


def _told(step: WriterStep) -> str:
    if step.verb != "draw":
        return f"{step.writer} {'commits' if step.verb == 'commit' else 'rolls back'}"
    return f"{step.writer} draws {len(step.data)} for {str(step.stream_id)!r}"
