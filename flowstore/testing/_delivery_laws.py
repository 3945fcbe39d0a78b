"""Laws of delivery: what may arrive, and in which order."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from flowstore.events import Event, StreamId
from flowstore.testing._broken_law import BrokenLawError
from flowstore.testing._placing import told

__all__ = ["check_no_skip_no_repeat", "check_stream_order"]

_Stream: TypeAlias = tuple[str | None, StreamId]


def check_stream_order(
    deliveries: Iterable[Event], *, without_holes: bool = False, from_first: bool = False
) -> None:
    """Check that every stream's versions rise as the events were delivered.

    Streams may be interleaved in any way. Of several violations the first is told.

    Args:
        deliveries: events in the order they were delivered.
        without_holes: check too that no version lies between two neighbours of a stream; not so
            where `consumes`, or a filter, leaves events out. Where a stream's deliveries end is
            not judged: see `check_no_skip_no_repeat`.
        from_first: check too that every stream's deliveries begin with version 1.

    Raises:
        BrokenLawError: they don't rise; names the stream and the two events.
    """
    last: dict[_Stream, Event] = {}
    for event in deliveries:
        stream = (event.tenant_id, event.stream_id)
        before = last.get(stream)
        if before is not None:
            _check_neighbours(before, event, without_holes=without_holes)
        elif from_first and event.version != 1:
            raise BrokenLawError(
                "order",
                f"stream {str(event.stream_id)!r}: version 1 is missing: what was delivered first"
                f" is version {event.version}\n  first  {told(event)}",
            )
        last[stream] = event


def check_no_skip_no_repeat(deliveries: Iterable[Event], expected: Iterable[Event]) -> None:
    """Check that exactly the expected events were delivered, each once, in whatever order.

    Events are known by their sequence. What was delivered twice is told first, then what nobody
    expected, then what is missing; each by its lowest sequence.

    Args:
        deliveries: the events that were delivered.
        expected: those that should have been.

    Raises:
        BrokenLawError: there is such an event; names it, and says how many more there are.
    """
    delivered, wanted = list(deliveries), list(expected)
    counts = Counter(event.sequence for event in delivered)
    sequences = {event.sequence for event in wanted}
    repeated = [event for event in delivered if counts[event.sequence] > 1]
    foreign = [event for event in delivered if event.sequence not in sequences]
    missing = [event for event in wanted if event.sequence not in counts]
    if repeated:
        _fail("exactly once", repeated, f"was delivered {_times(counts, repeated)}")
    if foreign:
        _fail("exactly once", foreign, "was delivered, and nobody expected it")
    if missing:
        _fail("no skip", missing, "was never delivered")


def _check_neighbours(before: Event, event: Event, *, without_holes: bool) -> None:
    if event.version == before.version:
        story = f"version {event.version} was delivered twice in a row"
    elif event.version < before.version:
        story = f"version {event.version} was delivered after version {before.version}"
    elif without_holes and event.version > before.version + 1:
        story = (
            f"version {before.version + 1} is missing: version {event.version} was delivered after"
            f" version {before.version}"
        )
    else:
        return
    raise BrokenLawError(
        "order",
        f"stream {str(event.stream_id)!r}: {story}\n  first  {told(before)}\n  then   {told(event)}",
    )


def _times(counts: Counter[int], events: Sequence[Event]) -> str:
    count = counts[min(event.sequence for event in events)]
    return "twice" if count == 2 else f"{count} times"


def _fail(law: str, events: Sequence[Event], what: str) -> None:
    distinct = {event.sequence: event for event in events}
    lowest = distinct[min(distinct)]
    others = len(distinct) - 1
    more = f"\n  and {others} more like it" if others else ""
    raise BrokenLawError(law, f"an event {what}\n  {told(lowest)}{more}")
