"""`BroadcastBlock` and `WriteOnceBlock`: a value for everyone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from flowstore.blocks._engine import kick
from flowstore.blocks._errors import note_item
from flowstore.blocks._faces import SourceFace, TargetFace
from flowstore.blocks._functions import check_callable, check_capacity
from flowstore.blocks._inlet import STEP, Inlet
from flowstore.blocks._node import NO_ITEM, Node
from flowstore.blocks._outlet import BaseOutlet
from flowstore.blocks._state import BlockState

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.blocks._link import Link

__all__ = ["BroadcastBlock", "WriteOnceBlock", "clone_for"]

T = TypeVar("T")


def clone_for(node: Node, clone: Callable[[Any], Any] | None, item: Any) -> Any:
    """Make a taker's own copy; an exception leaves with a note that names block and item."""
    if clone is None:
        return item
    try:
        return clone(item)
    except BaseException as error:
        note_item(error, node.name, item, "the clone function for item")
        raise


class ValueOutlet(BaseOutlet):
    """Offers the latest value to every link; a link whose target is full is owed the latest."""

    __slots__ = ("_published", "clone", "value")

    def __init__(self, node: Node, clone: Callable[[Any], Any] | None) -> None:
        super().__init__(node)
        self.value: Any = NO_ITEM
        self.clone = clone
        self._published = 0

    def version(self) -> int | None:
        return self._published

    def publish(self, item: Any) -> None:
        """Make the item the current value, and offer it to all."""
        self.value = item
        self._published += 1
        for link in tuple(self.links):
            self._offer(link)
        self._hand_to_receivers()

    def linked(self, link: Link) -> None:
        if self.value is not NO_ITEM:
            self._offer(link)
        super().linked(link)

    def link_after_end(self, link: Link) -> None:
        if self.value is NO_ITEM or self.node.state is not BlockState.COMPLETED:
            super().link_after_end(link)
            return
        self._offer(link)
        self._end_if_paid(link)

    def _end_if_paid(self, link: Link) -> None:
        if self.node.ended and not link.owed:
            super().link_after_end(link)

    def _offer(self, link: Link) -> None:
        """Offer the current value to one link, or owe it."""
        try:
            link.owed = link.is_open and link.accepts(self.value)
        except BaseException as error:  # noqa: BLE001  whatever a predicate raises is a fault
            self.node.fail(error)
            return
        if link.owed and self.node.started:
            self._pay(link, in_turn=False)

    def _pay(self, link: Link, *, in_turn: bool) -> None:
        inlet = link.inlet
        if inlet.closed:
            link.close()
        elif not inlet.greedy:
            inlet.enqueue(link)
            inlet.node.form()
        elif inlet.grant(in_turn=in_turn) < 1:
            inlet.enqueue(link)
        else:
            copy = self._copy()
            if copy is not NO_ITEM and link.is_open:
                link.owed = False
                inlet.admit(copy)
                inlet.node.arrived()
                link.count(1)

    def _copy(self) -> Any:
        """Clone the value; `NO_ITEM` if that was the block's fault."""
        try:
            return clone_for(self.node, self.clone, self.value)
        except BaseException as error:  # noqa: BLE001  whatever a clone function raises is a fault
            self.node.fail(error)
            return NO_ITEM

    def owes(self) -> bool:
        """Tell whether a target still waits for the value."""
        return any(link.owed for link in self.links)

    def drop_link(self, link: Link) -> None:
        super().drop_link(link)
        link.owed = False

    def pump(self) -> None:
        if self.node.started:
            for link in tuple(self.links):
                if link.owed and not link.waiting:
                    self._pay(link, in_turn=False)
        self._hand_to_receivers()

    def pump_in_turn(self, link: Link) -> None:
        if link.owed:
            self._pay(link, in_turn=True)
            self._end_if_paid(link)
            kick(self.node)

    def peek(self, link: Link) -> bool:
        return bool(link.owed)

    def take_for(self, link: Link) -> Any:
        link.owed = False
        copy = self._copy()
        link.count(1)
        self._end_if_paid(link)
        kick(self.node)
        return copy

    def available(self) -> bool:
        return self.value is not NO_ITEM

    def take(self) -> Any:
        return clone_for(self.node, self.clone, self.value)

    def take_all(self) -> list[Any]:
        return [self.take()] if self.available() else []

    def _hand_to_receivers(self) -> None:
        if self.value is NO_ITEM:
            return
        for receiver in tuple(self.receivers):
            if receiver.takes:
                copy = self._copy()
                if copy is NO_ITEM:
                    return
                receiver.hand(self, copy)
            else:
                receiver.wake()

    def clear(self) -> None:
        # Only a block that ended well keeps its value: elsewhere receivers are told how it ended.
        if self.node.state is not BlockState.COMPLETED:
            self.value = NO_ITEM


class ValueNode(Node):
    """Publishes what comes in, one item after the other."""

    def __init__(self, name: str, capacity: float, clone: Callable[[Any], Any] | None) -> None:
        super().__init__(name, capacity)
        self._inlet = Inlet(self)
        self.inlets = (self._inlet,)
        self.values = ValueOutlet(self, clone)
        self.outlet = self.values

    def room(self) -> float:
        return self.capacity - len(self._inlet.queue)

    def counts(self) -> tuple[int, int, int]:
        return len(self._inlet.queue), 0, 0

    def clear(self) -> None:
        self._inlet.queue.clear()
        self.values.clear()

    def drained(self) -> bool:
        return self.inside == 0 and not self.values.owes()

    def is_busy(self) -> bool:
        return bool(self._inlet.queue)

    def visit(self) -> None:
        # Without links there is nobody to work for: the value is kept even before the network runs.
        queue, handled = self._inlet.queue, 0
        while queue and not self.ended and (self.started or not self.values.links):
            if handled >= STEP:
                self.visit_soon()
                break
            handled += 1
            item = queue.popleft()
            self.finished += 1
            self.values.publish(item)
        super().visit()


class WriteOnceNode(ValueNode):
    """Takes one value and is through."""

    def room(self) -> float:
        return 1 - self.accepted

    def arrived(self) -> None:
        self._inlet.close()
        super().arrived()


class BroadcastBlock(TargetFace[T], SourceFace[T]):
    """Hands the latest value to every target; a target that is full misses values (lossy).

    The last value is never missed: a full target gets it, or a later one, once it has room, and
    completion waits for that. For a copy of every item to every target use `FanOutBlock`.
    Receiving gives the current value and leaves it there; late links get it too, also after
    completion. `async for` gives each value once, the latest to a slow reader, and ends with the
    block. An item counts as finished once it was offered.

    Args:
        clone: makes each taker's own copy; None hands the same object to all.
        bounded_capacity: items it takes before its network runs.
        name: shown in statistics, pictures and errors.

    Raises:
        ValueError: a capacity below 1 or not whole.
    """

    def __init__(
        self,
        clone: Callable[[T], T] | None = None,
        *,
        bounded_capacity: float = 128,
        name: str | None = None,
    ) -> None:
        check_capacity(bounded_capacity)
        if clone is not None:
            check_callable(clone, "clone")
        super().__init__(ValueNode(name or "BroadcastBlock", bounded_capacity, clone))


class WriteOnceBlock(TargetFace[T], SourceFace[T]):
    """Keeps the first value for ever and hands it to everyone; all later ones are declined.

    It completes when it has a value, and needs no reader for that.

    Args:
        clone: makes each taker's own copy; None hands the same object to all.
        name: shown in statistics, pictures and errors.
    """

    def __init__(self, clone: Callable[[T], T] | None = None, *, name: str | None = None) -> None:
        if clone is not None:
            check_callable(clone, "clone")
        super().__init__(WriteOnceNode(name or "WriteOnceBlock", 1, clone))
