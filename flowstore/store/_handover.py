"""Events that this process has just appended, handed to a daemon of the same store: no look is needed.

A look asks for two things: up to where nothing can still appear, and what there is up to there. Who has
appended the event whose number follows the mark directly knows both. Nothing unseen can appear at or below
the mark; its own number is taken, by an event that is committed; so nothing can appear at or below that
number either, whoever else has an append open: what others draw lies above. And the page between the
two holds this event and nothing else.

It holds for numbers that follow each other without a gap, and for nothing else. A gap is a number that
somebody else has, committed or not, or that was rolled back: a look at the database judges it. So
does it whatever isn't handed over: appends of other processes, of sessions in a transaction, of several
events, and those of which nobody knows whether they were committed.

The event is the row as it is stored, in the columns and the format that a look gives, read and decoded by
the same functions. What becomes of the row afterwards (amended, archived, skipped) goes unseen for as
long as a page that was read is kept: `LONGEST` is shorter than that.
"""

from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from typing import Final, TypeAlias

import attrs
import trio

from flowstore.codec import EventCodec
from flowstore.events import EventPage
from flowstore.store._rows import EventRow, decode_page, row_size

__all__ = ["Handover", "Handovers"]

LONGEST: Final = 0.25
"""Seconds that an event waits to be taken at most; a look finds it afterwards."""
_MOST: Final = 100
"""Events that wait to be taken at most: a daemon that doesn't come by soon is better off with a look."""
_MOST_BYTES: Final = 256 * 1024
"""Bytes of JSON of a single one at most."""
_TYPE: Final = 4
"""The place of the event's type in its row."""

Read: TypeAlias = Callable[[], EventRow]
"""Reads a row, once somebody wants it."""


@attrs.frozen
class _Handed:
    """What reads an event's row, and since when it is here."""

    read: Read
    since: float


@attrs.define(eq=False)
class Handover:
    """Keep, for one daemon, the events that it may take."""

    _codec: EventCodec
    _handed: dict[int, _Handed] = attrs.field(factory=dict[int, _Handed], init=False)

    def put(self, sequence: int, size: int, read: Read) -> None:
        """Take note of an event that is committed.

        Args:
            sequence: its place in the store.
            size: how many bytes of JSON it has, or characters.
            read: gives its row as a look gives it.
        """
        if len(self._handed) >= _MOST:
            self._handed.clear()  # whoever takes them was away: a look gives all of them at once
        if size <= _MOST_BYTES:
            self._handed[sequence] = _Handed(read, trio.current_time())

    def forget(self) -> None:
        """Let go of all: whoever comes now wants them as they are from now on."""
        self._handed.clear()

    def take(
        self, mark: int, names: Collection[str] | None, limit: int, max_bytes: int
    ) -> EventPage | None:
        """Give the page of the events that follow the mark without a gap; None if there is none.

        They aren't given a second time, and neither is what the mark has passed.

        Args:
            mark: a high-water mark; the page's ceiling is one too.
            names: what the wanted events are stored as; None: every one.
            limit: most events to give; at least 1.
            max_bytes: most bytes of JSON to give; an event that is larger comes alone.
        """
        if not self._handed:
            return None
        ceiling, size = mark, 0
        rows: list[EventRow] = []
        oldest = trio.current_time() - LONGEST
        while (next_one := self._handed.get(ceiling + 1)) is not None:
            if next_one.since < oldest:
                break
            row = next_one.read()
            if names is None or row[_TYPE] in names:
                size += row_size(row)
                if rows and (len(rows) >= limit or size > max_bytes):
                    size -= row_size(row)
                    break
                rows.append(row)
            ceiling += 1
        self._handed = {each: it for each, it in self._handed.items() if each > ceiling}
        if ceiling == mark:
            return None
        return EventPage(mark, ceiling, *decode_page(self._codec, rows), size=size)


@attrs.define(eq=False)
class Handovers:
    """Hand events over to the daemons of a store that want them."""

    _codec: EventCodec
    _open: list[Handover] = attrs.field(factory=list[Handover], init=False)

    @property
    def are_wanted(self) -> bool:
        """Whether there is a daemon that wants events."""
        return bool(self._open)

    @contextmanager
    def taking(self) -> Generator[Handover]:
        """Give, for the block, what is handed over from now on."""
        handover = Handover(self._codec)
        self._open.append(handover)
        try:
            yield handover
        finally:
            self._open.remove(handover)

    def put(self, sequence: int, size: int, read: Read) -> None:
        """Hand an event over that is committed, to whoever wants it; as `Handover.put`."""
        for handover in self._open:
            handover.put(sequence, size, read)
