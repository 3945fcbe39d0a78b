"""What batches and joins have in common: outputs that stand for several inputs."""

from __future__ import annotations

from collections import deque
from typing import Any

from flowstore.blocks._node import Node
from flowstore.blocks._outlet import Outlet

__all__ = ["GroupNode"]


class GroupNode(Node):
    """Counts, in inputs, groups that wait to leave, and how many may still be made."""

    def __init__(self, name: str, capacity: float, groups: float) -> None:
        super().__init__(name, capacity)
        self.groups = groups  # still to be made
        self.rows = Outlet(self)
        self.outlet = self.rows
        self.unread = 0  # inputs in groups that haven't left
        self._sizes: deque[int] = deque()  # beside the output: the inputs of each group

    def put(self, group: tuple[Any, ...], size: int) -> None:
        """Give a group of `size` inputs to the output."""
        self.groups -= 1
        self.unread += size
        self._sizes.append(size)
        self.rows.queue.append(group)

    def left(self, count: int) -> None:
        for _ in range(count):
            self.finished += self._count_out()

    def dropped(self) -> None:
        self.discarded += self._count_out()

    def _count_out(self) -> int:
        size = self._sizes.popleft()
        self.unread -= size
        return size

    def clear(self) -> None:
        self.rows.clear()
        self._sizes.clear()
        self.unread = 0

    def is_busy(self) -> bool:
        return False  # an incomplete group waits for items, not for work
