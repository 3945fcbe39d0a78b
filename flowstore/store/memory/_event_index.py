"""Where committed events stand: in the order of the store, and of each stream."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence

import attrs

from flowstore.store._incoming import StreamKey
from flowstore.store.memory._rows import StoredEvent

__all__ = ["EventIndex"]


@attrs.define(eq=False)
class EventIndex:
    """Keep the sequences of events that are committed, sorted."""

    _sequences: list[int] = attrs.field(factory=list[int], init=False)
    _streams: dict[StreamKey, list[int]] = attrs.field(
        factory=dict[StreamKey, list[int]], init=False
    )

    def between(self, floor: int, mark: int) -> Sequence[int]:
        """List the sequences of (floor, mark]."""
        first, last = bisect_right(self._sequences, floor), bisect_right(self._sequences, mark)
        return self._sequences[first:last]

    def of(self, stream: StreamKey) -> Sequence[int]:
        """List the sequences of a stream's events."""
        return self._streams.get(stream, ())

    def highest(self) -> int:
        """Give the highest sequence; 0 if there is none."""
        return self._sequences[-1] if self._sequences else 0

    def replace(self, sequence: int, old: StoredEvent | None, new: StoredEvent | None) -> None:
        """Have an event's row be another; None: it isn't there."""
        if (old is None) is (new is None):
            return  # versions rise with sequences, so that its place stays the same
        if new is not None:
            insort(self._sequences, sequence)
            insort(self._streams.setdefault(new.stream, []), sequence)
        elif old is not None:
            _take_out(self._sequences, sequence)
            _take_out(self._streams[old.stream], sequence)


def _take_out(ordered: list[int], number: int) -> None:
    del ordered[bisect_left(ordered, number)]
