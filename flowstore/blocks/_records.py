"""The books of a block that makes any number of outputs from one input."""

from __future__ import annotations

from collections import deque
from itertools import repeat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowstore.blocks._node import Node

__all__ = ["Record", "Records"]


class Record:
    """One input that is being worked on, or whose outputs haven't all left.

    ```
    running ──exhausted──▶ held (an earlier input isn't through) ──▶ done ──last output left──▶ gone
    ```
    """

    __slots__ = ("early", "exhausted", "failed", "unread")

    def __init__(self) -> None:
        self.unread = 0  # outputs that haven't left
        self.exhausted = False
        self.failed = False
        self.early: list[Any] = []  # outputs made before the record's turn


class Records:
    """Counts what inputs and their outputs occupy, and restores the order of inputs.

    An input that is worked on counts as `max(1, its unread outputs)`. In order, only the oldest
    record's outputs go to the output; a later one may make a single output ahead of its turn.
    """

    def __init__(self, node: Node, output: deque[Any], *, ordered: bool) -> None:
        self._node = node
        self._output = output
        self._owners: deque[Record] = deque()  # beside `output`: whose each is
        self._ordered = ordered
        self._line: deque[Record] = deque()  # ordered: those that aren't through, oldest first
        self.load = 0
        self.held = 0
        self.done = 0

    def begin(self) -> Record:
        """Open a record for an input that has just been taken."""
        record = Record()
        self.load += 1
        if self._ordered:
            self._line.append(record)
        return record

    def allowance(self, record: Record, room: float) -> float:
        """Tell how many outputs the record may make now, `room` places being free."""
        if not self._has_turn(record):
            return 0 if record.unread else 1
        return room if record.unread else room + 1

    def put(self, record: Record, outputs: Sequence[Any]) -> None:
        """Take outputs in."""
        count = len(outputs)
        if not count:
            return
        self.load += count if record.unread else count - 1
        record.unread += count
        if self._has_turn(record):
            self._output.extend(outputs)
            self._owners.extend(repeat(record, count))
        else:
            record.early.extend(outputs)

    def exhaust(self, record: Record, *, failed: bool = False) -> None:
        """Take note that the record makes no more outputs."""
        record.exhausted = True
        record.failed = failed
        if failed:
            self._node.failed += 1
        if not self._ordered:
            self._through(record)
            return
        if self._line[0] is not record:
            self.held += not failed
            return
        while self._line and self._line[0].exhausted:
            self._through(self._line.popleft())
            if self._line:
                self._promote(self._line[0])

    def left(self, count: int) -> None:
        """Keep the books for outputs that have left."""
        for _ in range(count):
            record = self._owners.popleft()
            record.unread -= 1
            if record.unread or record.exhausted:
                self.load -= 1
            if record.exhausted and not record.unread and not record.failed:
                self.done -= 1
                self._node.finished += 1

    def clear(self) -> None:
        """Give up all outputs; running records stay with their workers."""
        self._owners.clear()
        self._line.clear()
        self.load = self.held = self.done = 0

    def _has_turn(self, record: Record) -> bool:
        return not self._ordered or self._line[0] is record

    def _through(self, record: Record) -> None:
        """Take note that an exhausted record's turn has come: only unread outputs keep it."""
        if record.unread:
            self.done += not record.failed
        else:
            self.load -= 1
            self._node.finished += not record.failed

    def _promote(self, record: Record) -> None:
        """Let a record's early outputs go to the output: it is its turn."""
        if record.exhausted and not record.failed:
            self.held -= 1
        if record.early:
            self._output.extend(record.early)
            self._owners.extend(repeat(record, len(record.early)))
            record.early = []
