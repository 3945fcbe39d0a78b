"""`FanOutBlock`: every item to every target."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from flowstore.blocks._broadcast import clone_for
from flowstore.blocks._engine import kick
from flowstore.blocks._faces import LinkFace, TargetFace
from flowstore.blocks._functions import check_callable, check_capacity
from flowstore.blocks._inlet import STEP, Inlet
from flowstore.blocks._node import NO_ITEM, Node
from flowstore.blocks._outlet import BaseOutlet

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.blocks._link import Link

__all__ = ["FanOutBlock"]

T = TypeVar("T")


class _Entry:
    """An item on its way to several targets."""

    __slots__ = ("item", "owed")

    def __init__(self, item: Any) -> None:
        self.item = item
        self.owed = 0  # links that haven't taken it


class FanOutOutlet(BaseOutlet):
    """Keeps, for every link, the items it hasn't taken; an item leaves when nobody is owed it."""

    __slots__ = ("_clone", "under_way")

    def __init__(self, node: Node, clone: Callable[[Any], Any] | None) -> None:
        super().__init__(node)
        self._clone = clone
        self.under_way = 0  # items that some link is still owed

    def linked(self, link: Link) -> None:
        link.owed = deque[_Entry]()
        super().linked(link)

    def drop_link(self, link: Link) -> None:
        super().drop_link(link)
        while link.owed:
            self._settle(link.owed.popleft())

    def pump(self) -> None:
        if not self.node.started:
            return
        self._distribute()
        for link in tuple(self.links):
            if link.owed and not link.waiting and not self._pay(link, in_turn=False):
                self.node.visit_soon()

    def pump_in_turn(self, link: Link) -> None:
        if link.is_open and link.owed:
            if not self._pay(link, in_turn=True):
                self.node.visit_soon()
            kick(self.node)

    def _distribute(self) -> None:
        """Owe each item to all links that are open now and whose predicate accepts it."""
        for _ in range(STEP):
            if not self.queue or not self.links or self.node.ended:
                return
            entry = _Entry(self.queue.popleft())
            self.under_way += 1
            entry.owed = 1  # held until all links were asked
            for link in tuple(self.links):
                try:
                    accepted = link.accepts(entry.item)
                except BaseException as error:  # noqa: BLE001  a predicate's fault is the block's
                    self.node.fail(error)
                    return
                if accepted and link.is_open:
                    entry.owed += 1
                    link.owed.append(entry)
            self._settle(entry)
        self.node.visit_soon()  # there may be more than one step should handle

    def _settle(self, entry: _Entry) -> None:
        entry.owed -= 1
        if not entry.owed and not self.node.ended:
            self.under_way -= 1
            self.node.left(1)

    def _pay(self, link: Link, *, in_turn: bool) -> bool:
        """Hand over what the target takes; False if only fairness has stopped it."""
        inlet = link.inlet
        for _ in range(STEP):
            if not link.owed or not link.is_open or self.node.ended:
                return True
            if inlet.closed:
                link.close()
                return True
            if not inlet.greedy:
                inlet.enqueue(link)
                before = len(link.owed)
                inlet.node.form()
                if len(link.owed) == before:
                    return True
                continue
            if inlet.grant(in_turn=in_turn) < 1:
                inlet.enqueue(link)
                return True
            in_turn = False
            self._hand_over(link)
        return not link.owed

    def _hand_over(self, link: Link) -> None:
        copy = self._take(link)
        if copy is not NO_ITEM:
            link.inlet.admit(copy)
            link.inlet.node.arrived()

    def peek(self, link: Link) -> bool:
        return bool(link.is_open and link.owed)

    def take_for(self, link: Link) -> Any:
        copy = self._take(link)
        kick(self.node)
        return copy

    def _take(self, link: Link) -> Any:
        # Without a visit: within one, it would bring on the next in the same step.
        entry = link.owed.popleft()
        try:
            copy = clone_for(self.node, self._clone, entry.item)
        except BaseException as error:  # noqa: BLE001  whatever a clone function raises is a fault
            self.node.fail(error)
            return NO_ITEM
        self._settle(entry)
        link.count(1)
        return copy

    def available(self) -> bool:
        return False  # every item is a link's; there is nothing to receive

    def take(self) -> Any:
        return NO_ITEM

    def clear(self) -> None:
        super().clear()
        self.under_way = 0


class FanOutNode(Node):
    """Takes an item in once, and lets it go when all targets have it."""

    def __init__(self, name: str, capacity: float, clone: Callable[[Any], Any] | None) -> None:
        super().__init__(name, capacity)
        self._outlet = FanOutOutlet(self, clone)
        self.outlet = self._outlet
        inlet = Inlet(self)
        inlet.queue = self._outlet.queue
        self.inlets = (inlet,)

    def room(self) -> float:
        return self.capacity - self.inside

    def counts(self) -> tuple[int, int, int]:
        return 0, 0, len(self._outlet.queue) + self._outlet.under_way

    def clear(self) -> None:
        self._outlet.clear()

    def is_busy(self) -> bool:
        return False  # what can't be handed over now waits for its targets


class FanOutBlock(TargetFace[T], LinkFace[T]):
    """Hands every item to every target; the slowest governs.

    An item leaves when every link that was open at its arrival has taken it, was closed, or refused
    it by predicate. Without a link items are held. It gives to links only: nothing can be received.

    Args:
        clone: makes each taker's own copy; None hands the same object to all.
        bounded_capacity: items it holds at most; `math.inf` for no bound.
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
        super().__init__(FanOutNode(name or "FanOutBlock", bounded_capacity, clone))
