"""`BufferBlock`, and what every block that only stores has in common."""

from __future__ import annotations

from typing import TypeVar

from flowstore.blocks._engine import kick
from flowstore.blocks._faces import SourceFace, TargetFace
from flowstore.blocks._functions import check_capacity
from flowstore.blocks._inlet import Inlet
from flowstore.blocks._node import Node
from flowstore.blocks._outlet import Outlet

__all__ = ["BufferBlock"]

T = TypeVar("T")


class BufferNode(Node):
    """Stores items: its input is its output."""

    def __init__(self, name: str, capacity: float) -> None:
        super().__init__(name, capacity)
        self._out = Outlet(self)
        self._in = Inlet(self)
        self._in.queue = self._out.queue
        self.inlets = (self._in,)
        self.outlet = self._out

    def room(self) -> float:
        return self.capacity - len(self._out.queue)

    def counts(self) -> tuple[int, int, int]:
        return 0, 0, len(self._out.queue)

    def clear(self) -> None:
        self._out.clear()

    def arrived(self) -> None:
        if self._out.links or self._out.receivers:
            kick(self)

    def taken(self) -> None:
        if self._in.waiters or self._out.links or self.closed:
            kick(self)


class BufferBlock(TargetFace[T], SourceFace[T]):
    """Stores items first in, first out, until a linked target or a receiver takes them.

    Args:
        bounded_capacity: items it holds at most; `math.inf` for no bound.
        name: shown in statistics, pictures and errors.
    """

    def __init__(self, *, bounded_capacity: float = 128, name: str | None = None) -> None:
        check_capacity(bounded_capacity)
        super().__init__(BufferNode(name or "BufferBlock", bounded_capacity))
