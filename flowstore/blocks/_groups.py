"""Inputs of blocks that take items by the group: nothing is taken until a group is complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from flowstore.blocks._engine import held
from flowstore.blocks._inlet import Inlet, Sender

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowstore.blocks._link import Link
    from flowstore.blocks._node import Node
    from flowstore.blocks._outlet import BaseOutlet

__all__ = ["GroupInlet", "Grouping"]


class Grouping(Protocol):
    """What a group inlet asks of its block."""

    def take_group_with(self, inlet: GroupInlet, item: Any) -> bool:
        """Take a group of which the item would be the last; False if there is none."""
        ...


class GroupInlet(Inlet):
    """Lets everyone wait until the block takes a whole group from them in one step.

    A waiting sender and a linked source count as one item each. Between two checkpoints nobody
    else can touch their items, so that nothing has to be reserved.
    """

    __slots__ = ("_grouping",)

    greedy = False

    def __init__(self, node: Node, grouping: Grouping) -> None:
        super().__init__(node)
        self._grouping = grouping

    def room(self) -> float:
        return 0

    def offer(self, item: Any) -> bool:
        if self.closed:
            return False
        with held(self.node):
            taken = self._grouping.take_group_with(self, item)
        if taken:
            self.node.arrived()
        return taken

    def serve(self) -> None:
        self.node.form()

    def ready(self, others: Iterable[BaseOutlet] = ()) -> list[Sender | Link]:
        """List those who wait with an item, oldest first, each output once and none of `others`."""
        found: list[Sender | Link] = []
        seen = set(map(id, others))
        for waiter in tuple(self.waiters):
            if isinstance(waiter, Sender):
                if waiter.items:
                    found.append(waiter)
            elif id(waiter.outlet) in seen:
                continue
            elif waiter.outlet.peek(waiter):
                seen.add(id(waiter.outlet))
                found.append(waiter)
            elif waiter.waiting:
                waiter.waiting = False
                self.waiters.remove(waiter)
        return found

    def take_from(self, waiter: Sender | Link) -> Any:
        """Take the item of one that `ready` has listed."""
        self.node.accepted += 1
        if not isinstance(waiter, Sender):
            waiter.waiting = False
            self.waiters.remove(waiter)
            return waiter.outlet.take_for(waiter)
        item = waiter.items.popleft()
        waiter.accepted += 1
        if not waiter.items:
            if not waiter.more:
                self.waiters.remove(waiter)
            waiter.wake()
        return item
