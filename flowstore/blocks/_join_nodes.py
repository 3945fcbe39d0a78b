"""The machines of `JoinBlock` and `BatchedJoinBlock`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from flowstore.blocks._engine import held, kick
from flowstore.blocks._group_node import GroupNode
from flowstore.blocks._groups import GroupInlet
from flowstore.blocks._inlet import Inlet

if TYPE_CHECKING:
    from flowstore.blocks._node import Node

__all__ = ["BatchedJoinNode", "GroupJoinNode", "JoinNode"]


class _Side(Inlet):
    """One side of a greedy join: stores its own items."""

    __slots__ = ()

    node: JoinNode

    def room(self) -> float:
        return self.node.side_room(self)


class JoinNode(GroupNode):
    """Pairs the k-th items of its sides."""

    def __init__(self, name: str, capacity: float, arity: int, groups: float) -> None:
        super().__init__(name, capacity, groups)
        self.sides = self._make_sides(arity)
        self.inlets = self.sides

    def _make_sides(self, arity: int) -> tuple[Inlet, ...]:
        return tuple(_Side(self) for _ in range(arity))

    def side_room(self, side: Inlet) -> float:
        """Tell how many items a side may take: unread tuples and the longest side are bounded."""
        used = len(side.queue)
        return min(self.capacity - len(self.rows.queue), self.groups) - used

    def room(self) -> float:
        return self.capacity - len(self.rows.queue) - max(len(side.queue) for side in self.sides)

    def counts(self) -> tuple[int, int, int]:
        waiting = sum(len(side.queue) for side in self.sides)
        return waiting, 0, self.unread

    def clear(self) -> None:
        for side in self.sides:
            side.queue.clear()
        super().clear()

    def arrived(self) -> None:
        while self.groups and all(side.queue for side in self.sides):
            self.put(tuple(side.queue.popleft() for side in self.sides), len(self.sides))
        with held(self):
            for side in self.sides:
                if self.groups <= len(side.queue):
                    side.close()
            self.input_closed()
            kick(self)

    def input_closed(self) -> None:
        """Begin to drain once a closed side can't contribute any more; leftovers are discarded."""
        if self.closed or not any(side.closed and not side.queue for side in self.sides):
            return
        with held(self):
            self.drain()
            for side in self.sides:
                self.discarded += len(side.queue)
                side.queue.clear()
                side.close()


class GroupJoinNode(JoinNode):
    """Takes one item from each side in one step, or nothing."""

    sides: tuple[GroupInlet, ...]  # pyright: ignore[reportIncompatibleVariableOverride]  set once, in __init__

    def _make_sides(self, arity: int) -> tuple[Inlet, ...]:
        return tuple(GroupInlet(self, self) for _ in range(arity))

    def _has_room(self) -> bool:
        return self.groups > 0 and len(self.rows.queue) < self.capacity

    def _ready(self, leave_out: Inlet | None = None) -> list[Any] | None:
        """Find one that waits on each side, no output twice; None if a side has none."""
        found: list[Any] = []
        outlets: list[Any] = []
        for side in self.sides:
            if side is leave_out:
                found.append(None)
                continue
            ready = side.ready(outlets)
            if not ready:
                return None
            found.append(ready[0])
            outlets.append(getattr(ready[0], "outlet", None))
        return found

    def form(self) -> None:
        while not self.closed and self._has_room():
            ready = self._ready()
            if ready is None or self.ended:
                return
            with held(self):
                pairs = zip(self.sides, ready, strict=True)
                row = tuple(side.take_from(waiter) for side, waiter in pairs)
                self.put(row, len(row))
                self.arrived()

    def take_group_with(self, inlet: GroupInlet, item: Any) -> bool:
        """Take a tuple of which the item would be the last."""
        if self.closed or not self._has_room() or inlet.ready():
            return False
        ready = self._ready(leave_out=inlet)
        if ready is None or self.ended:
            return False
        self.accepted += 1
        pairs = zip(self.sides, ready, strict=True)
        row = tuple(item if side is inlet else side.take_from(waiter) for side, waiter in pairs)
        self.put(row, len(row))
        return True

    def arrived(self) -> None:
        with held(self):
            if not self.groups:
                for side in self.sides:
                    side.close()
            kick(self)


class _TaggedSide(Inlet):
    """One side of a batched join: its items stand in the block's common line, tagged."""

    __slots__ = ("_index", "_line")

    def __init__(self, node: Node, index: int, line: deque[tuple[int, Any]]) -> None:
        super().__init__(node)
        self._index = index
        self._line = line

    def admit(self, item: Any) -> None:
        self.node.accepted += 1
        self._line.append((self._index, item))

    def admit_from(self, items: deque[Any], count: int) -> None:
        for _ in range(count):
            self.admit(items.popleft())


class BatchedJoinNode(GroupNode):
    """Collects items of all sides, in the order of arrival, until they are enough together."""

    def __init__(self, name: str, capacity: float, size: int, arity: int, groups: float) -> None:
        super().__init__(name, capacity, groups)
        self._size = size
        self._line: deque[tuple[int, Any]] = deque()
        self.sides = tuple(_TaggedSide(self, index, self._line) for index in range(arity))
        self.inlets = self.sides

    def room(self) -> float:
        wanted = self.groups * self._size - len(self._line)
        return min(self.capacity - self.inside, wanted)

    def counts(self) -> tuple[int, int, int]:
        return len(self._line), 0, self.unread

    def clear(self) -> None:
        self._line.clear()
        super().clear()

    def arrived(self) -> None:
        while len(self._line) >= self._size and self.groups:
            self._gather(self._size)
        with held(self):
            if self.groups * self._size <= len(self._line):
                self.complete()
            kick(self)

    def _gather(self, size: int) -> None:
        row: tuple[list[Any], ...] = tuple([] for _ in self.sides)
        for _ in range(size):
            index, item = self._line.popleft()
            row[index].append(item)
        self.put(tuple(map(tuple, row)), size)

    def drain(self) -> None:
        if not self.closed and not self.ended and self._line and self.groups:
            self._gather(len(self._line))
        super().drain()
